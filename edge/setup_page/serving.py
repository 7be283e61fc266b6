"""Runs the page: on the sockets systemd hands over, or on a port of its own in the house.

Started by the first request, gone when nobody has asked for a while: it holds nothing, so nothing
is lost. Requests that stay open (live values) count as being asked.
"""

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from edge.contract.page import Certificate
from edge.errors import ConfigFault, EdgeError
from edge.setup_page.agent_link import AgentLink, Caller
from edge.setup_page.app import build

FIRST_SYSTEMD_SOCKET = 3  # sd_listen_fds(3)
IDLE_AFTER_S = 300.0
_STOP_WITHIN_S = 2  # an open stream would keep the process for ever
_ASK_AGAIN_S = 1.0
_AT_ONCE_MAX = 48  # a household has a few phones; each holds at most six connections


def run(
    agent: Path, port: int | None, tls_port: int | None, host: str, idle_s: float | None
) -> None:
    """Serve until stopped, or until idle where systemd would start it again."""
    plain, secure = _listen(port, tls_port, host)
    if idle_s is None and "LISTEN_FDS" in os.environ:
        idle_s = IDLE_AFTER_S
    asyncio.run(serve(agent, plain, idle_s, secure=secure))


async def serve(
    agent: Path,
    listening: list[socket.socket],
    idle_after_s: float | None,
    leave: asyncio.Event | None = None,
    *,
    secure: Sequence[socket.socket] = (),
) -> None:
    """Answer on `listening`, and by https on `secure`; return when told to `leave`, or when nobody
    asked for `idle_after_s`."""
    app, screens = build(agent, _port(secure))
    pulse = Pulse(app)
    server = uvicorn.Server(_config(pulse))
    async with asyncio.TaskGroup() as group:
        reading_in = group.create_task(screens.read_in())
        if idle_after_s is not None:
            group.create_task(_leave_when_idle(server, pulse, idle_after_s))
        if leave is not None:
            group.create_task(_leave_when_told(server, leave))
        if secure:
            group.create_task(_serve_secure(agent, pulse, list(secure)))
        await server.serve(sockets=listening)
        pulse.leave.set()
        reading_in.cancel()


def _config(app: ASGIApp, certificate: ssl.SSLContext | None = None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        access_log=False,  # addresses and paths of visitors are nobody's business
        server_header=False,
        proxy_headers=False,  # nobody stands before us: who asks is whoever is connected
        date_header=True,
        lifespan="off",
        http="h11",  # known: nothing else is looked for
        loop="asyncio",
        ws="none",
        log_level="warning",
        timeout_graceful_shutdown=_STOP_WITHIN_S,
        limit_concurrency=_AT_ONCE_MAX,
        ssl_context_factory=None if certificate is None else lambda *_: certificate,
    )


class _Beside(uvicorn.Server):
    """A second server of one process: the first one listens for signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve_secure(agent: Path, pulse: "Pulse", secure: list[socket.socket]) -> None:
    """The same page by https, as soon as the agent has handed out its certificate."""
    certificate = await _certificate(AgentLink(agent), pulse.leave)
    if certificate is None:
        return
    server = _Beside(_config(pulse, certificate))
    async with asyncio.TaskGroup() as group:
        group.create_task(_leave_when_told(server, pulse.leave))
        await server.serve(sockets=secure)


async def _certificate(link: AgentLink, leave: asyncio.Event) -> ssl.SSLContext | None:
    while not leave.is_set():
        try:
            found = await link.get("/certificate", Certificate, Caller())
        except EdgeError:
            await asyncio.sleep(_ASK_AGAIN_S)
            continue
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(_in_memory("chain", found.chain), _in_memory("key", found.key))
        return context
    return None


def _port(listening: Sequence[socket.socket]) -> int | None:
    return int(listening[0].getsockname()[1]) if listening else None


def _in_memory(name: str, text: str) -> str:
    """A path for `text` in this process only and on no disk: the library wants files."""
    descriptor = os.memfd_create(name)
    os.write(descriptor, text.encode())
    return f"/proc/self/fd/{descriptor}"


class Pulse:
    """Knows when somebody asked last."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open = 0
        self._last_s = time.monotonic()
        self.leave = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._open += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open -= 1
            self._last_s = time.monotonic()

    def idle_s(self) -> float:
        return 0.0 if self._open else time.monotonic() - self._last_s


async def _leave_when_told(server: uvicorn.Server, leave: asyncio.Event) -> None:
    await leave.wait()
    server.should_exit = True


async def _leave_when_idle(server: uvicorn.Server, pulse: Pulse, after_s: float) -> None:
    while (left_s := after_s - pulse.idle_s()) > 0:
        try:
            await asyncio.wait_for(pulse.leave.wait(), left_s)
        except TimeoutError:
            continue
        return
    server.should_exit = True


def _listen(
    port: int | None, tls_port: int | None, host: str
) -> tuple[list[socket.socket], list[socket.socket]]:
    """The sockets for http and those for https; systemd names the latter "https"."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        count = int(os.environ.get("LISTEN_FDS", "0"))
        names = os.environ.get("LISTEN_FDNAMES", "").split(":")
        names += [""] * (count - len(names))
        handed = [socket.socket(fileno=FIRST_SYSTEMD_SOCKET + each) for each in range(count)]
        plain = [each for each, name in zip(handed, names, strict=False) if name != "https"]
        secure = [each for each, name in zip(handed, names, strict=False) if name == "https"]
        return plain, secure
    if port is None:
        raise ConfigFault("no socket from systemd; give --port")
    plain = [socket.create_server((host, port), reuse_port=False)]
    if tls_port is None:
        return plain, []
    return plain, [socket.create_server((host, tls_port), reuse_port=False)]
