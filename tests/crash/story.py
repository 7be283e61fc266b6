"""A box's life as a fixed story: what commit number n writes, and what must be there after it.

Run as a program it lives the story in FOLDER from commit FIRST on, and says "acked N" after each.
What must be there is computed here from n alone, not by the store.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edge.model import BoxTime, Slot
from edge.store.buffer import Buffer
from edge.store.database import Database
from edge.store.outbox import Outbox, Verdict
from edge.store.settings import Settings, open_state
from tests.house.fake_clock import FakeClock

BIRTH = datetime(2026, 3, 1, 12, tzinfo=UTC)
COMMIT_EVERY = timedelta(seconds=30)
CHANNELS, TURNS = 30, 3
SENSORS = 5
SLOT = timedelta(minutes=5)
SLOTS_EVERY, SETTLED_AFTER = 3, 2  # every third commit makes slots, two later they are accepted
SETTING_EVERY = 5


@dataclass
class Box:
    clock: FakeClock
    buffer: Buffer
    outbox: Outbox
    state: Database
    settings: Settings


@asynccontextmanager
async def living_in(folder: Path, first: int) -> AsyncIterator[Box]:
    """The box as it starts (again) before its commit number `first`, in the same boot."""
    clock = FakeClock(BIRTH)
    await clock.advance(first * COMMIT_EVERY)
    buffer = await Buffer.open(folder / "buffer.db", clock)
    state = await open_state(folder / "state.db")
    try:
        yield Box(clock, buffer, await Outbox.open(buffer), state, await Settings.open(state))
    finally:
        await buffer.transaction.database.close()
        await state.close()


async def live(box: Box, number: int) -> None:
    """Everything that belongs to one commit, and the commit."""
    if number % SETTING_EVERY == 0:
        await box.settings.put("number", number)
    for channel in range(CHANNELS):
        for turn in range(TURNS):
            taken_at = BoxTime(box.buffer.boot, box.clock.boottime_ms() + turn * 10_000 + channel)
            box.buffer.put(f"channel-{channel}", taken_at, _value(number, channel, turn))
    box.buffer.put("source", BIRTH + number * COMMIT_EVERY, number / 7)
    if number % SLOTS_EVERY == 0:
        slots = [_slot(number, sensor) for sensor in range(SENSORS)]
        await box.outbox.enqueue(slots, {slot.sensor_id: slot.start + SLOT for slot in slots})
    if number % SLOTS_EVERY == SETTLED_AFTER:
        while batch := await box.outbox.next_batch(200, box.clock.wall_now()):
            await box.outbox.settle({row.row_id: (Verdict.ACCEPT, "") for row in batch})
    await box.buffer.commit()
    if (problem := (await box.buffer.stats()).problem) is not None:
        raise RuntimeError(problem)
    await box.clock.advance(COMMIT_EVERY)


async def last_whole_commit(folder: Path, acked: int) -> int:
    """Check that what lies in folder is exactly what some commit left, not older than `acked`.

    Return its number, −1 for none. Raises AssertionError with what is wrong.
    """
    async with living_in(folder, 0) as box:
        stats = await box.buffer.stats()
        assert stats.problem is None, stats.problem
        assert box.state.problem is None, box.state.problem
        keys = [f"channel-{channel}" for channel in range(CHANNELS)] + ["source"]
        found = await box.buffer.samples(keys, BIRTH, BIRTH + timedelta(days=365))
        last = len(found["source"]) - 1
        assert last >= acked, f"commit {acked} was acknowledged, {last} is the last there is"
        assert [sample.value for sample in found["source"]] == [n / 7 for n in range(last + 1)]
        for channel in range(CHANNELS):
            values = [sample.value for sample in found[f"channel-{channel}"]]
            assert values == [
                _value(n, channel, turn) for n in range(last + 1) for turn in range(TURNS)
            ], f"channel {channel} is not whole"
        await _check_outbox(box, last)
        setting = await box.settings.get("number")
        assert await box.settings.lost() is None
        acked_setting = acked // SETTING_EVERY * SETTING_EVERY
        assert (setting if isinstance(setting, int) else -1) >= acked_setting or acked < 0
        return last


async def _check_outbox(box: Box, last: int) -> None:
    counts = await box.outbox.counts()
    made = last // SLOTS_EVERY + 1
    settled = (last + SLOTS_EVERY - SETTLED_AFTER) // SLOTS_EVERY
    assert counts.waiting == (made - settled) * SENSORS, f"{counts.waiting} slots wait"
    assert counts.accepted_total == settled * SENSORS, f"{counts.accepted_total} were accepted"
    history = await box.outbox.history(1, BIRTH - SLOT, BIRTH + timedelta(days=365))
    since = box.clock.wall_now() - timedelta(hours=48)
    expected = [_slot(n * SLOTS_EVERY, 0) for n in range(settled)]
    assert [slot for slot in history if slot.start >= since] == expected, "history is not whole"


def _value(number: int, channel: int, turn: int) -> float:
    return round(230 + channel * 11.3 + (number * TURNS + turn) % 97 / 10, 1)


def _slot(number: int, sensor: int) -> Slot:
    start = BIRTH + number // SLOTS_EVERY * SLOT - SLOT
    return Slot(sensor + 1, start, SLOT, round(number * 0.7 + sensor, 3))


async def main(folder: Path, first: int) -> None:
    async with living_in(folder, first) as box:
        number = first
        while True:
            await live(box, number)
            print(f"acked {number}", flush=True)
            number += 1


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
