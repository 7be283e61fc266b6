"""The page's only connection: HTTP over the agent's Unix socket.

Small on purpose (h11 is there with uvicorn), so that the page stays light. It passes on an opaque
session and the visitor's address, and keeps neither.
"""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import h11
from pydantic import BaseModel, ValidationError

from edge.contract import Problem
from edge.errors import EdgeError, Malformed, Unreachable

ANSWER_WITHIN_S = 15.0
UPLOAD_WITHIN_S = 60.0  # a card takes its time over the documents of a large house
STREAM_WITHIN_S = 3600.0  # an update of some hundred megabytes through a weak Wi-Fi
PASSPHRASE_HEADER = "x-edge-passphrase"  # noqa: S105 # its name
ANSWER_BYTES_MAX = 12 * 1024 * 1024  # a backup with copies of a stick's memory
_CHUNK_BYTES = 64 * 1024


def part(text: str) -> str:
    """`text` as one part of a path: whatever a visitor wrote there, it leads nowhere else."""
    return quote(text, safe="")


class SaysNo(EdgeError):
    """The agent refused: `code` is for the catalogue, `text` the agent's own words."""

    def __init__(self, status: int, code: str, text: str = "", retry_after_s: int = 0) -> None:
        super().__init__(text or code)
        self.status = status
        self.code = code
        self.text = text
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf the page asks."""

    session: str = ""
    address: str = ""
    browser: str = ""

    def headers(self) -> list[tuple[str, str]]:
        values = {
            "x-edge-session": self.session,
            "x-edge-visitor": self.address,
            "x-edge-browser": self.browser,
        }
        return [(name, _header_safe(value)) for name, value in values.items() if value]


class AgentLink:
    """Asks the agent. Every call raises Unreachable, SaysNo or Malformed."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def get[M: BaseModel](
        self, path: str, kind: type[M], caller: Caller, within_s: float = ANSWER_WITHIN_S
    ) -> M:
        return _typed(kind, await self._ask("GET", path, None, caller, within_s))

    async def send[M: BaseModel](
        self,
        method: str,
        path: str,
        body: BaseModel | None,
        kind: type[M],
        caller: Caller,
        within_s: float = ANSWER_WITHIN_S,
    ) -> M:
        return _typed(kind, await self._ask(method, path, _json(body), caller, within_s))

    async def do(
        self,
        method: str,
        path: str,
        body: BaseModel | None,
        caller: Caller,
        within_s: float = ANSWER_WITHIN_S,
    ) -> None:
        """Ask for something to be done; the answer is that it was."""
        await self._ask(method, path, _json(body), caller, within_s)

    async def fetch(self, method: str, path: str, body: BaseModel | None, caller: Caller) -> bytes:
        """An answer that is a file."""
        return await self._ask(method, path, _json(body), caller, UPLOAD_WITHIN_S)

    async def upload[M: BaseModel](
        self, path: str, content: bytes, kind: type[M], caller: Caller, passphrase: str
    ) -> M:
        """Bytes that are no message, such as a backup file; the caller has bounded them."""
        async with self._conversation(UPLOAD_WITHIN_S) as talk:
            await talk.say("POST", path, content, caller, passphrase)
            await talk.accepted()
            return _typed(kind, await talk.whole())

    async def stream(
        self, path: str, pieces: AsyncIterator[bytes], size: int, caller: Caller
    ) -> None:
        """A large body, passed on as it arrives; ends early where the agent refuses."""
        async with self._conversation(STREAM_WITHIN_S) as talk:
            await talk.announce("POST", path, size, caller)
            answered = asyncio.create_task(talk.accepted())
            try:
                async for piece in pieces:
                    if answered.done():
                        break
                    await talk.pour(piece)
                else:
                    await talk.end()
                await answered
            except ConnectionError:
                if not answered.done():
                    raise
                await answered
            finally:
                answered.cancel()

    async def _ask(
        self, method: str, path: str, body: bytes | None, caller: Caller, within_s: float
    ) -> bytes:
        async with self._conversation(within_s) as talk:
            await talk.say(method, path, body, caller)
            await talk.accepted()
            return await talk.whole()

    @asynccontextmanager
    async def _conversation(self, within_s: float) -> AsyncIterator["_Conversation"]:
        try:
            async with asyncio.timeout(within_s):
                reader, writer = await asyncio.open_unix_connection(self._socket)
                try:
                    yield _Conversation(reader, writer)
                finally:
                    writer.close()
        except TimeoutError as problem:
            raise Unreachable("The box is busy and did not answer in time.") from problem
        except OSError as problem:
            raise Unreachable("The box is starting.") from problem
        except h11.RemoteProtocolError as problem:
            raise Malformed("The box's own answer could not be read.") from problem


class _Conversation:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(our_role=h11.CLIENT)

    async def say(
        self, method: str, path: str, body: bytes | None, caller: Caller, passphrase: str = ""
    ) -> None:
        headers = [("host", "agent"), ("connection", "close"), *caller.headers()]
        if passphrase:
            headers.append((PASSPHRASE_HEADER, base64.b64encode(passphrase.encode()).decode()))
        if body is not None:
            headers += [("content-type", "application/json"), ("content-length", str(len(body)))]
        self._send(h11.Request(method=method, target=path, headers=headers))
        if body:
            self._send(h11.Data(data=body))
        self._send(h11.EndOfMessage())
        await self._writer.drain()

    async def announce(self, method: str, path: str, size: int, caller: Caller) -> None:
        """The beginning of a request whose body follows with pour() and end()."""
        headers = [("host", "agent"), ("connection", "close"), *caller.headers()]
        headers += [
            ("content-type", "application/octet-stream"),
            ("content-length", str(size)),
        ]
        self._send(h11.Request(method=method, target=path, headers=headers))
        await self._writer.drain()

    async def pour(self, piece: bytes) -> None:
        if piece:
            self._send(h11.Data(data=piece))
            await self._writer.drain()

    async def end(self) -> None:
        self._send(h11.EndOfMessage())
        await self._writer.drain()

    async def accepted(self) -> None:
        """Wait for the first line. Raises SaysNo."""
        first = await self._next()
        if not isinstance(first, h11.Response):
            raise Malformed("The box's own answer could not be read.")
        if first.status_code >= 400:
            raise _refusal(first, await self.whole())

    async def whole(self) -> bytes:
        found = bytearray()
        while isinstance(event := await self._next(), h11.Data):
            found += event.data
            if len(found) > ANSWER_BYTES_MAX:
                raise Malformed("The box's own answer is too long.")
        return bytes(found)

    async def _next(self) -> h11.Event:
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Event):
                return event
            if event is h11.PAUSED:
                raise Malformed("The box's own answer could not be read.")
            self._http.receive_data(await self._reader.read(_CHUNK_BYTES))

    def _send(self, event: h11.Event) -> None:
        self._writer.write(self._http.send(event) or b"")


def _refusal(first: h11.Response, body: bytes) -> SaysNo:
    headers = dict(first.headers)
    wait = headers.get(b"retry-after", b"0")
    retry_after_s = int(wait) if wait.isdigit() else 0
    try:
        said = Problem.model_validate_json(body)
    except ValidationError:
        return SaysNo(first.status_code, "fault", "", retry_after_s)
    return SaysNo(first.status_code, said.code, said.text, retry_after_s)


def _typed[M: BaseModel](kind: type[M], body: bytes) -> M:
    try:
        return kind.model_validate_json(body)
    except ValidationError as problem:
        raise Malformed(f"The box's own answer could not be read ({kind.__name__}).") from problem


def _json(body: BaseModel | None) -> bytes | None:
    return None if body is None else body.model_dump_json().encode()


def _header_safe(value: str) -> str:
    return "".join(c for c in value if " " <= c <= "~")[:200]
