"""What the doors speak: HTTP/1.1 on a Unix socket, a question and an answer for each connection.

h11 reads and writes it; it is there with uvicorn and holds 0.3 MB, where aiohttp.web holds 1.9.
Only this box's own page and command line ever speak to it, so there is no keeping alive, no
compressing and no range. What a handler raises is for door.py to put into words.
"""

import asyncio
import logging
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qsl, unquote

import h11

from edge.agent_api.refusals import NotAllowed

BODY_BYTES_MAX = 64 * 1024  # the longest message is a mapping of some hundred channels
CHUNK_BYTES = 64 * 1024
STOP_WITHIN_S = 2.0  # what is being answered does not hold up a restart
_LINGER_S = 5.0  # who still sends when refused must not lose the answer to a closed socket

log = logging.getLogger(__name__)

type Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; 204 has no body."""

    body: bytes = b""
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Request:
    """A question. `path` is as it was sent, without the query; `values` are the parts of it that
    the route names, unquoted; header names are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    _body: AsyncIterator[bytes]
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def content_length(self) -> int | None:
        """The announced length of the body in bytes."""
        length = self.headers.get("content-length", "")
        return int(length) if length.isdecimal() else None

    def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes, once. Raises ConnectionError where it is cut off."""
        return self._body

    async def read(self, bytes_max: int = BODY_BYTES_MAX) -> bytes:
        """The whole body. Raises NotAllowed beyond `bytes_max`, ConnectionError if cut off."""
        found = bytearray()
        async for piece in self._body:
            found += piece
            if len(found) > bytes_max:
                raise NotAllowed("too_large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return bytes(found)


@dataclass(frozen=True, slots=True)
class Route:
    """`path` may name parts: {name} is one part of it, {name:.+} all that follows."""

    method: str
    path: str
    handler: Handler

    def values_in(self, path: str) -> dict[str, str] | None:
        """The named parts of `path`, unquoted; None where it is another path."""
        found = _pattern(self.path).fullmatch(path)
        return found and {name: unquote(value) for name, value in found.groupdict().items()}


def get(path: str, handler: Handler) -> Route:
    return Route("GET", path, handler)


def post(path: str, handler: Handler) -> Route:
    return Route("POST", path, handler)


def put(path: str, handler: Handler) -> Route:
    return Route("PUT", path, handler)


def delete(path: str, handler: Handler) -> Route:
    return Route("DELETE", path, handler)


def _pattern(path: str) -> re.Pattern[str]:
    """A route's path as an expression; re keeps those it has compiled."""
    parts = re.split(r"\{(\w+)(?::([^}]+))?\}", path)
    pattern = re.escape(parts[0])
    for name, rule, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        pattern += f"(?P<{name}>{rule or '[^/]+'})" + re.escape(text)
    return re.compile(pattern)


def handler_for(routes: Sequence[Route], request: Request) -> Handler:
    """Whoever answers `request`, whose `values` are filled in. Raises NotAllowed."""
    known = [
        (route, values) for route in routes if (values := route.values_in(request.path)) is not None
    ]
    for route, values in known:
        if route.method == request.method:
            request.values = values
            return route.handler
    status = HTTPStatus.METHOD_NOT_ALLOWED if known else HTTPStatus.NOT_FOUND
    raise NotAllowed("not_found", status)


class Door:
    """A socket that is served. Whatever `answer` raises is a bug: a 500 without a word to whoever
    asked, and a traceback in the log."""

    def __init__(self, answer: Handler, stop_within_s: float = STOP_WITHIN_S) -> None:
        self._answer = answer
        self._stop_within_s = stop_within_s
        self._visits: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self, path: Path, mode: int) -> None:
        """Serve on the Unix socket `path`; a stale one is replaced."""
        self._server = await asyncio.start_unix_server(
            self._welcome, sock=_bound(path, mode), limit=CHUNK_BYTES
        )

    async def close(self) -> None:
        """Let nobody in any more; who is inside has a moment to be answered."""
        if self._server is not None:
            self._server.close()
        if self._visits:
            _, late = await asyncio.wait(self._visits, timeout=self._stop_within_s)
            for visit in late:
                visit.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visit = asyncio.create_task(self._receive(reader, writer))
        self._visits.add(visit)
        visit.add_done_callback(self._see_off)

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError):  # gone in the middle of the question
                await _Visit(reader, writer).through(self._answer)
        finally:
            writer.close()

    def _see_off(self, visit: asyncio.Task[None]) -> None:
        self._visits.discard(visit)
        if not visit.cancelled() and (bug := visit.exception()) is not None:
            log.error("a bug in a room of the door", exc_info=bug)


class _Visit:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(our_role=h11.SERVER)

    async def through(self, answer: Handler) -> None:
        try:
            request = await self._request()
        except h11.RemoteProtocolError:
            await self._say(Response(status=HTTPStatus.BAD_REQUEST))
            return
        if request is None:
            return
        said = Response(status=HTTPStatus.INTERNAL_SERVER_ERROR)
        try:
            said = await answer(request)
        finally:
            with suppress(ConnectionError):  # gone before the answer; a bug is told all the same
                await self._say(said)
        await self._linger()

    async def _request(self) -> Request | None:
        first = await self._next()
        if not isinstance(first, h11.Request):
            return None  # connected and left
        path, _, query = first.target.decode("ascii").partition("?")
        return Request(
            first.method.decode("ascii"),
            path,
            dict(parse_qsl(query)),
            {name.decode("ascii"): value.decode("latin-1") for name, value in first.headers},
            self._pieces(),
        )

    async def _pieces(self) -> AsyncIterator[bytes]:
        try:
            while isinstance(event := await self._next(), h11.Data):
                yield bytes(event.data)
        except h11.RemoteProtocolError as problem:
            raise ConnectionAbortedError from problem

    async def _next(self) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(CHUNK_BYTES))
        return event

    async def _say(self, said: Response) -> None:
        headers = {"connection": "close", "content-length": str(len(said.body)), **said.headers}
        if said.body:
            headers["content-type"] = said.content_type
        if said.status == HTTPStatus.NO_CONTENT:
            del headers["content-length"]
        first = h11.Response(status_code=said.status, headers=list(headers.items()))
        for event in (first, h11.Data(data=said.body), h11.EndOfMessage()):
            self._writer.write(self._http.send(event) or b"")
        await self._writer.drain()

    async def _linger(self) -> None:
        """Take what is still on its way until the other side has heard the answer and hangs up."""
        if self._writer.can_write_eof():
            self._writer.write_eof()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while await self._reader.read(CHUNK_BYTES):
                    pass


def _bound(path: Path, mode: int) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~mode)  # never open wider, not even for a moment
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    return listener
