from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from edge.errors import Refused, Unreachable
from edge.model import Sensor, Slot, Term
from edge.store.buffer import Buffer
from edge.store.outbox import Outbox, OutboxSlot, Verdict
from edge.uplink.flexmeasures import Away, LogInRefused, Posted, SensorRefused
from edge.uplink.offering import JOBS_OPEN_MAX, REJECTS_IN_A_ROW_MAX, SENSOR_PAUSE
from edge.uplink.pacing import UPLOAD_EVERY, Allowance, Pacing
from edge.uplink.shipping import BATCH_SLOTS_MAX, OUTAGE_AFTER, Shipping
from edge.uplink.verdict import JobEnd, JobState
from tests.house.fake_clock import FakeClock

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIVE = timedelta(minutes=5)
DAY = timedelta(days=1)


class FakeServer:
    """Behaves as the client in front of a FlexMeasures; knows what it was asked."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.held: dict[tuple[int, datetime], float] = {}
        self.posts: list[tuple[int, list[datetime]]] = []
        self.questions = 0
        self.poison: set[float] = set()
        self.in_jobs = False
        self.jobs: dict[str, tuple[JobState, Sensor, Sequence[OutboxSlot]]] = {}
        self.trouble: Callable[[int], Exception | None] = lambda _: None
        self.loses_answers = False
        self.allowance: Allowance | None = None

    async def post_slots(self, sensor: Sensor, slots: Sequence[OutboxSlot]) -> Posted:
        self._raise_trouble(sensor.sensor_id)
        self.posts.append((sensor.sensor_id, [row.slot.start for row in slots]))
        if self.in_jobs:
            job = f"job-{len(self.jobs)}"
            self.jobs[job] = (JobState(JobEnd.OPEN), sensor, slots)
            return Posted({}, job=job)
        if any(row.slot.value in self.poison for row in slots):
            if len(slots) > 1:
                return Posted({}, split=True)
            return Posted({slots[0].row_id: (Verdict.REJECT, "no such value")})
        self._store(sensor, slots)
        if self.loses_answers:
            raise Away("took too long", may_have_arrived=True)
        return Posted({row.row_id: (Verdict.ACCEPT, "") for row in slots})

    async def job(self, job_id: str) -> JobState:
        self._raise_trouble(0)
        return self.jobs[job_id][0]

    async def stored(self, sensor: Sensor, start: datetime, end: datetime) -> dict[datetime, float]:
        self._raise_trouble(sensor.sensor_id)
        self.questions += 1
        return {
            at: value
            for (number, at), value in self.held.items()
            if number == sensor.sensor_id and start <= at < end
        }

    def end_jobs(self, end: JobEnd, reason: str = "") -> None:
        for job, (state, sensor, slots) in self.jobs.items():
            if state.end is JobEnd.OPEN:
                self.jobs[job] = (JobState(end, reason), sensor, slots)
                if end is JobEnd.FINISHED:
                    self._store(sensor, slots)

    def _store(self, sensor: Sensor, slots: Sequence[OutboxSlot]) -> None:
        for row in slots:
            assert (sensor.sensor_id, row.slot.start) not in self.held, "stored twice"
            self.held[sensor.sensor_id, row.slot.start] = row.slot.value

    def _raise_trouble(self, sensor_id: int) -> None:
        if (problem := self.trouble(sensor_id)) is not None:
            raise problem


class Box:
    """An outbox and its sender, in front of the fake server."""

    def __init__(self, buffer: Buffer, outbox: Outbox, clock: FakeClock) -> None:
        self.buffer, self.outbox, self.clock = buffer, outbox, clock
        self.server: FakeServer | None = FakeServer(clock)
        self.sensors = [Sensor(n, f"s{n}", "kW", FIVE, (Term(f"c{n}"),)) for n in (1, 2)]
        self.beats: list[datetime] = []
        self.start()

    def start(self, pacing: Pacing | None = None) -> None:
        """As after a restart of the agent."""
        self.shipping = Shipping(
            self.outbox,
            lambda: self.server,
            lambda: self.sensors,
            self.clock,
            pacing or Pacing("box", backfill_spread_max=timedelta(0)),
            self._beat,
        )

    async def _beat(self) -> None:
        self.beats.append(self.clock.wall_now())

    async def due(
        self, count: int, *, sensor_id: int = 1, until: datetime | None = None, value: float = 1.0
    ) -> list[datetime]:
        """Slots in the outbox that end by `until`; values count up from `value`."""
        until = until or self.clock.wall_now()
        starts = [until - n * FIVE for n in range(count, 0, -1)]
        slots = [Slot(sensor_id, at, FIVE, value + n) for n, at in enumerate(starts)]
        await self.outbox.enqueue(slots, {sensor_id: until})
        await self.buffer.commit()
        return starts

    async def ship(self, span: timedelta = UPLOAD_EVERY) -> None:
        """Let the sender work for a while, as its loop does."""
        end_ms = self.clock.boottime_ms() + span // timedelta(milliseconds=1)
        while self.clock.boottime_ms() < end_ms:
            if not await self.shipping.round():
                await self.clock.advance(timedelta(seconds=10))
            await self.buffer.commit()

    def held(self, sensor_id: int = 1) -> list[datetime]:
        assert self.server is not None
        return sorted(at for number, at in self.server.held if number == sensor_id)

    async def waiting(self) -> int:
        counts = await self.outbox.counts()
        return counts.waiting + counts.in_jobs


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    clock = FakeClock(NOON)
    buffer = await Buffer.open(tmp_path / "buffer.db", clock)
    yield Box(buffer, await Outbox.open(buffer), clock)
    await buffer.close()


@pytest.fixture
def server(box: Box) -> FakeServer:
    assert box.server is not None
    return box.server


# --- when ----------------------------------------------------------------------------------------


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


async def test_slots_of_a_sensor_that_is_no_longer_mapped_stay_and_hold_nobody_up(
    box: Box, server: FakeServer
) -> None:
    await box.due(2, sensor_id=2)
    await box.due(2, sensor_id=1)
    box.sensors = box.sensors[:1]
    await box.ship()
    assert len(box.held(1)) == 2
    assert await box.waiting() == 2


async def test_clock_that_is_set_back_does_not_stop_the_uploads(box: Box) -> None:
    await box.due(1)
    await box.ship()
    box.clock.step_wall(-timedelta(days=30))
    starts = await box.due(1, sensor_id=2)
    await box.ship()
    assert box.held(2) == starts


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


# --- progress ------------------------------------------------------------------------------------


async def test_progress_tells_how_many_wait_and_until_when(box: Box, server: FakeServer) -> None:
    await box.due(600, until=NOON - DAY)
    server.allowance = Allowance(500, 50, timedelta(seconds=10))
    await box.shipping.round()
    await box.buffer.commit()
    progress = await box.shipping.progress()
    assert (progress.waiting, progress.slots_per_minute) == (400, 200)
    assert progress.done_by == box.clock.wall_now() + timedelta(minutes=2)
    await box.ship(timedelta(minutes=10))
    progress = await box.shipping.progress()
    assert (progress.waiting, progress.done_by) == (0, None)
