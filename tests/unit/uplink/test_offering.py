import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest

from edge.errors import Refused, Unreachable
from edge.model import Sensor, Term
from edge.uplink.flexmeasures import Away, LogInRefused, SensorRefused
from edge.uplink.offering import JOBS_OPEN_MAX, REJECTS_IN_A_ROW_MAX, SENSOR_PAUSE
from edge.uplink.shipping import BATCH_SLOTS_MAX
from edge.uplink.verdict import JobEnd
from tests.unit.uplink.sender import DAY, FIVE, NOON, Box, FakeServer

# --- no answer -----------------------------------------------------------------------------------


async def test_server_that_is_away_settles_nothing(box: Box, server: FakeServer) -> None:
    await box.due(3, until=NOON - DAY)
    server.trouble = lambda _: Away("no route")
    with pytest.raises(Unreachable):
        await box.ship()
    assert await box.waiting() == 3
    server.trouble = lambda _: None
    await box.ship()
    assert await box.waiting() == 0


async def test_answer_lost_after_the_server_stored_is_asked_for_not_posted_again(
    box: Box, server: FakeServer
) -> None:
    starts = await box.due(200, until=NOON - DAY)
    server.loses_answers = True
    with pytest.raises(Unreachable):
        await box.shipping.round()
    server.loses_answers = False
    await box.ship()
    assert box.held() == starts
    assert len(server.posts) == 1
    assert await box.waiting() == 0


async def test_restart_in_the_middle_of_a_post_asks_what_arrived(
    box: Box, server: FakeServer
) -> None:
    starts = await box.due(200, until=NOON - DAY)
    for number, at in enumerate(starts[:120]):
        server.held[1, at] = 1.0 + number
    box.start()
    await box.ship()
    assert [len(batch) for _, batch in server.posts] == [80]
    assert box.held() == starts


async def test_all_whose_verdicts_were_lost_with_the_power_are_asked_for_not_posted_again(
    box: Box, server: FakeServer
) -> None:
    starts = await box.due(700, until=NOON - DAY)
    for number, at in enumerate(starts[:450]):
        server.held[1, at] = 1.0 + number
    box.start()
    await box.ship()
    assert [len(batch) for _, batch in server.posts] == [150, 100]
    assert box.held() == starts
    assert server.questions == 3


async def test_post_that_is_broken_off_is_asked_for_not_posted_again(
    box: Box, server: FakeServer
) -> None:
    starts = await box.due(500, until=NOON - DAY)
    posted = asyncio.Event()

    async def never() -> None:
        posted.set()
        await asyncio.Event().wait()

    server.after_storing = never
    shipping = asyncio.ensure_future(box.shipping.round())
    await posted.wait()
    shipping.cancel()
    with suppress(asyncio.CancelledError):
        await shipping
    server.after_storing = server.before_answer
    await box.ship()
    assert box.held() == starts  # and the server says so where something comes twice


async def test_wrong_password_reaches_a_person(box: Box, server: FakeServer) -> None:
    await box.due(3, until=NOON - DAY)
    server.trouble = lambda _: LogInRefused("refuses the password")
    with pytest.raises(Refused, match="password"):
        await box.shipping.round()
    assert await box.waiting() == 3


# --- refused -------------------------------------------------------------------------------------


async def test_refused_batch_is_halved_until_the_guilty_slot_is_alone(
    box: Box, server: FakeServer
) -> None:
    starts = await box.due(200, until=NOON - DAY)
    server.poison = {74.0}
    await box.ship()
    assert box.held() == starts[:73] + starts[74:]
    (rejected,) = await box.outbox.rejected(10)
    assert (rejected.slot.start, rejected.reason) == (starts[73], "no such value")
    assert len(server.posts) <= 1 + 2 * 8  # 200 slots are halved eight times
    assert await box.waiting() == 0


async def ship_until_settled(box: Box, rounds: int) -> None:
    """As the supervisor does: a failed round is followed by another one."""
    for _ in range(rounds):
        with suppress(Unreachable):
            await box.ship(timedelta(minutes=30))


async def test_value_on_which_the_server_breaks_does_not_hold_up_the_others(
    box: Box, server: FakeServer
) -> None:
    starts = await box.due(200, until=NOON - DAY)
    server.fatal = {74.0, 75.0}
    await ship_until_settled(box, 6)
    assert box.held() == starts[:73] + starts[75:]
    rejected = {row.slot.start for row in await box.outbox.rejected(10)}
    assert rejected == set(starts[73:75])
    assert await box.waiting() == 0


async def test_single_value_on_which_the_server_breaks_holds_up_no_other_sensor(
    box: Box, server: FakeServer
) -> None:
    await box.due(1, until=NOON - DAY)
    server.fatal = {1.0}
    await ship_until_settled(box, 6)
    assert await box.waiting() == 1  # so far it may be the server
    others = await box.due(10, sensor_id=2, until=NOON - DAY, value=1000.0)
    await ship_until_settled(box, 6)
    assert box.held(2) == others
    assert (await box.outbox.counts()).rejected_total == 1
    assert await box.waiting() == 0


async def test_server_that_breaks_on_everything_loses_nothing(box: Box, server: FakeServer) -> None:
    starts = await box.due(50, until=NOON - DAY)
    server.fatal = {1.0 + n for n in range(50)}
    await ship_until_settled(box, 12)
    assert (await box.outbox.counts()).rejected_total == 0
    assert await box.waiting() == 50
    server.fatal = set()
    await ship_until_settled(box, 1)
    assert box.held() == starts


async def test_rejected_slot_is_never_offered_again(box: Box, server: FakeServer) -> None:
    await box.due(1, until=NOON - DAY)
    server.poison = {1.0}
    await box.ship(timedelta(minutes=30))
    assert len(server.posts) == 1


async def test_sensor_that_refuses_every_value_is_left_alone_and_named(
    box: Box, server: FakeServer
) -> None:
    await box.due(200, until=NOON - DAY)
    others = await box.due(10, sensor_id=2, until=NOON - DAY, value=1000.0)
    server.poison = {1.0 + n for n in range(200)}
    await box.ship()
    assert (await box.outbox.counts()).rejected_total == REJECTS_IN_A_ROW_MAX
    assert box.shipping.refused == {1: "no such value"}
    assert box.held(2) == others
    await box.clock.advance(SENSOR_PAUSE)
    await box.ship()
    assert (await box.outbox.counts()).rejected_total == REJECTS_IN_A_ROW_MAX + 1
    server.poison = set()
    await box.clock.advance(SENSOR_PAUSE)
    await box.ship()
    assert await box.waiting() == 0
    assert box.shipping.refused == {}


async def test_refused_sensor_does_not_hold_up_the_others(box: Box, server: FakeServer) -> None:
    await box.due(5, until=NOON - DAY)
    others = await box.due(5, sensor_id=2, until=NOON - DAY)
    server.trouble = lambda sensor_id: SensorRefused("gone", 1) if sensor_id == 1 else None
    await box.ship()
    assert box.held(2) == others
    assert box.shipping.refused == {1: "gone"}
    assert await box.waiting() == 5


async def test_changed_mapping_lets_a_refused_sensor_try_again(
    box: Box, server: FakeServer
) -> None:
    await box.due(5, until=NOON - DAY)
    server.trouble = lambda sensor_id: SensorRefused("gone", 1)
    await box.ship()
    server.trouble = lambda _: None
    box.sensors = [*box.sensors, Sensor(3, "s3", "kW", FIVE, (Term("c3"),))]
    await box.shipping.round()
    assert len(box.held()) == 5


# --- jobs ----------------------------------------------------------------------------------------


async def test_job_that_finishes_settles_its_slots(box: Box, server: FakeServer) -> None:
    await box.due(10, until=NOON - DAY)
    server.in_jobs = True
    await box.ship(timedelta(seconds=30))
    assert (await box.outbox.counts()).in_jobs == 10
    server.end_jobs(JobEnd.FINISHED)
    await box.ship(timedelta(seconds=30))
    assert await box.waiting() == 0
    assert len(server.posts) == 1


async def test_job_that_the_server_lost_is_asked_for_and_offered_again(
    box: Box, server: FakeServer
) -> None:
    starts = await box.due(10, until=NOON - DAY)
    server.in_jobs = True
    await box.ship(timedelta(seconds=30))
    questions = server.questions
    server.in_jobs = False
    server.end_jobs(JobEnd.LOST)
    await box.ship(timedelta(seconds=30))
    assert server.questions == questions + 1
    assert box.held() == starts


async def test_job_that_fails_for_a_value_is_halved(box: Box, server: FakeServer) -> None:
    starts = await box.due(8, until=NOON - DAY)
    server.in_jobs = True
    await box.ship(timedelta(seconds=30))
    server.in_jobs, server.poison = False, {3.0}
    server.end_jobs(JobEnd.GUILTY, "holds another value")
    await box.ship(timedelta(seconds=30))
    assert box.held() == starts[:2] + starts[3:]
    (rejected,) = await box.outbox.rejected(10)
    assert rejected.slot.value == 3.0


async def test_job_that_fails_for_its_only_value_rejects_it(box: Box, server: FakeServer) -> None:
    await box.due(1, until=NOON - DAY)
    server.in_jobs = True
    await box.ship(timedelta(seconds=30))
    server.end_jobs(JobEnd.GUILTY, "holds another value")
    await box.ship(timedelta(seconds=30))
    assert [row.reason for row in await box.outbox.rejected(10)] == ["holds another value"]


async def test_job_that_fails_for_the_server_s_own_reasons_is_tried_again_later(
    box: Box, server: FakeServer
) -> None:
    starts = await box.due(10, until=NOON - DAY)
    server.in_jobs = True
    await box.ship(timedelta(seconds=30))
    server.in_jobs = False
    server.end_jobs(JobEnd.FAILED, "disk full")
    await box.ship(timedelta(minutes=2))
    assert box.held() == []
    await box.ship(timedelta(minutes=5))
    assert box.held() == starts


async def test_server_whose_jobs_pile_up_gets_no_more(box: Box, server: FakeServer) -> None:
    await box.due(BATCH_SLOTS_MAX * (JOBS_OPEN_MAX + 5), until=NOON - DAY)
    server.in_jobs = True
    await box.ship(timedelta(minutes=1))
    assert len(server.posts) == JOBS_OPEN_MAX
