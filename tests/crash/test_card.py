"""A card that is full, or that may only be read: before the start, and in the middle of it."""

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from edge.model import BoxTime, Slot
from edge.store.buffer import Buffer
from edge.store.outbox import Outbox, Verdict
from edge.store.settings import Settings, open_state
from tests.bench.device import Device, ext4
from tests.house.fake_clock import FakeClock

HALF_MINUTE = timedelta(seconds=30)
QUARTER = timedelta(minutes=15)
EXT4_IOC_SHUTDOWN = 0x8004587D  # linux/fs/ext4/ext4.h
NO_LOG_FLUSH = struct.pack("I", 2)


@pytest.fixture
def card() -> Iterator[Device]:
    with ext4(size_mb=16) as device:
        yield device


async def live(buffer: Buffer, clock: FakeClock, commits: int) -> None:
    for _ in range(commits):
        for channel in range(90):
            taken_at = BoxTime(buffer.boot, clock.boottime_ms())
            buffer.put(f"channel-{channel}", taken_at, clock.boottime_ms() / 7 + channel)
        await clock.advance(HALF_MINUTE)
        await buffer.note_time()
        await buffer.commit()


async def newest(buffer: Buffer, clock: FakeClock) -> int:
    now = clock.wall_now()
    found = await buffer.samples(["channel-7"], now - HALF_MINUTE, now)
    return len(found["channel-7"])


def fill(folder: Path) -> Path:
    """Take every byte that is free, the blocks kept for root included."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.sync()
    return filler


def turn_read_only(card: Device) -> None:
    """What ext4 does when it finds an error on the card."""
    Path(f"/sys/fs/ext4/{card.name}/trigger_fs_error").write_text("1")


def die(card: Device) -> None:
    """From now on every access fails, as on a card that was pulled out."""
    handle = os.open(card.folder, os.O_RDONLY)
    fcntl.ioctl(handle, EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH)
    os.close(handle)


async def test_full_card_drops_the_oldest_and_takes_the_new(card: Device) -> None:
    clock = FakeClock()
    buffer = await Buffer.open(card.folder / "buffer.db", clock)
    outbox = await Outbox.open(buffer)
    await live(buffer, clock, 40)
    filler = fill(card.folder)
    await live(buffer, clock, 200)
    stats = await buffer.stats()
    assert stats.uncommitted == 0
    assert stats.dropped_full > 0
    assert stats.stored + stats.dropped_full == 240 * 90
    assert "full" in (stats.problem or "")
    assert await newest(buffer, clock) == 1
    await outbox.enqueue([Slot(1, clock.wall_now() - QUARTER, QUARTER, 1.5)], {1: clock.wall_now()})
    await buffer.commit()
    rows = await outbox.next_batch(200, clock.wall_now())
    await outbox.settle({row.row_id: (Verdict.ACCEPT, "") for row in rows})
    await buffer.commit()
    assert (await outbox.counts()).accepted_total == 1

    filler.unlink()
    os.sync()
    await live(buffer, clock, 60)
    after = await buffer.stats()
    assert after.problem is None
    assert after.file_bytes > stats.file_bytes
    await buffer.close()

    reopened = await Buffer.open(card.folder / "buffer.db", clock)
    again = await reopened.stats()
    assert (again.stored, again.problem) == (after.stored, None)
    await reopened.close()


async def test_box_starts_on_a_full_card(card: Device) -> None:
    clock = FakeClock()
    buffer = await Buffer.open(card.folder / "buffer.db", clock)
    await live(buffer, clock, 40)
    await buffer.close()
    state = await open_state(card.folder / "state.db")
    await (await Settings.open(state)).put("claim", "Ada")
    await state.close()
    fill(card.folder)

    buffer = await Buffer.open(card.folder / "buffer.db", clock)
    await live(buffer, clock, 40)
    stats = await buffer.stats()
    assert (stats.uncommitted, stats.stored + stats.dropped_full) == (0, 80 * 90)
    assert await newest(buffer, clock) == 1
    await buffer.close()
    state = await open_state(card.folder / "state.db")
    settings = await Settings.open(state)
    assert await settings.get("claim") == "Ada"
    for number in range(100):
        await settings.put("mapping", [number] * 500)
    assert await settings.get("mapping") == [99] * 500
    await state.close()


async def test_full_card_is_still_said_after_a_restart(card: Device) -> None:
    clock = FakeClock()
    buffer = await Buffer.open(card.folder / "buffer.db", clock)
    filler = fill(card.folder)
    await live(buffer, clock, 40)
    await buffer.close()
    buffer = await Buffer.open(card.folder / "buffer.db", clock)
    assert "the card is full" in (buffer.problem or "")
    filler.unlink()
    os.sync()
    await live(buffer, clock, 1)
    assert buffer.problem is None
    await buffer.close()


async def test_full_card_still_keeps_a_claim(card: Device) -> None:
    state = await open_state(card.folder / "state.db")
    settings = await Settings.open(state)
    filler = fill(card.folder)
    await settings.put("claim", "Ada")
    for number in range(50):
        await settings.put("mapping", [number] * 500)
    assert state.problem is None
    await state.close()
    (card.folder / "state.db").write_bytes(b"damaged")
    state = await open_state(card.folder / "state.db")
    assert await (await Settings.open(state)).get("claim") == "Ada"
    assert "damaged" in (state.problem or "")
    await state.close()

    filler.unlink()
    os.sync()
    state = await open_state(card.folder / "state.db")
    assert (card.folder / "state.db.ballast").exists()
    await state.close()


async def test_empty_full_card_gets_stand_ins_in_memory(card: Device) -> None:
    fill(card.folder)
    clock = FakeClock()
    buffer = await Buffer.open(card.folder / "buffer.db", clock)
    state = await open_state(card.folder / "state.db")
    await live(buffer, clock, 10)
    stats = await buffer.stats()
    assert stats.stored == 10 * 90
    assert stats.problem is not None
    settings = await Settings.open(state)
    await settings.put("claim", "Ada")
    assert await settings.get("claim") == "Ada"
    assert state.problem is not None
    await buffer.close()
    await state.close()


async def test_card_that_turns_read_only_costs_durability_and_nothing_else(card: Device) -> None:
    clock = FakeClock()
    buffer = await Buffer.open(card.folder / "buffer.db", clock)
    outbox = await Outbox.open(buffer)
    state = await open_state(card.folder / "state.db")
    settings = await Settings.open(state)
    await settings.put("claim", "Ada")
    await outbox.enqueue([Slot(1, clock.wall_now() - QUARTER, QUARTER, 1.5)], {1: clock.wall_now()})
    await live(buffer, clock, 10)
    turn_read_only(card)
    await live(buffer, clock, 10)
    stats = await buffer.stats()
    assert (stats.stored, stats.uncommitted) == (20 * 90, 0)
    assert "memory only" in (stats.problem or "")
    (row,) = await outbox.next_batch(200, clock.wall_now())
    await outbox.settle({row.row_id: (Verdict.ACCEPT, "")})
    await buffer.commit()
    assert await outbox.next_batch(200, clock.wall_now()) == []
    await settings.put("mapping", [1])
    assert (await settings.get("claim"), await settings.get("mapping")) == ("Ada", [1])
    assert "memory only" in (state.problem or "")
    await buffer.close()
    await state.close()
    card.mount_again()
    buffer = await Buffer.open(card.folder / "buffer.db", clock)
    stats = await buffer.stats()
    assert (stats.stored, stats.problem) == (10 * 90, None)
    await buffer.close()


async def test_card_that_dies_stops_neither_readings_nor_settings(card: Device) -> None:
    clock = FakeClock()
    buffer = await Buffer.open(card.folder / "buffer.db", clock)
    state = await open_state(card.folder / "state.db")
    settings = await Settings.open(state)
    await settings.put("claim", "Ada")
    await live(buffer, clock, 10)
    die(card)
    await live(buffer, clock, 10)
    stats = await buffer.stats()
    assert stats.uncommitted == 0
    assert await newest(buffer, clock) == 1
    assert "memory only" in (stats.problem or "")
    await settings.put("mapping", [1])
    assert await settings.get("mapping") == [1]
    assert await settings.get("claim") == "Ada" or await settings.lost() is not None
    await buffer.close()
    await state.close()


async def test_box_starts_on_a_read_only_card_and_knows_who_claimed_it(card: Device) -> None:
    clock = FakeClock()
    buffer = await Buffer.open(card.folder / "buffer.db", clock)
    await live(buffer, clock, 10)
    state = await open_state(card.folder / "state.db")
    await (await Settings.open(state)).put("claim", "Ada")
    # the log is left behind, as by a power cut: what is in it counts too
    for name in ("buffer.db", "state.db"):
        for part in (name, f"{name}-wal"):
            (card.folder / f"cut-{part}").write_bytes((card.folder / part).read_bytes())
    await buffer.close()
    await state.close()
    card.mount_again("ro")
    buffer = await Buffer.open(card.folder / "cut-buffer.db", clock)
    state = await open_state(card.folder / "cut-state.db")
    settings = await Settings.open(state)
    assert await settings.get("claim") == "Ada"
    assert await settings.lost() is None
    await live(buffer, clock, 5)
    stats = await buffer.stats()
    assert stats.stored == 15 * 90
    assert "memory only" in (stats.problem or "")
    await buffer.close()
    await state.close()
