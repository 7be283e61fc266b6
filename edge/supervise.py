"""Keeps every part of the agent running, and tells systemd that the loop still moves.

One failing part pauses itself, never the others. This is the only place that catches Exception.
"""

import asyncio
import ctypes
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta

from edge.clock import MILLISECOND, Clock
from edge.errors import EdgeError, Malformed, NotStarted, Refused, StoreBroken, first_error

log = logging.getLogger(__name__)

FIRST_PAUSE = timedelta(seconds=1)
NOT_STARTED_PAUSE = timedelta(seconds=2)  # a driver that starts is noticed at once
PAUSE_MAX = timedelta(minutes=5)
NEEDS_A_PERSON = "needs a person: "
REFUSED_PAUSE = timedelta(minutes=5)  # a person must act; asking more often only fills logs
STEADY_AFTER = timedelta(minutes=1)  # a part that ran this long starts over with short pauses
LOG_AGAIN_AFTER = timedelta(minutes=30)
GIVE_BACK_EVERY = timedelta(minutes=1)

type Job = Callable[[], Awaitable[None]]
type Report = Callable[[str, str], None]
"""report(part, state): "running", "ended", "waiting: …", "needs a person: …", "broken, …"."""


async def keep_running(
    name: str,
    job: Job,
    clock: Clock,
    report: Report,
    wake: asyncio.Event | None = None,
    *,
    unreadable: Report = lambda _part, _sample: None,
) -> None:
    """Run job for ever. A failure pauses this part only, longer each time; `wake` ends a pause.
    `unreadable` gets the first words of what a part could not read."""
    pause = FIRST_PAUSE
    said = _SaidOnce(clock)
    while True:
        started_ms = clock.boottime_ms()
        report(name, "running")
        try:
            await job()
            state, wanted = "ended", pause
        except StoreBroken:
            raise
        except Refused as problem:
            state, wanted = f"{NEEDS_A_PERSON}{problem}", REFUSED_PAUSE
        except EdgeError as problem:
            state, wanted = f"waiting: {problem}", pause
            if isinstance(problem, NotStarted):
                wanted = min(pause, NOT_STARTED_PAUSE)
            if isinstance(problem, Malformed):
                unreadable(name, problem.sample)
        except Exception:  # a bug in one part must not silence the meters of another
            log.exception("%s has a bug", name)
            state, wanted = "broken, see the log", PAUSE_MAX
        report(name, state)
        said.say(name, state)
        if clock.boottime_ms() - started_ms > STEADY_AFTER / MILLISECOND:
            pause = FIRST_PAUSE
            wanted = min(wanted, pause) if state == "ended" else wanted
        await until(wake or asyncio.Event(), clock.sleep(wanted))
        pause = min(pause * 2, PAUSE_MAX)


class _SaidOnce:
    """Logs a state once, then every half hour with how often it came."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = ""
        self._last_ms = 0
        self._times = 0

    def say(self, name: str, state: str) -> None:
        now_ms = self._clock.boottime_ms()
        self._times += 1
        if state == self._last and now_ms - self._last_ms < LOG_AGAIN_AFTER / timedelta(
            milliseconds=1
        ):
            return
        log.info("%s: %s (%d times)" if self._times > 1 else "%s: %s%.0s", name, state, self._times)
        self._last, self._last_ms, self._times = state, now_ms, 0


async def until(changed: asyncio.Event, work: Coroutine[None, None, None]) -> None:
    """Do `work` until it ends or, cancelling it, `changed` is set. Raises what work raises."""
    working = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(changed.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})
    if not working.cancelled():
        working.result()


async def first_to_fail(*jobs: Awaitable[None]) -> None:
    """Run all jobs; when one fails the others are cancelled and its own error is raised.

    A bug comes before an expected failure. Returns once all jobs have returned.
    """

    async def run(job: Awaitable[None]) -> None:
        await job

    try:
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(run(job))
    except BaseExceptionGroup as several:
        raise first_error(several) from None


def tell_systemd(state: str) -> None:
    """Say `state` (as "READY=1") to the service manager, if one listens (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(state.encode(), address.replace("@", "\0", 1))


async def give_back(clock: Clock) -> None:
    """Hand back to the system what a busy minute took and nobody holds any more (malloc_trim(3));
    return at once where the C library cannot."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc
    while trim is not None:
        await clock.sleep(GIVE_BACK_EVERY)
        trim(0)


async def prove_alive(clock: Clock) -> None:
    """Ping the watchdog for as long as the loop moves; return at once where there is none."""
    within_us = int(os.environ.get("WATCHDOG_USEC", "0"))
    while within_us:
        tell_systemd("WATCHDOG=1")
        await clock.sleep(timedelta(microseconds=within_us / 3))
