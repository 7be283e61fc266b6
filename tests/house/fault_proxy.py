"""A proxy in front of the house's FlexMeasures that fails as told, request by request.

    async with FaultProxy(server.url) as proxy:
        proxy.fail("/data", html(502), times=3)      # the next three requests to …/data
        proxy.fail("/data", LoseAnswer())            # then one that is stored but never answered
        proxy.requests                               # everything that was asked, in order

Faults wait in the order they were told; each request takes the first that fits it. Everything else
passes through. One request per connection.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

HEAD_BYTES_MAX = 64 * 1024
_LINGER_NOW = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # close() sends a reset


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    method: str
    path: str  # with its query
    headers: Mapping[str, str]  # names in small letters
    body: bytes

    def json(self) -> object:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """Answers by itself; the server never hears of the request."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BlackHole:
    """Takes the request and stays silent until the client gives up."""


@dataclass(frozen=True)
class Cut:
    """Resets the connection once the request is in; the server never hears of it."""


@dataclass(frozen=True)
class LoseAnswer:
    """The server does what it is asked, and its answer is lost: the connection is reset."""


@dataclass(frozen=True)
class HalfAnswer:
    """The server does what it is asked; half of its answer's body arrives."""


@dataclass(frozen=True)
class Delay:
    """Waits before it passes the request on."""

    seconds: float


type Fault = Answer | BlackHole | Cut | LoseAnswer | HalfAnswer | Delay


def html(status: int, text: str = "<html><h1>Something of a proxy</h1></html>") -> Answer:
    return Answer(status, text.encode(), {"Content-Type": "text/html"})


def says(status: int, content: object, **headers: str) -> Answer:
    """A JSON answer; retry_after="7" becomes the header Retry-After."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(
        status, json.dumps(content).encode(), {"Content-Type": "application/json", **named}
    )


@dataclass
class _Script:
    fault: Fault
    fits: Callable[[Seen], bool]
    left: int | None


class FaultProxy:
    """Listens on a free port of 127.0.0.1 and passes on to `upstream`."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._port = 0
        self._server: asyncio.Server | None = None
        self._scripts: list[_Script] = []
        self._serving: set[asyncio.Task[None]] = set()
        self.requests: list[Seen] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.down()

    def fail(
        self, path: str, fault: Fault, *, method: str | None = None, times: int | None = 1
    ) -> None:
        """Let the next `times` requests (None: all) whose path holds `path` meet this fault."""

        def fits(seen: Seen) -> bool:
            return path in seen.path and method in (None, seen.method)

        self._scripts.append(_Script(fault, fits, times))

    def heal(self) -> None:
        """Forget every fault; those under way go on."""
        self._scripts.clear()

    def asked(self, path: str, method: str | None = None) -> list[Seen]:
        """The requests so far whose path holds `path`."""
        return [s for s in self.requests if path in s.path and method in (None, s.method)]

    async def down(self) -> None:
        """From now on connections are refused, and open ones are reset."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for serving in list(self._serving):
            serving.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await server.wait_closed()

    async def up(self) -> None:
        """Listen; again on the same port after down()."""
        if self._server is None:
            self._server = await asyncio.start_server(
                self._serve, "127.0.0.1", self._port, limit=HEAD_BYTES_MAX
            )
            self._port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.current_task()
        assert serving is not None
        self._serving.add(serving)
        try:
            if seen := await _read_request(reader):
                self.requests.append(seen)
                await self._answer(seen, self._fault_for(seen), reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            _reset(writer)
        except asyncio.CancelledError:
            _reset(writer)  # the proxy goes down; asyncio.Server would log a task that is cancelled
        finally:
            self._serving.discard(serving)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _fault_for(self, seen: Seen) -> Fault | None:
        for script in self._scripts:
            if script.fits(seen):
                if script.left is not None:
                    script.left -= 1
                    if script.left == 0:
                        self._scripts.remove(script)
                return script.fault
        return None

    async def _answer(
        self,
        seen: Seen,
        fault: Fault | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        match fault:
            case Answer():
                writer.write(_as_bytes(fault))
                await writer.drain()
            case BlackHole():
                await reader.read()
            case Cut():
                _reset(writer)
            case LoseAnswer():
                await self._pass_on(seen)
                _reset(writer)
            case HalfAnswer():
                head, body = await self._pass_on(seen)
                writer.write(head + body[: len(body) // 2])
                await writer.drain()
            case _:
                if isinstance(fault, Delay):
                    await asyncio.sleep(fault.seconds)
                head, body = await self._pass_on(seen)
                writer.write(head + body)
                await writer.drain()

    async def _pass_on(self, seen: Seen) -> tuple[bytes, bytes]:
        """The server's answer: its head and its body."""
        reader, writer = await asyncio.open_connection(*self._upstream, limit=HEAD_BYTES_MAX)
        try:
            headers = {**seen.headers, "connection": "close"}
            lines = [f"{seen.method} {seen.path} HTTP/1.1"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + seen.body)
            await writer.drain()
            whole = await reader.read(-1)
        finally:
            writer.close()
        head, _, body = whole.partition(b"\r\n\r\n")
        return head + b"\r\n\r\n", body


async def _read_request(reader: asyncio.StreamReader) -> Seen | None:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(method, path, headers, body)


def _as_bytes(answer: Answer) -> bytes:
    headers = {
        **answer.headers,
        "Content-Length": str(len(answer.body)),
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {answer.status} Told"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + answer.body


def _reset(writer: asyncio.StreamWriter) -> None:
    """End with a reset instead of a polite goodbye."""
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOW)
    writer.transport.abort()
