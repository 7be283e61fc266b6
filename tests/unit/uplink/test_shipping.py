import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from edge.store.outbox import OutboxSlot
from edge.uplink.flexmeasures import Away
from edge.uplink.pacing import UPLOAD_EVERY, Allowance, Pacing
from edge.uplink.shipping import BATCH_SLOTS_MAX, OUTAGE_AFTER
from tests.unit.uplink.sender import DAY, FIVE, NOON, Box, FakeServer


async def test_fresh_slots_leave_within_a_period_and_are_accepted(box: Box) -> None:
    starts = await box.due(3)
    await box.ship()
    assert box.held() == starts
    assert await box.waiting() == 0
    assert box.shipping.last_accepted is not None


async def test_uploads_come_once_a_period_at_the_box_s_own_moment(
    box: Box, server: FakeServer
) -> None:
    for _ in range(3):
        await box.due(1)
        await box.ship()
    assert len(server.posts) == len(box.beats) == 3
    place = Pacing("box").offset("upload", UPLOAD_EVERY)
    for moment in box.beats:
        late = (moment - datetime(1970, 1, 1, tzinfo=UTC) - place) % UPLOAD_EVERY
        assert late <= timedelta(seconds=10)


async def test_nothing_leaves_while_the_clock_is_not_trusted(box: Box, server: FakeServer) -> None:
    await box.due(300)
    box.clock.trusted = False
    await box.ship(timedelta(hours=1))
    assert server.posts == []
    assert server.questions == 0


async def test_nothing_leaves_while_the_box_is_not_paired(box: Box) -> None:
    await box.due(300)
    box.server = None
    await box.ship(timedelta(hours=1))
    assert await box.waiting() == 300


async def test_old_slots_leave_oldest_first_in_batches(box: Box, server: FakeServer) -> None:
    starts = await box.due(500, until=NOON - DAY)
    await box.shipping.round()
    assert [at for _, batch in server.posts for at in batch] == starts
    assert max(len(batch) for _, batch in server.posts) == BATCH_SLOTS_MAX


async def test_next_batch_is_made_ready_while_one_is_under_way(
    box: Box, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = await box.due(400, until=NOON - DAY)
    next_is_ready = asyncio.Event()
    next_batch = box.outbox.next_batch

    async def noted(*args: Any) -> list[OutboxSlot]:
        rows = await next_batch(*args)
        if [row.slot.start for row in rows] == starts[200:]:
            next_is_ready.set()
        return rows

    async def until_the_next_is_ready() -> None:
        async with asyncio.timeout(5):
            await next_is_ready.wait()

    monkeypatch.setattr(box.outbox, "next_batch", noted)
    server.before_answer = until_the_next_is_ready
    await box.shipping.round()
    assert box.held() == starts


async def test_fresh_slots_go_before_old_ones(box: Box, server: FakeServer) -> None:
    await box.shipping.round()
    await box.due(3, until=NOON - DAY)
    fresh = await box.due(2, sensor_id=2, until=NOON + UPLOAD_EVERY)
    await box.clock.advance(UPLOAD_EVERY)
    await box.shipping.round()
    assert server.posts[0] == (2, fresh)


async def test_after_an_outage_old_slots_wait_for_the_box_s_turn(
    box: Box, server: FakeServer
) -> None:
    pacing = Pacing("box")
    await box.due(300, until=NOON - timedelta(hours=2))
    oldest = NOON - timedelta(hours=2) - 300 * FIVE
    wait = pacing.backfill_after(NOON - oldest)
    assert wait > timedelta(minutes=1)
    box.start(pacing)
    await box.ship(wait - timedelta(seconds=20))
    assert server.posts == []
    await box.ship(timedelta(minutes=1))
    assert len(box.held()) == 300


async def test_silence_of_the_server_counts_as_an_outage(box: Box, server: FakeServer) -> None:
    box.start(Pacing("box"))
    await box.due(1)
    await box.ship()
    box.server = None
    await box.clock.advance(OUTAGE_AFTER)
    box.server = server
    await box.due(1, until=box.clock.wall_now())
    old = await box.due(1, sensor_id=2, until=NOON - timedelta(hours=3))
    await box.ship(UPLOAD_EVERY)
    assert len(box.held(1)) == 2
    await box.ship(timedelta(minutes=5))
    assert box.held(2) == old


async def test_backfill_leaves_the_last_requests_of_the_limit_to_fresh_slots(
    box: Box, server: FakeServer
) -> None:
    server.allowance = Allowance(500, 50, timedelta(seconds=30))
    await box.due(600, until=NOON - DAY)
    await box.shipping.round()
    assert len(server.posts) == 1
    await box.ship(timedelta(minutes=5))
    assert len(box.held()) == 600


async def test_mapping_that_a_person_changes_is_served_at_once(
    box: Box, server: FakeServer
) -> None:
    box.sensors, both = box.sensors[:1], box.sensors
    await box.ship()
    starts = await box.due(1, sensor_id=2)
    box.sensors = both
    await box.shipping.round()
    assert server.posts == [(2, starts)]


async def test_slots_of_a_sensor_that_is_no_longer_mapped_are_set_aside(box: Box) -> None:
    await box.due(2, sensor_id=2)
    await box.due(2, sensor_id=1)
    box.sensors = box.sensors[:1]
    await box.ship()
    assert len(box.held(1)) == 2
    assert await box.waiting() == 0
    reasons = {row.reason for row in await box.outbox.rejected(10)}
    assert reasons == {"its meter is no longer mapped to this sensor"}


async def test_lost_mapping_sets_nothing_aside(box: Box) -> None:
    await box.due(2)
    box.sensors = []
    await box.ship()
    assert await box.waiting() == 2


async def test_clock_that_is_set_back_does_not_stop_the_uploads(box: Box) -> None:
    await box.due(1)
    await box.ship()
    box.clock.step_wall(-timedelta(days=30))
    starts = await box.due(1, sensor_id=2)
    await box.ship()
    assert box.held(2) == starts


async def test_server_that_wants_to_be_left_alone_is(box: Box, server: FakeServer) -> None:
    await box.due(3, until=NOON - DAY)
    asked: list[datetime] = []

    def busy(_: int) -> Exception:
        asked.append(box.clock.wall_now())
        return Away("slower", retry_after=timedelta(minutes=3), status=429)

    server.trouble = busy
    await box.ship(timedelta(minutes=9))
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert min(gaps) >= timedelta(minutes=3)
    assert len(gaps) >= 1


async def test_progress_tells_how_fast_slots_leave_and_until_when(
    box: Box, server: FakeServer
) -> None:
    await box.due(600, until=NOON - DAY)
    server.allowance = Allowance(500, 50, timedelta(seconds=10))
    await box.shipping.round()
    await box.buffer.commit()
    progress = box.shipping.progress(await box.waiting())
    assert progress.slots_per_minute == 200
    assert progress.done_by == box.clock.wall_now() + timedelta(minutes=2)
    await box.ship(timedelta(minutes=10))
    assert box.shipping.progress(await box.waiting()).done_by is None
