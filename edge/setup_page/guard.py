"""What every request meets first: is it meant for us, from our own page, and not too large?

Pure ASGI, outermost. Host allow-list against DNS rebinding (421), Origin check against requests
forged by other sites (403), a bound on every body (413), and the headers of every answer.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# Not "no-referrer": browsers then send "Origin: null" with our own forms.
HEADERS: Final = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
# Files run nothing by themselves: the page that loads them sets the rules.
HEADERS_OF_FILES: Final = {
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
}
BODY_BYTES_MAX: Final = 64 * 1024
BODY_BYTES_MAX_AT: Final = {
    "/box/restore": 8 * 1024 * 1024,  # a backup with the stick's memory
    "/updates/bundle": 480 * 1024 * 1024,  # passed on as it arrives
}
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})

type Hosts = Callable[[str], Awaitable[bool]]


class TooLarge(Exception):
    """More came than its route takes."""


class Guard:
    """`is_ours(host)` says whether the box answers to that name or address."""

    def __init__(self, app: ASGIApp, is_ours: Hosts) -> None:
        self._app = app
        self._is_ours = is_ours

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        send = _with_headers(send, scope)
        limit = BODY_BYTES_MAX_AT.get(scope["path"], BODY_BYTES_MAX)
        if not await self._is_ours(host_of(headers.get("host", ""))):
            await PlainTextResponse("This is not the address of the box.\n", 421)(
                scope, receive, send
            )
        elif scope["method"] not in _READING and not _from_our_page(scope, headers):
            await PlainTextResponse("Refused: sent by another site.\n", 403)(scope, receive, send)
        elif _announced_bytes(headers) > limit:
            await PlainTextResponse("Too large.\n", 413)(scope, receive, send)
        else:
            await self._bounded(scope, receive, send, limit)

    async def _bounded(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        """Pass on, but count what arrives without an announced length."""
        received = 0
        answering = False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal answering
            answering = True
            await send(message)

        try:
            await self._app(scope, counted, noted)
        except TooLarge:
            if not answering:
                await PlainTextResponse("Too large.\n", 413)(scope, receive, send)


def host_of(header: str) -> str:
    """The name or address in a Host header, lower case, without port and brackets."""
    header = header.strip().lower()
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0].rstrip(".")


def _from_our_page(scope: Scope, headers: Mapping[str, str]) -> bool:
    """Browsers send Origin with every unsafe request; what sends neither header is no browser."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is None and site is None:
        return False
    if site is not None and site not in ("same-origin", "none"):
        return False
    return origin is None or origin == f"{scope['scheme']}://{headers.get('host', '')}"


def _announced_bytes(headers: Mapping[str, str]) -> int:
    length = headers.get("content-length", "0")
    return int(length) if length.isdecimal() else 0


def _with_headers(send: Send, scope: Scope) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            known = {name.lower() for name, _ in message.get("headers", [])}
            is_page = not scope["path"].startswith("/static/")
            added = dict(HEADERS) if is_page else dict(HEADERS_OF_FILES)
            if b"cache-control" not in known:
                added["cache-control"] = "no-store"
            if scope["scheme"] == "https":
                added["cross-origin-opener-policy"] = "same-origin"
            extra = [(name.encode(), value.encode()) for name, value in added.items()]
            message["headers"] = [*message.get("headers", []), *extra]
        await send(message)

    return with_headers
