import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from edge.errors import Malformed, NotStarted, Refused, StoreBroken, Unreachable
from edge.health import Health
from edge.supervise import (
    FIRST_PAUSE,
    GIVE_BACK_EVERY,
    PAUSE_MAX,
    REFUSED_PAUSE,
    Job,
    first_to_fail,
    give_back,
    keep_running,
    prove_alive,
    until,
)
from tests.house.fake_clock import FakeClock


@asynccontextmanager
async def kept_running(job: Job, clock: FakeClock) -> AsyncIterator[list[str]]:
    states: list[str] = []
    task = asyncio.create_task(
        keep_running("part", job, clock, lambda _, state: states.append(state))
    )
    await clock.settle()
    yield states
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_part_that_cannot_reach_the_other_side_tries_again_ever_more_slowly() -> None:
    clock, starts = FakeClock(), []

    async def job() -> None:
        starts.append(clock.boottime_ms())
        raise Unreachable("no route")

    async with kept_running(job, clock) as states:
        await clock.advance(timedelta(seconds=7))
        assert starts == [0, 1000, 3000, 7000]
        assert "waiting: no route" in states
        await clock.advance(timedelta(hours=1))
        assert starts[-1] - starts[-2] == PAUSE_MAX // timedelta(milliseconds=1)


async def test_service_of_this_box_that_has_not_started_is_asked_for_soon_again() -> None:
    clock, starts = FakeClock(), []

    async def job() -> None:
        starts.append(clock.boottime_ms())
        raise NotStarted("no driver")

    async with kept_running(job, clock):
        await clock.advance(timedelta(seconds=9))
        assert starts == [0, 1000, 3000, 5000, 7000, 9000]


async def test_refusal_waits_for_a_person_and_does_not_hammer() -> None:
    clock, starts = FakeClock(), []

    async def job() -> None:
        starts.append(clock.boottime_ms())
        raise Refused("wrong password")

    async with kept_running(job, clock):
        await clock.advance(REFUSED_PAUSE - timedelta(seconds=1))
        assert len(starts) == 1


async def test_what_a_part_cannot_read_is_counted_with_a_sample() -> None:
    health = Health(FakeClock())

    async def job() -> None:
        if health.malformed:
            raise StoreBroken("enough")
        raise Malformed("not JSON", "<html>Welcome")

    clock = FakeClock()
    running = keep_running("uplink", job, clock, health.report, unreadable=health.keep_sample)
    task = asyncio.create_task(running)
    await clock.settle()
    await clock.advance(FIRST_PAUSE)
    with pytest.raises(StoreBroken):
        await task
    assert health.counts["uplink malformed"] == 1
    assert [kept.sample for kept in health.malformed] == ["<html>Welcome"]


async def test_bug_pauses_only_its_own_part_with_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()

    async def job() -> None:
        raise ZeroDivisionError

    async with kept_running(job, clock) as states:
        assert states[-1] == "broken, see the log"
        assert "ZeroDivisionError" in caplog.text


async def test_broken_store_ends_the_process() -> None:
    async def job() -> None:
        raise StoreBroken("gone")

    with pytest.raises(StoreBroken):
        await keep_running("part", job, FakeClock(), lambda *_: None)


async def test_part_that_ran_long_starts_again_soon() -> None:
    clock, starts = FakeClock(), []

    async def job() -> None:
        starts.append(clock.boottime_ms())
        await clock.sleep(timedelta(minutes=10))
        raise Unreachable("away")

    async with kept_running(job, clock):
        await clock.advance(timedelta(minutes=40))
        gaps = [b - a for a, b in pairwise(starts)]
        assert gaps[-1] - 600_000 <= 2 * FIRST_PAUSE // timedelta(milliseconds=1)


async def test_loop_that_moves_keeps_the_watchdog_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "30000000")
        clock = FakeClock()
        task = asyncio.create_task(prove_alive(clock))
        await clock.settle()
        await clock.advance(timedelta(seconds=30))
        task.cancel()
        heard = [manager.recv(100) for _ in range(4)]
        assert heard == [b"WATCHDOG=1"] * 4


async def test_memory_nobody_holds_goes_back_to_the_system() -> None:
    clock = FakeClock()
    task = asyncio.create_task(give_back(clock))
    await clock.settle()
    taken = [bytes(2000) for _ in range(20_000)]
    del taken[:-1]  # the last lies at the end of the heap and keeps the C library from shrinking it
    before_kib = _held_kib()
    await clock.advance(GIVE_BACK_EVERY)
    assert before_kib - _held_kib() > 20_000
    task.cancel()


def _held_kib() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Anonymous:")).split()[1])


async def test_change_of_mind_ends_work_at_once() -> None:
    changed, ended = asyncio.Event(), []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    task = asyncio.create_task(until(changed, work()))
    await asyncio.sleep(0)
    changed.set()
    await task
    assert ended == [True]


async def test_failure_of_the_work_comes_through() -> None:
    async def work() -> None:
        raise Unreachable("away")

    with pytest.raises(Unreachable):
        await until(asyncio.Event(), work())


async def test_bug_is_raised_rather_than_the_failure_that_came_with_it() -> None:
    async def unreachable() -> None:
        raise Unreachable("away")

    async def bug() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await first_to_fail(unreachable(), bug())
    with pytest.raises(Unreachable):
        await first_to_fail(unreachable(), asyncio.Event().wait())  # type: ignore[arg-type]
