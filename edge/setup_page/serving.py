"""Runs the page: on the sockets systemd hands over, or on a port of its own in the house.

Started by the first request, gone when nobody has asked for a while: it holds nothing, so nothing
is lost. Requests that stay open (live values) count as being asked.
"""

import asyncio
import os
import socket
import time
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from edge.errors import ConfigFault
from edge.setup_page.app import build

FIRST_SYSTEMD_SOCKET = 3  # sd_listen_fds(3)
IDLE_AFTER_S = 300.0
_STOP_WITHIN_S = 2  # an open stream would keep the process for ever
_AT_ONCE_MAX = 48  # a household has a few phones; each holds at most six connections


def run(agent: Path, port: int | None, host: str, idle_s: float | None) -> None:
    """Serve until stopped, or until idle where systemd would start it again."""
    listening = _listen(port, host)
    if idle_s is None and "LISTEN_FDS" in os.environ:
        idle_s = IDLE_AFTER_S
    asyncio.run(serve(agent, listening, idle_s))


async def serve(
    agent: Path,
    listening: list[socket.socket],
    idle_after_s: float | None,
    leave: asyncio.Event | None = None,
) -> None:
    """Answer on `listening`; return when told to `leave`, or nobody asked for `idle_after_s`."""
    pulse = Pulse(build(agent))
    server = uvicorn.Server(
        uvicorn.Config(
            pulse,
            access_log=False,  # addresses and paths of visitors are nobody's business
            server_header=False,
            date_header=True,
            lifespan="off",
            ws="none",
            log_level="warning",
            timeout_graceful_shutdown=_STOP_WITHIN_S,
            limit_concurrency=_AT_ONCE_MAX,
        )
    )
    async with asyncio.TaskGroup() as group:
        if idle_after_s is not None:
            group.create_task(_leave_when_idle(server, pulse, idle_after_s))
        if leave is not None:
            group.create_task(_leave_when_told(server, leave))
        await server.serve(sockets=listening)
        pulse.leave.set()


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


def _listen(port: int | None, host: str) -> list[socket.socket]:
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        count = int(os.environ.get("LISTEN_FDS", "0"))
        return [socket.socket(fileno=FIRST_SYSTEMD_SOCKET + each) for each in range(count)]
    if port is None:
        raise ConfigFault("no socket from systemd; give --port")
    listening = socket.create_server((host, port), reuse_port=False)
    return [listening]
