import math
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from edge.model import Slot
from edge.store.outbox import OutboxSlot, Verdict
from edge.store.slots import HISTORY, REJECTED_MAX
from tests.unit.store.conftest import Box

QUARTER = timedelta(minutes=15)
HOUR = timedelta(hours=1)
ACCEPT = (Verdict.ACCEPT, "")


def slots(start: datetime, number: int, sensor_id: int = 1) -> list[Slot]:
    return [Slot(sensor_id, start + i * QUARTER, QUARTER, float(i)) for i in range(number)]


async def enqueue(box: Box, some: Sequence[Slot]) -> None:
    ends = [(slot.sensor_id, slot.start + slot.event_resolution) for slot in some]
    await box.outbox.enqueue(some, dict(sorted(ends, key=lambda end: end[1])))
    await box.buffer.commit()


async def batch(box: Box, limit: int = 200, *skip: int) -> list[OutboxSlot]:
    return await box.outbox.next_batch(limit, box.clock.wall_now(), skip)


async def accept(box: Box, rows: Sequence[OutboxSlot]) -> None:
    await box.outbox.settle({row.row_id: ACCEPT for row in rows})
    await box.buffer.commit()


async def test_slot_is_offered_only_when_it_is_committed(box: Box) -> None:
    await box.outbox.enqueue(slots(box.clock.wall_now() - HOUR, 2), {})
    assert await batch(box) == []
    await box.buffer.commit()
    assert [row.slot for row in await batch(box)] == slots(box.clock.wall_now() - HOUR, 2)


async def test_watermark_is_where_the_slots_end_and_never_goes_back(box: Box) -> None:
    now = box.clock.wall_now()
    assert await box.outbox.watermark(1) is None
    await box.outbox.enqueue([], {1: now})
    await box.outbox.enqueue([], {1: now - HOUR})
    await box.buffer.commit()
    await box.restart()
    assert await box.outbox.watermark(1) == now
    assert await box.outbox.watermark(2) is None


async def test_rows_that_are_under_way_are_not_handed_out_again(box: Box) -> None:
    now = box.clock.wall_now()
    backlog = slots(now - 30 * HOUR, 6)
    await enqueue(box, backlog)
    first = await batch(box, 4)
    under_way = {row.row_id for row in first}
    second = await box.outbox.next_batch(4, now, (), under_way)
    assert [row.slot for row in (*first, *second)] == backlog
    under_way |= {row.row_id for row in second}
    assert await box.outbox.next_batch(4, now, (), under_way) == []


async def test_fresh_slots_go_before_the_backlog_and_the_backlog_oldest_first(box: Box) -> None:
    now = box.clock.wall_now()
    await enqueue(box, slots(now - 10 * HOUR, 40, 1) + slots(now - 30 * HOUR, 4, 2))
    fresh = await batch(box)
    assert {row.slot.sensor_id for row in fresh} == {1}
    assert fresh[0].slot.start >= now - HOUR - QUARTER
    await accept(box, fresh)
    assert {row.slot.sensor_id for row in await batch(box)} == {2}


async def test_batch_is_of_one_sensor_in_order_and_within_its_span(box: Box) -> None:
    start = box.clock.wall_now() - 100 * HOUR
    gappy = [slot for slot in slots(start, 30, 1) if slot.start.minute != 15]
    await enqueue(box, gappy + slots(start + timedelta(minutes=1), 30, 2))
    first = await batch(box, 10)
    starts = [row.slot.start for row in first]
    assert starts == [slot.start for slot in gappy if slot.start < start + 10 * QUARTER]
    assert {row.slot.sensor_id for row in first} == {1}
    assert {row.slot.sensor_id for row in await batch(box, 10, 1)} == {2}
    assert await batch(box, 10, 1, 2) == []


async def test_accepted_slot_leaves_and_stays_as_history(box: Box) -> None:
    start = box.clock.wall_now() - 3 * HOUR
    await enqueue(box, slots(start, 12))
    rows = []
    while some := await batch(box):
        rows += some
        await box.outbox.settle({row.row_id: ACCEPT for row in some})
    assert await box.outbox.history(1, start, start + HOUR) == slots(start, 4)
    await box.buffer.commit()
    await box.restart()
    assert await box.outbox.history(1, start + QUARTER, start + HOUR) == slots(start, 4)[1:]
    counts = await box.outbox.counts()
    assert (counts.waiting, counts.accepted_total) == (0, 12)
    assert counts.oldest_waiting is None


async def test_history_reaches_two_days_back_and_no_further(box: Box) -> None:
    for _ in range(60):
        start = box.clock.wall_now() - HOUR
        await enqueue(box, slots(start, 1))
        await accept(box, await batch(box))
        await box.clock.advance(HOUR)
    now = box.clock.wall_now()
    kept = await box.outbox.history(1, now - 100 * HOUR, now)
    assert kept[0].start <= now - HISTORY
    assert kept[0].start >= now - HISTORY - 3 * HOUR


async def test_rejected_slot_is_set_aside_with_its_reason_and_never_offered_again(box: Box) -> None:
    start = box.clock.wall_now() - HOUR
    await enqueue(box, slots(start, 2))
    guilty, sound = await batch(box)
    await box.outbox.settle(
        {guilty.row_id: (Verdict.REJECT, "422: too large"), sound.row_id: ACCEPT}
    )
    await box.buffer.commit()
    await box.restart()
    assert await batch(box) == []
    (aside,) = await box.outbox.rejected(10)
    assert (aside.slot, aside.reason) == (guilty.slot, "422: too large")
    assert (await box.outbox.counts()).rejected_total == 1
    await enqueue(box, [guilty.slot])
    assert await batch(box) == []


async def test_rejected_slots_are_bounded_but_all_counted(box: Box) -> None:
    start = box.clock.wall_now() - (REJECTED_MAX + 10) * QUARTER
    await enqueue(box, slots(start, REJECTED_MAX + 10))
    reject = (Verdict.REJECT, "no")
    while some := await batch(box, 1000):
        await box.outbox.settle({row.row_id: reject for row in some})
    assert len(await box.outbox.rejected(10_000)) == REJECTED_MAX
    assert (await box.outbox.counts()).rejected_total == REJECTED_MAX + 10


async def test_kept_slot_is_offered_again_with_its_story(box: Box) -> None:
    await enqueue(box, slots(box.clock.wall_now() - HOUR, 1))
    (row,) = await batch(box)
    assert (row.attempts, row.posted_at) == (0, None)
    await box.outbox.posted([row.row_id])
    await box.outbox.settle({row.row_id: (Verdict.KEEP, "timed out")})
    await box.buffer.commit()
    await box.restart()
    (again,) = await batch(box)
    assert again.slot == row.slot
    assert (again.attempts, again.posted_at) == (1, box.clock.wall_now())
    assert again.reason == "timed out"


async def test_slot_in_a_job_waits_for_the_job(box: Box) -> None:
    await enqueue(box, slots(box.clock.wall_now() - HOUR, 3))
    rows = await batch(box)
    await box.outbox.posted([row.row_id for row in rows[:2]], job="j-1")
    await box.buffer.commit()
    await box.restart()
    assert [row.slot for row in await batch(box)] == [rows[2].slot]
    jobs = await box.outbox.jobs_open()
    assert {job: [row.slot for row in some] for job, some in jobs.items()} == {
        "j-1": [row.slot for row in rows[:2]]
    }
    assert (await box.outbox.counts()).in_jobs == 2
    await box.outbox.settle(
        {rows[0].row_id: ACCEPT, rows[1].row_id: (Verdict.KEEP, "the job was lost")}
    )
    await box.buffer.commit()
    assert await box.outbox.jobs_open() == {}
    assert [row.slot for row in await batch(box)] == [rows[1].slot, rows[2].slot]


async def test_same_value_again_is_ignored(box: Box) -> None:
    some = slots(box.clock.wall_now() - HOUR, 2)
    await enqueue(box, some)
    await enqueue(box, some)
    assert len(await batch(box)) == 2
    await accept(box, await batch(box))
    await enqueue(box, some)
    assert await batch(box) == []


async def test_changed_value_is_a_new_row_with_its_own_prior(box: Box) -> None:
    (slot,) = slots(box.clock.wall_now() - HOUR, 1)
    await enqueue(box, [slot])
    await accept(box, await batch(box))
    changed = Slot(1, slot.start, QUARTER, 9.5)
    await enqueue(box, [changed])
    (correction,) = await batch(box)
    assert correction.slot == changed
    assert correction.prior == box.clock.wall_now()
    await accept(box, [correction])
    assert await box.outbox.history(1, slot.start, slot.start + HOUR) == [changed]


async def test_waiting_slot_is_never_rewritten_and_its_correction_waits_for_it(box: Box) -> None:
    (slot,) = slots(box.clock.wall_now() - HOUR, 1)
    await enqueue(box, [slot])
    await enqueue(box, [Slot(1, slot.start, QUARTER, 9.5)])
    await enqueue(box, [Slot(1, slot.start, QUARTER, 9.7)])
    offered = []
    while rows := await batch(box):
        assert len(rows) == 1
        offered += rows
        await accept(box, rows)
    assert [row.slot.value for row in offered] == [0, 9.5, 9.7]
    priors = [row.prior for row in offered]
    assert priors[0] is None
    assert priors[1] is not None
    assert priors[2] is not None
    assert priors[1] < priors[2]


async def test_value_for_a_gap_within_history_is_no_correction(box: Box) -> None:
    now = box.clock.wall_now()
    await box.outbox.enqueue([], {1: now})
    await enqueue(box, slots(now - 2 * HOUR, 1))
    (row,) = await batch(box)
    assert row.prior is None


async def test_value_older_than_history_is_a_correction_because_nobody_knows(box: Box) -> None:
    now = box.clock.wall_now()
    await box.outbox.enqueue([], {1: now})
    await enqueue(box, slots(now - HISTORY - 20 * HOUR, 1))
    (row,) = await batch(box)
    assert row.prior == now


async def test_batch_never_mixes_priors(box: Box) -> None:
    some = slots(box.clock.wall_now() - HOUR, 4)
    await enqueue(box, some[:2])
    await accept(box, await batch(box))
    await enqueue(box, [Slot(1, some[0].start, QUARTER, 7.0), some[2]])
    await box.clock.advance(timedelta(minutes=1))
    await enqueue(box, [Slot(1, some[1].start, QUARTER, 8.0), some[3]])
    seen = []
    while rows := await batch(box):
        assert len({row.prior for row in rows}) == 1
        seen += [row.slot.value for row in rows]
        await accept(box, rows)
    assert sorted(seen) == [2, 3, 7, 8]


@pytest.mark.parametrize("value", [math.nan, math.inf])
async def test_slot_that_is_no_number_is_set_aside_at_once(box: Box, value: float) -> None:
    start = box.clock.wall_now() - HOUR
    for _ in range(2):
        await enqueue(box, [Slot(1, start, QUARTER, value), Slot(1, start + QUARTER, QUARTER, 1)])
    assert [row.slot.value for row in await batch(box)] == [1]
    (aside,) = await box.outbox.rejected(10)
    assert aside.reason == "not a number"


async def test_sensor_with_a_new_resolution_keeps_its_watermark(box: Box) -> None:
    start = box.clock.wall_now() - 2 * HOUR
    await enqueue(box, slots(start, 4))
    fine = Slot(1, start + HOUR, timedelta(minutes=5), 3.5)
    await box.outbox.enqueue([fine], {})
    await box.buffer.commit()
    assert await box.outbox.watermark(1) == start + HOUR
    assert {row.slot.event_resolution for row in await batch(box)} == {QUARTER}
    seen = []
    while rows := await batch(box):
        seen += [row.slot for row in rows]
        await accept(box, rows)
    assert fine in seen
    assert len(seen) == 5


async def test_another_flexmeasures_starts_empty(box: Box) -> None:
    now = box.clock.wall_now()
    await enqueue(box, slots(now - HOUR, 4))
    await accept(box, (await batch(box))[:1])
    await box.outbox.forget_all()
    await box.restart()
    assert await batch(box) == []
    assert await box.outbox.watermark(1) is None
    assert await box.outbox.history(1, now - HOUR, now) == []


async def test_verdict_for_a_slot_that_is_gone_changes_nothing(box: Box) -> None:
    await enqueue(box, slots(box.clock.wall_now() - HOUR, 1))
    rows = await batch(box)
    await accept(box, rows)
    await accept(box, rows)
    assert (await box.outbox.counts()).accepted_total == 1
