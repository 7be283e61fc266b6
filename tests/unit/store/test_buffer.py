import asyncio
from datetime import timedelta
from pathlib import Path

from edge.model import BoxTime, Sample
from edge.store.buffer import FORGET_EVERY, MANY, PENDING_MAX
from tests.house.fake_clock import FakeClock
from tests.unit.store.conftest import Box

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


def stamp(box: Box) -> BoxTime:
    return BoxTime(box.buffer.boot, box.clock.boottime_ms())


async def everything(box: Box, *keys: str) -> dict[str, list[Sample]]:
    now = box.clock.wall_now()
    return await box.buffer.samples(keys, now - 1000 * HOUR, now + 1000 * HOUR)


async def values(box: Box, key: str) -> list[float]:
    return [sample.value for sample in (await everything(box, key))[key]]


async def until_stored(box: Box) -> None:
    async with asyncio.timeout(10):
        while (await box.buffer.stats()).stored == 0:
            pass


async def test_reading_counts_as_stored_only_when_committed(box: Box) -> None:
    box.buffer.put("a", stamp(box), 1.5)
    assert await values(box, "a") == []
    assert (await box.buffer.stats()).uncommitted == 1
    await box.buffer.commit()
    assert await values(box, "a") == [1.5]
    await box.restart()
    assert await values(box, "a") == [1.5]


async def test_age_of_the_oldest_uncommitted_reading_is_shown(box: Box) -> None:
    assert (await box.buffer.stats()).oldest_uncommitted is None
    box.buffer.put("a", stamp(box), 1)
    await box.clock.advance(timedelta(seconds=20))
    box.buffer.put("a", stamp(box), 2)
    assert (await box.buffer.stats()).oldest_uncommitted == timedelta(seconds=20)
    await box.buffer.commit()
    assert (await box.buffer.stats()).oldest_uncommitted is None


async def test_range_is_half_open_and_only_wanted_channels_come(box: Box) -> None:
    start = box.clock.wall_now()
    for second in range(10):
        for key in "ab":
            box.buffer.put(key, stamp(box), second)
        await box.clock.advance(timedelta(seconds=1))
    await box.buffer.commit()
    found = await box.buffer.samples(
        ["b", "none"], start + timedelta(seconds=2), start + timedelta(seconds=5)
    )
    assert [sample.value for sample in found["b"]] == [2, 3, 4]
    assert found["b"][0].taken_at == start + timedelta(seconds=2)
    assert found["none"] == []
    assert set(found) == {"b", "none"}


async def test_reading_taken_before_the_clock_was_trusted_gets_its_time_later(folder: Path) -> None:
    box = await Box(folder, FakeClock(trusted=False)).start()
    taken = stamp(box)
    box.buffer.put("a", taken, 7)
    await box.buffer.commit()
    assert await values(box, "a") == []
    assert box.buffer.utc(taken) is None
    await box.clock.advance(10 * MINUTE)
    box.clock.step_wall(50 * HOUR)
    box.clock.trusted = True
    await box.buffer.note_time()
    expected = box.clock.wall_now() - 10 * MINUTE
    assert (await everything(box, "a"))["a"] == [Sample(expected, 7)]
    assert box.buffer.utc(taken) == expected
    await box.buffer.close()


async def test_clock_step_changes_only_what_comes_after(box: Box) -> None:
    before = box.clock.wall_now()
    box.buffer.put("a", stamp(box), 1)
    await box.clock.advance(MINUTE)
    box.clock.step_wall(HOUR)
    await box.buffer.note_time()
    box.buffer.put("a", stamp(box), 2)
    await box.buffer.commit()
    await box.restart()
    expected = [Sample(before, 1), Sample(before + MINUTE + HOUR, 2)]
    assert (await everything(box, "a"))["a"] == expected


async def test_reading_dated_into_the_future_is_overruled_when_the_clock_is_set_back(
    box: Box,
) -> None:
    early = box.clock.wall_now()
    box.buffer.put("a", stamp(box), 1)
    await box.clock.advance(2 * HOUR)
    box.buffer.put("a", stamp(box), 2)
    await box.clock.advance(MINUTE)
    box.clock.step_wall(-HOUR)
    await box.buffer.note_time()
    box.buffer.put("a", stamp(box), 3)
    await box.buffer.commit()
    await box.restart()
    expected = [Sample(early, 1), Sample(early + HOUR + MINUTE, 3)]
    assert (await everything(box, "a"))["a"] == expected


async def test_boot_that_never_knew_the_time_is_held_and_counted(folder: Path) -> None:
    box = await Box(folder, FakeClock(trusted=False)).start()
    box.buffer.put("a", stamp(box), 1)
    await box.buffer.commit()
    await box.reboot(trusted=True)
    box.buffer.put("a", stamp(box), 2)
    await box.buffer.commit()
    assert await values(box, "a") == [2]
    stats = await box.buffer.stats()
    assert (stats.stored, stats.held_without_time) == (2, 1)
    await box.buffer.forget_before(box.clock.wall_now() + 1000 * HOUR)
    assert (await box.buffer.stats()).held_without_time == 1
    await box.buffer.close()


async def test_restart_within_a_boot_keeps_its_number_and_time(box: Box) -> None:
    boot = box.buffer.boot
    box.buffer.put("a", stamp(box), 1)
    await box.buffer.commit()
    box.clock.trusted = False
    await box.restart()
    assert box.buffer.boot == boot
    assert await values(box, "a") == [1]


async def test_earlier_boot_keeps_its_time(box: Box) -> None:
    taken_at = box.clock.wall_now()
    box.buffer.put("a", stamp(box), 1)
    await box.buffer.commit()
    await box.reboot()
    assert (await everything(box, "a"))["a"] == [Sample(taken_at, 1)]


async def test_source_reading_told_twice_is_stored_once_and_its_correction_wins(box: Box) -> None:
    at = box.clock.wall_now() - HOUR
    for told in (1.0, 1.0, 2.0):
        box.buffer.put("a", at, told)
        box.buffer.put("b", at + MINUTE, 5)
        await box.buffer.commit()
    assert (await everything(box, "a"))["a"] == [Sample(at, 2.0)]
    assert (await box.buffer.stats()).stored == 2


async def test_late_reading_leaves_a_mark_until_its_slots_are_made_again(box: Box) -> None:
    now = box.clock.wall_now()
    await box.outbox.enqueue([], {1: now})
    for minutes in (30, 45, -5):
        box.buffer.put("a", now - minutes * MINUTE, 1)
    await box.buffer.commit()
    await box.restart()
    marks = await box.buffer.late()
    assert marks == {"a": now - 45 * MINUTE}
    await box.buffer.late_done(marks)
    await box.restart()
    assert await box.buffer.late() == marks  # not committed, so not done
    await box.buffer.late_done(marks)
    await box.buffer.commit()
    await box.restart()
    assert await box.buffer.late() == {}


async def test_nothing_is_late_that_is_only_told_again(box: Box) -> None:
    at = box.clock.wall_now() - HOUR
    box.buffer.put("a", at, 1)
    await box.buffer.commit()
    await box.outbox.enqueue([], {1: box.clock.wall_now()})
    box.buffer.put("a", at, 1)
    await box.buffer.commit()
    assert await box.buffer.late() == {}


async def test_oldest_reading_of_some_channels_is_found(box: Box) -> None:
    now = box.clock.wall_now()
    assert await box.buffer.oldest() is None
    box.buffer.put("a", stamp(box), 1)
    box.buffer.put("b", now - 5 * HOUR, 1)
    await box.buffer.commit()
    assert await box.buffer.oldest() == now - 5 * HOUR
    assert await box.buffer.oldest(["a"]) == now
    assert await box.buffer.oldest(["none"]) is None


async def test_released_readings_are_gone_and_counted(box: Box) -> None:
    for _ in range(60):
        box.buffer.put("a", stamp(box), 1)
        box.buffer.put("b", box.clock.wall_now(), 1)
        await box.buffer.commit()
        await box.clock.advance(MINUTE)
    horizon = box.clock.wall_now() - 20 * MINUTE
    released = await box.buffer.forget_before(horizon)
    left = await everything(box, "a", "b")
    for samples in left.values():
        assert [s for s in samples if s.taken_at >= horizon] == samples[-20:]
    assert released == 120 - sum(map(len, left.values()))
    assert released >= 2 * 30
    assert await box.buffer.forget_before(horizon + FORGET_EVERY / 2) == 0
    assert await box.buffer.forget_before(horizon + FORGET_EVERY) > 0


async def test_full_file_drops_the_oldest_and_counts_them(folder: Path) -> None:
    box = await Box(folder, FakeClock(), bytes_max=60 << 10).start()
    for number in range(150):
        for key in range(90):
            box.buffer.put(f"{key}", stamp(box), number + key / 7)
        await box.buffer.commit()
        await box.clock.advance(timedelta(seconds=30))
    stats = await box.buffer.stats()
    kept = await values(box, "0")
    assert kept[-1] == 149
    assert kept == sorted(kept)
    assert stats.dropped_full + stats.stored == 150 * 90
    assert stats.dropped_full > 0
    assert stats.file_bytes <= 60 << 10
    assert stats.problem is None
    await box.buffer.close()


async def test_readings_without_a_time_go_first_when_the_file_is_full(folder: Path) -> None:
    box = await Box(folder, FakeClock(trusted=False), bytes_max=60 << 10).start()
    for key in range(90):
        box.buffer.put(f"{key}", stamp(box), key / 7)
    await box.buffer.commit()
    await box.reboot(trusted=True)
    while (await box.buffer.stats()).dropped_full == 0:
        for key in range(90):
            box.buffer.put(f"{key}", stamp(box), key / 7)
        await box.buffer.commit()
        await box.clock.advance(timedelta(seconds=30))
    assert (await box.buffer.stats()).held_without_time == 0
    await box.buffer.close()


async def test_memory_is_bounded_and_drops_the_oldest(box: Box) -> None:
    for number in range(PENDING_MAX + 10):
        box.buffer.put("a", BoxTime(box.buffer.boot, number), number)
    stats = await box.buffer.stats()
    assert (stats.uncommitted, stats.dropped_memory) == (PENDING_MAX, 10)
    await box.buffer.commit()
    assert min(await values(box, "a")) == 10


async def test_every_reading_is_committed_at_once_where_that_is_wanted(folder: Path) -> None:
    box = await Box(folder, FakeClock()).start(commit_every=timedelta(0))
    running = asyncio.create_task(box.buffer.run())
    box.buffer.put("a", stamp(box), 1)
    await until_stored(box)
    running.cancel()
    await box.buffer.close()


async def test_commits_follow_the_clock(box: Box) -> None:
    running = asyncio.create_task(box.buffer.run())
    await box.clock.settle()
    box.buffer.put("a", stamp(box), 1)
    await box.clock.advance(timedelta(seconds=29))
    assert (await box.buffer.stats()).stored == 0
    await box.clock.advance(timedelta(seconds=1))
    await until_stored(box)
    running.cancel()


async def test_channels_keep_apart_over_restarts(box: Box) -> None:
    at = box.clock.wall_now()
    for turn, keys in enumerate((["a", "b"], ["c", "a"], ["d", "c"])):
        for key in keys:
            box.buffer.put(key, at + turn * MINUTE, ord(key))
        await box.buffer.commit()
        await box.restart()
    found = await everything(box, *"abcd")
    assert {key: {s.value for s in samples} for key, samples in found.items()} == {
        key: {ord(key)} for key in "abcd"
    }


async def test_damaged_group_is_left_out_and_counted_and_harms_no_other(box: Box) -> None:
    for number in range(3):
        box.buffer.put("a", stamp(box), number)
        await box.buffer.commit()
        await box.clock.advance(MINUTE)
    await box.buffer.transaction.database.run(
        lambda db: db.execute(
            "UPDATE box_group SET data = zeroblob(20) WHERE id = (SELECT min(id) FROM box_group)"
        )
    )
    assert await values(box, "a") == [1, 2]
    assert await box.buffer.oldest(["a"]) == box.clock.wall_now() - 2 * MINUTE
    assert (await box.buffer.stats()).damaged_groups == 1


async def test_flood_of_readings_is_committed_before_it_overflows_the_memory(box: Box) -> None:
    """A family that tells what it has of a fortnight offers more than the memory holds."""
    running = asyncio.create_task(box.buffer.run())
    start = box.clock.wall_now() - timedelta(days=14)
    for minute in range(PENDING_MAX + 2 * MANY):
        box.buffer.put("smappee/1/a", start + timedelta(seconds=minute), 1.0)
        if minute % 2000 == 0:
            await asyncio.sleep(0)
            while (await box.buffer.stats()).uncommitted > MANY + 2000:
                pass
    await box.buffer.commit()
    running.cancel()
    await asyncio.wait([running])
    stats = await box.buffer.stats()
    assert (stats.stored, stats.dropped_memory) == (PENDING_MAX + 2 * MANY, 0)
