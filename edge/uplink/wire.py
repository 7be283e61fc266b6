"""HTTP with one server as aiohttp speaks it: time-outs, size limits, certificates, no redirects.

Knows no URL and no token of its own. Imported by connection.py alone, once something is asked.
"""

import json
import os
from collections.abc import Mapping
from datetime import timedelta

import aiohttp

from edge import __version__
from edge.certificates import trust_for
from edge.uplink.address import Address
from edge.uplink.connection import Away, BadCertificate, NoSuchHost
from edge.uplink.doorman import Doorman
from edge.uplink.remote import NotFlexMeasures
from edge.uplink.verdict import Answer

ANSWER_BYTES_MAX = 8 * 1024 * 1024  # an account of 1000 sensors lists in a tenth of it
_CHUNK_BYTES = 64 * 1024


class Wire:
    """A session with one server. Made inside a running loop; close() it."""

    def __init__(
        self, address: Address, connect_within: timedelta, answer_within: timedelta
    ) -> None:
        self._address = address
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=Doorman(address.reach),
                limit=4,
                use_dns_cache=False,
                ssl=trust_for(address.base),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=answer_within.total_seconds(), sock_connect=connect_within.total_seconds()
            ),
            headers={"Accept": "application/json", "User-Agent": f"edge/{__version__}"},
        )

    async def close(self) -> None:
        await self._session.close()

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None,
        body: object,
        token: str | None,
    ) -> Answer:
        """As Connection.exchange()."""
        url = self._address.base + path
        host = self._address.host
        headers = {"Authorization": token} if token else None
        try:
            async with self._session.request(
                method, url, params=query, json=body, headers=headers, allow_redirects=False
            ) as response:
                if 300 <= response.status < 400:
                    raise NotFlexMeasures(_redirected(host, response.headers.get("Location", "")))
                return _answer(response, await _read(response))
        except aiohttp.ClientConnectorDNSError as problem:
            raise NoSuchHost(f"no such host: {host}") from problem
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError) as problem:
            raise BadCertificate(
                f"{host} has no valid certificate: {_certificate_trouble(problem)}"
            ) from problem
        except aiohttp.ClientConnectorError as problem:
            number = problem.os_error.errno
            said = os.strerror(number).lower() if number else "no connection"
            raise Away(f"{host} does not answer: {said}") from problem
        except aiohttp.ConnectionTimeoutError as problem:
            raise Away(f"{host} does not answer") from problem
        except TimeoutError as problem:
            raise Away(f"{host} took too long to answer", may_have_arrived=True) from problem
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as problem:
            raise Away(f"{host} cut the connection", may_have_arrived=True) from problem
        except (aiohttp.InvalidURL, aiohttp.ClientResponseError, ValueError) as problem:
            raise NotFlexMeasures(f"{host} does not speak HTTP as FlexMeasures does") from problem


async def _read(response: aiohttp.ClientResponse) -> bytes:
    whole = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        whole += chunk
        if len(whole) > ANSWER_BYTES_MAX:
            response.close()
            raise NotFlexMeasures("the server's answer has no end", whole[:200].decode("latin-1"))
    return bytes(whole)


def _answer(response: aiohttp.ClientResponse, raw: bytes) -> Answer:
    content: object = None
    text = raw.decode("utf-8", "replace")
    if "json" in response.headers.get("Content-Type", ""):
        try:
            content = json.loads(text)
        except ValueError:
            content = None
    return Answer(response.status, content, text[:200], response.headers)


def _redirected(host: str, location: str) -> str:
    where = f" to {location[:100]}" if location else ""
    return f"{host} sends us elsewhere{where}; enter the address it really has"


def _certificate_trouble(problem: aiohttp.ClientError) -> str:
    inner = problem.__cause__ or problem
    said = getattr(inner, "verify_message", "") or str(inner)
    return str(said).strip().lower()[:120] or "unknown reason"
