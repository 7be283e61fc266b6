"""The box's own certificate, for those who want their password to cross the house unseen.

Nobody vouches for it: browsers warn once, and the page shows its fingerprint to compare. Made once
and kept; the key is a secret like any other and goes to the page's process only, which holds it in
memory while it runs.
"""

import asyncio
import hashlib
import ipaddress
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from edge.agent_api import web
from edge.agent_api.door import answer
from edge.clock import Clock
from edge.config import CLOCK_FLOOR
from edge.contract.page import Certificate
from edge.credentials import Credentials
from edge.documents import Documents

LASTS = timedelta(days=397)  # browsers refuse longer ones from anybody
RENEWED_BEFORE = timedelta(days=30)
_KEY = "tls.key"
_DOCUMENT = "certificate"
_NAMES_MAX = 30


class CertificateRoom:
    """The one route for it; `hosts` are the names and addresses it is good for."""

    def __init__(
        self,
        documents: Documents,
        credentials: Credentials,
        clock: Clock,
        hosts: Callable[[], Sequence[str]],
    ) -> None:
        self._documents = documents
        self._credentials = credentials
        self._clock = clock
        self._hosts = hosts
        self._one_at_a_time = asyncio.Lock()

    def routes(self) -> list[web.Route]:
        return [web.get("/certificate", self._show)]

    async def current(self) -> Certificate:
        """The certificate that is valid now; made where there is none, or too old a one."""
        async with self._one_at_a_time:
            kept = await self._documents.get(_DOCUMENT)
            key = self._credentials.get(_KEY)
            if kept is None or key is None or self._is_old(kept):
                hosts = list(self._hosts())[:_NAMES_MAX]
                made = await asyncio.to_thread(_made, hosts, self._from())
                key, kept = made.key, {"chain": made.chain, "until": made.until.isoformat()}
                self._credentials.put(_KEY, key)
                await self._documents.put(_DOCUMENT, kept)
        return Certificate(chain=kept["chain"], key=key, fingerprint=_fingerprint(kept["chain"]))

    async def _show(self, _: web.Request) -> web.Response:
        return answer(await self.current())

    def _from(self) -> datetime:
        """Valid from the box's oldest possible day: its clock may not be set yet."""
        return self._clock.wall_now() if self._clock.is_trusted() else CLOCK_FLOOR

    def _is_old(self, kept: dict[str, Any]) -> bool:
        until = datetime.fromisoformat(kept["until"])
        return self._clock.is_trusted() and self._clock.wall_now() > until - RENEWED_BEFORE


class _Made(NamedTuple):
    """PEM, and until when it is good."""

    chain: str
    key: str
    until: datetime


def _made(hosts: Sequence[str], since: datetime) -> _Made:
    """A new key and a certificate for it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _common_name(hosts))])
    until = since + LASTS
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since - timedelta(days=1))
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName([_alternative(each) for each in hosts]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    chain = certificate.public_bytes(serialization.Encoding.PEM)
    return _Made(chain.decode(), secret.decode(), until)


def _common_name(hosts: Sequence[str]) -> str:
    return next((host for host in hosts if host.endswith(".local")), hosts[0])[:64]


def _alternative(host: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _fingerprint(chain: str) -> str:
    """SHA-256 of the certificate as browsers show it: pairs of hex digits with colons."""
    import ssl

    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(chain)).hexdigest().upper()
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))
