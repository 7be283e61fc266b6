"""The only way to Home Assistant: one WebSocket connection, its failures translated.

Commands are numbered and answered in any order; several messages may come as one list. Nothing
here knows meters. Home Assistant's developer documentation, "WebSocket API", describes the words.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import aiohttp

from edge.certificates import trust_for
from edge.errors import (
    ConfigFault,
    Malformed,
    Refused,
    Unreachable,
    first_error,
)

PORT = 8123
ANSWER_WITHIN_S = 20.0
CONNECT_WITHIN_S = 15.0
HEARTBEAT_S = 30.0  # without it a Home Assistant that lost its power would never be missed
MESSAGE_BYTES_MAX = 32 * 1024 * 1024  # get_states of a very large home is 10 MB

type Message = dict[str, Any]


def address(given: str) -> str:
    """ "192.168.1.5", "homeassistant.local:8123" or a whole URL → http://host:port."""
    text = given.strip()
    whole = urlsplit(text if "://" in text else f"http://{text}")
    try:
        port = whole.port
    except ValueError:
        port = -1
    if whole.scheme not in ("http", "https") or not whole.hostname or port == -1:
        raise ConfigFault(
            f"homeassistant: {given!r} is no address; one looks like http://homeassistant.local"
        )
    host = f"[{whole.hostname}]" if ":" in whole.hostname else whole.hostname
    usual = 443 if whole.scheme == "https" and "://" in text else PORT
    return f"{whole.scheme}://{host}:{port or usual}"


class Told(NamedTuple):
    """A state, and how long ago Home Assistant last heard it, both times on its own clock; None
    where it does not say (before 2024.4)."""

    state: str
    age: timedelta | None


class Connection:
    """An authenticated connection, made by opened()."""

    def __init__(self, http: aiohttp.ClientSession, base_url: str, token: str) -> None:
        self._http = http
        self._base_url = base_url
        self._token = token
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._events: dict[int, Callable[[Message], None]] = {}
        self.version = ""

    @classmethod
    @asynccontextmanager
    async def opened(cls, base_url: str, token: str) -> AsyncIterator[Self]:
        """Connect, log in and listen; whatever ends the connection ends the body with an EdgeError.

        Raises Unreachable, Refused or Malformed.
        """
        async with aiohttp.ClientSession() as http:
            connection = cls(http, base_url, token)
            try:
                await connection._log_in()
                async with asyncio.TaskGroup() as tasks:
                    listener = tasks.create_task(connection._listen())
                    yield connection
                    listener.cancel()
            except BaseExceptionGroup as several:
                raise first_error(several) from None
            finally:
                await connection._close()

    async def _log_in(self) -> None:
        url = f"{self._base_url}/api/websocket"
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                self._socket = await self._http.ws_connect(
                    url,
                    heartbeat=HEARTBEAT_S,
                    max_msg_size=MESSAGE_BYTES_MAX,
                    ssl=trust_for(url),
                )
                await self._socket.receive_json()
                await self._socket.send_json({"type": "auth", "access_token": self._token})
                said = await self._socket.receive_json()
        except TimeoutError as problem:
            raise Unreachable(f"Home Assistant at {self._base_url} does not answer") from problem
        except aiohttp.ClientConnectorCertificateError as problem:
            raise Refused(
                f"the certificate of {self._base_url} is not trusted; use its http address in the "
                "house"
            ) from problem
        except aiohttp.WSServerHandshakeError as problem:
            if problem.status >= 500:
                raise Unreachable(
                    f"Home Assistant is starting (HTTP {problem.status})"
                ) from problem
            raise Refused(
                f"what answers at {self._base_url} is not Home Assistant (HTTP {problem.status})"
            ) from problem
        except (aiohttp.ClientError, OSError) as problem:
            raise Unreachable(
                f"Home Assistant cannot be reached at {self._base_url} ({type(problem).__name__})"
            ) from problem
        except (ValueError, TypeError) as problem:
            raise Malformed(f"what answers at {self._base_url} is not Home Assistant") from problem
        kind = said.get("type") if isinstance(said, dict) else None
        if kind == "auth_invalid":
            raise Refused(
                "Home Assistant refuses the token: make a new long-lived access token for the box"
            )
        if kind != "auth_ok":
            raise Malformed(f"what answers at {self._base_url} is not Home Assistant", str(said))
        self.version = str(said.get("ha_version", ""))

    async def _listen(self) -> None:
        """Take in messages until the connection ends; always raises."""
        assert self._socket is not None  # noqa: S101  # opened() is the only maker
        try:
            async for frame in self._socket:
                if frame.type is not aiohttp.WSMsgType.TEXT:
                    continue
                try:
                    message = json.loads(frame.data)
                    for part in message if isinstance(message, list) else [message]:
                        self._take(part)
                except (ValueError, TypeError, AttributeError, LookupError) as problem:
                    raise Malformed(
                        "Home Assistant sent a message that cannot be read", str(frame.data)
                    ) from problem
        except (aiohttp.ClientError, OSError) as problem:
            raise Unreachable("the connection to Home Assistant was lost") from problem
        raise Unreachable("Home Assistant closed the connection")

    async def ask(self, kind: str, **fields: Any) -> Any:
        """One command's result. Raises Unreachable, Refused (no right to it) or Malformed."""
        return await self._send(next(self._numbers), kind, fields)

    async def subscribe(self, take: Callable[[Message], None], kind: str, **fields: Any) -> int:
        """Hand every event of this subscription to `take`; returns its number."""
        number = next(self._numbers)
        self._events[number] = take
        await self._send(number, kind, fields)
        return number

    async def unsubscribe(self, number: int) -> None:
        """No more events of this subscription."""
        self._events.pop(number, None)
        await self.ask("unsubscribe_events", subscription=number)

    async def state(self, entity: str) -> "Told | None":
        """One entity's state over REST, the only place that tells when it was last reported."""
        url = f"{self._base_url}/api/states/{entity}"
        headers = {"Authorization": f"Bearer {self._token}"}
        try:
            async with (
                asyncio.timeout(ANSWER_WITHIN_S),
                self._http.get(url, headers=headers, ssl=trust_for(url)) as answer,
            ):
                if answer.status == 404:
                    return None
                if answer.status in (401, 403):
                    raise Refused("Home Assistant refuses the token: make a new one for the box")
                if answer.status >= 400:
                    raise Unreachable(f"Home Assistant is not available (HTTP {answer.status})")
                told = await answer.json()
                return Told(str(told["state"]), _age(told, answer.headers.get("Date", "")))
        except TimeoutError as problem:
            raise Unreachable("Home Assistant does not answer in time") from problem
        except (aiohttp.ContentTypeError, ValueError, TypeError, LookupError) as problem:
            raise Malformed("Home Assistant told a state that cannot be read") from problem
        except (aiohttp.ClientError, OSError) as problem:
            raise Unreachable("the connection to Home Assistant was lost") from problem

    def _take(self, message: Message) -> None:
        number = message["id"]
        if message["type"] == "event" and number in self._events:
            self._events[number](message["event"])
            return
        waiting = self._waiting.get(number)
        if message["type"] != "result" or waiting is None or waiting.done():
            return
        if message["success"]:
            waiting.set_result(message.get("result"))
            return
        fault = message.get("error") or {}
        said = f"Home Assistant says: {fault.get('message', 'no')}"
        if fault.get("code") == "unauthorized":
            waiting.set_exception(Refused(f"{said}; the box's user has no right to this"))
        elif fault.get("code") in ("not_found", "unknown_command"):
            waiting.set_exception(NotFound(said))
        else:
            waiting.set_exception(Malformed(said, str(fault)))

    async def _send(self, number: int, kind: str, fields: Message) -> Any:
        if self._socket is None or self._socket.closed:
            raise Unreachable("the connection to Home Assistant was lost")
        answered = asyncio.get_running_loop().create_future()
        self._waiting[number] = answered
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await self._socket.send_json({"id": number, "type": kind, **fields})
                return await answered
        except TimeoutError as problem:
            raise Unreachable(f"Home Assistant does not answer {kind} in time") from problem
        except (aiohttp.ClientError, OSError) as problem:
            raise Unreachable("the connection to Home Assistant was lost") from problem
        finally:
            del self._waiting[number]

    async def _close(self) -> None:
        for answered in self._waiting.values():
            if not answered.done():
                answered.set_exception(Unreachable("the connection to Home Assistant was lost"))
        if self._socket is not None:
            await self._socket.close()


class NotFound(Malformed):
    """Home Assistant does not know what was asked for: no dashboard set up, no such service."""


def _age(told: Message, date: str) -> timedelta | None:
    if "last_reported" not in told:
        return None
    return parsedate_to_datetime(date) - datetime.fromisoformat(told["last_reported"])
