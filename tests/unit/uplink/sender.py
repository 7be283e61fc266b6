"""An outbox and its sender in front of a server that does as it is told, for the tests here."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

from edge.model import Sensor, Slot, Term
from edge.store.buffer import Buffer
from edge.store.outbox import Outbox, OutboxSlot, Verdict
from edge.uplink.flexmeasures import Away, Posted
from edge.uplink.pacing import UPLOAD_EVERY, Allowance, Pacing
from edge.uplink.shipping import Shipping
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
        self.fatal: set[float] = set()
        self.in_jobs = False
        self.jobs: dict[str, tuple[JobState, Sensor, Sequence[OutboxSlot]]] = {}
        self.trouble: Callable[[int], Exception | None] = lambda _: None
        self.loses_answers = False
        self.allowance: Allowance | None = None
        self.is_busy = False
        self.before_answer: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0)
        self.after_storing = self.before_answer

    async def post_slots(self, sensor: Sensor, slots: Sequence[OutboxSlot]) -> Posted:
        assert not self.is_busy, "two posts at a time"
        self.is_busy = True
        try:
            await self.before_answer()
            posted = self._answer(sensor, slots)
            await self.after_storing()
            return posted
        finally:
            self.is_busy = False

    def _answer(self, sensor: Sensor, slots: Sequence[OutboxSlot]) -> Posted:
        self._raise_trouble(sensor.sensor_id)
        self.posts.append((sensor.sensor_id, [row.slot.start for row in slots]))
        if self.in_jobs:
            job = f"job-{len(self.jobs)}"
            self.jobs[job] = (JobState(JobEnd.OPEN), sensor, slots)
            return Posted({}, job=job)
        if any(row.slot.value in self.fatal for row in slots):
            raise Away("it broke", may_have_arrived=True, status=500)
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
        for _ in range((end - start) // FIVE):  # a long span takes longer to answer
            await asyncio.sleep(0)
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
                await self.clock.advance(timedelta(seconds=30))
            await self.buffer.commit()

    def held(self, sensor_id: int = 1) -> list[datetime]:
        assert self.server is not None
        return sorted(at for number, at in self.server.held if number == sensor_id)

    async def waiting(self) -> int:
        counts = await self.outbox.counts()
        return counts.waiting + counts.in_jobs
