"""Slots from the outbox to FlexMeasures, at this box's own pace.

Fresh slots leave once a period, at the box's own moment in it; what is older follows as far as the
server has room. Nothing leaves while the clock is not trusted, nothing while the server wants to
be left alone. What becomes of each slot is offering.py's business.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from edge.clock import MILLISECOND, Clock
from edge.model import Sensor
from edge.store.outbox import FRESH, Outbox, OutboxSlot, Verdict
from edge.supervise import first_to_fail
from edge.uplink.connection import Away
from edge.uplink.offering import JOBS_OPEN_MAX, Offering, Server
from edge.uplink.pacing import Pacing

TICK = timedelta(seconds=1)
FIRST_TICK = timedelta(milliseconds=20)  # after work: more of it may be about to be committed
HANDS = 2  # one batch is under way while the next is made ready
BATCH_SLOTS_MAX = 200  # larger batches cost the server far more when they have to be repeated
BACKFILL_FOR = timedelta(seconds=10)  # at a stretch; then fresh slots and jobs have their turn
OUTAGE_AFTER = timedelta(minutes=15)  # a shorter silence is no outage: the pace stays
RATE_OVER = timedelta(minutes=1)

_OLDEST_FIRST = datetime(2100, 1, 1, tzinfo=UTC)  # seen from here nothing is fresh


@dataclass(frozen=True, slots=True)
class Progress:
    """How fast slots leave. `done_by` is an estimate, None where there is nothing to estimate."""

    slots_per_minute: float
    done_by: datetime | None


class Shipping:
    """The uplink's sender. `server` and `sensors` are asked each round: None and nothing while the
    box is not paired. `beat` runs with each upload: the box's own health goes with it."""

    def __init__(
        self,
        outbox: Outbox,
        server: Callable[[], Server | None],
        sensors: Callable[[], Sequence[Sensor]],
        clock: Clock,
        pacing: Pacing,
        beat: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._outbox = outbox
        self._find_server = server
        self._sensors = sensors
        self._clock = clock
        self._pacing = pacing
        self._beat = beat
        self._offering = Offering(outbox, clock, self._note_accepted)
        self._server: Server | None = None
        self._known: dict[int, Sensor] | None = None
        self._next_upload: datetime | None = None
        self._quiet_ms = 0  # the server wants to be left alone until then
        self._backfill_ms = 0  # old slots wait until then
        self._heard_ms: int | None = None
        self._recent: deque[tuple[int, int]] = deque(maxlen=1000)  # when, how many were accepted
        self._taking, self._turn = asyncio.Lock(), asyncio.Lock()
        self._under_way: set[int] = set()  # rows that are in somebody's hands
        self._sent = 0  # batches
        self.last_accepted: datetime | None = None

    @property
    def refused(self) -> dict[int, str]:
        """Sensors that take nothing until a person acts, and why."""
        return self._offering.refused

    async def run(self) -> None:
        """Ship for ever. Raises Unreachable, Refused, Malformed: keep_running() waits."""
        pause = FIRST_TICK
        while True:
            pause = FIRST_TICK if await self.round() else min(pause * 2, TICK)
            await self._clock.sleep(pause)

    async def round(self) -> bool:
        """Do what is to be done now; True if old slots were sent."""
        server = self._find_server()
        if server is None or not self._clock.is_trusted() or self._now_ms() < self._quiet_ms:
            return False
        if server is not self._server:
            self._server = server
            self._offering.try_again()
        sensors = await self._look_at_sensors()
        try:
            await self._offering.ask_jobs(server, sensors)
            await self._upload_fresh(server, sensors)
            return await self._backfill(server, sensors)
        except Away as problem:
            if problem.retry_after is None:
                raise
            pause = self._pacing.retry_after(problem.retry_after)
            self._quiet_ms = self._now_ms() + pause // MILLISECOND
            return False

    def progress(self, waiting: int) -> Progress:
        """How fast slots leave, and until when that takes for those that wait."""
        since_ms = self._now_ms() - RATE_OVER // MILLISECOND
        recent = sum(count for at_ms, count in self._recent if at_ms >= since_ms)
        per_minute = recent / (RATE_OVER / timedelta(minutes=1))
        done_by = None
        if waiting and per_minute:
            done_by = self._clock.wall_now() + timedelta(minutes=waiting / per_minute)
        return Progress(per_minute, done_by)

    # --- inside ---------------------------------------------------------------------------------

    async def _look_at_sensors(self) -> dict[int, Sensor]:
        """The sensors to serve. Changed ones are served at once, because a person is looking; after
        a start it is different: a power cut starts the boxes of a whole street."""
        sensors = {sensor.sensor_id: sensor for sensor in self._sensors()}
        if self._known is None:
            now = self._clock.wall_now()
            oldest = (await self._outbox.counts()).oldest_waiting
            self._note_silence(timedelta(0) if oldest is None else now - oldest)
            self._next_upload = self._pacing.next_upload(now)
        elif sensors != self._known:
            self._next_upload = None
            self._offering.try_again()
        self._known = sensors
        return sensors

    async def _upload_fresh(self, server: Server, sensors: dict[int, Sensor]) -> None:
        now = self._clock.wall_now()
        if not self._is_upload_time(now):
            return
        while (batch := await self._next(sensors, now)) and _is_fresh(batch, now):
            sensor = sensors[batch[0].slot.sensor_id]
            if rows := await self._offering.missing(server, sensor, batch):
                await self._send(server, sensor, rows)
        if self._beat is not None:
            await self._beat()
        self._next_upload = self._pacing.next_upload(now)

    async def _backfill(self, server: Server, sensors: dict[int, Sensor]) -> bool:
        """Send what is older, for a while; True if something was sent.

        FlexMeasures gets one post after the other and never waits for us: while it stores a batch
        the other hand writes the verdicts of the one before and makes the next one ready.
        """
        until_ms = self._now_ms() + BACKFILL_FOR // MILLISECOND
        sent = self._sent
        self._under_way.clear()
        await first_to_fail(*(self._hand(server, sensors, until_ms) for _ in range(HANDS)))
        return self._sent > sent

    async def _hand(self, server: Server, sensors: dict[int, Sensor], until_ms: int) -> None:
        while self._may_backfill(until_ms):
            async with self._taking:
                batch = await self._next(sensors, _OLDEST_FIRST)
                if not batch or _is_fresh(batch, self._clock.wall_now()):
                    return
                row_ids = {row.row_id for row in batch}
                self._under_way |= row_ids
                sensor = sensors[batch[0].slot.sensor_id]
                with self._doubted_if_broken_off(sensor):
                    rows = await self._offering.missing(server, sensor, batch)
            if rows:
                await self._send(server, sensor, rows, until_ms)
            self._under_way -= row_ids

    def _may_backfill(self, until_ms: int) -> bool:
        now_ms = self._now_ms()
        is_time = self._backfill_ms <= now_ms < until_ms
        return is_time and not self._is_upload_time(self._clock.wall_now())

    async def _send(
        self,
        server: Server,
        sensor: Sensor,
        rows: Sequence[OutboxSlot],
        until_ms: int | None = None,
    ) -> None:
        """Offer slots and settle them; those of backfill (with until_ms) only if they still may."""
        with self._doubted_if_broken_off(sensor):
            async with self._turn:
                if until_ms is not None and not self._may_backfill(until_ms):
                    return
                verdicts = await self._offering.offer(server, sensor, rows)
                self._sent += 1
                self._note_heard(server, is_backfill=until_ms is not None)
            await self._offering.settle(sensor, verdicts)

    @contextmanager
    def _doubted_if_broken_off(self, sensor: Sensor) -> Iterator[None]:
        try:
            yield
        except asyncio.CancelledError:
            self._offering.doubt(sensor)
            raise

    def _note_heard(self, server: Server, *, is_backfill: bool) -> None:
        now_ms = self._now_ms()
        if self._heard_ms is not None:
            self._note_silence(timedelta(milliseconds=now_ms - self._heard_ms))
        self._heard_ms = now_ms
        if is_backfill:
            pause = self._pacing.pause(server.allowance)
            self._backfill_ms = max(self._backfill_ms, now_ms + pause // MILLISECOND)

    def _is_upload_time(self, now: datetime) -> bool:
        """Also where the clock was set back: the next upload is never further than a period."""
        next_upload = self._next_upload
        return next_upload is None or not now < next_upload <= now + self._pacing.upload_every

    async def _next(self, sensors: dict[int, Sensor], now: datetime) -> list[OutboxSlot]:
        if self._offering.jobs_open >= JOBS_OPEN_MAX:
            return []
        skip = self._offering.paused()
        while batch := await self._outbox.next_batch(BATCH_SLOTS_MAX, now, skip, self._under_way):
            if batch[0].slot.sensor_id in sensors:
                break
            if sensors:  # none at all is no person's wish
                verdict = (Verdict.REJECT, "its meter is no longer mapped to this sensor")
                await self._outbox.settle({row.row_id: verdict for row in batch})
            else:
                skip.add(batch[0].slot.sensor_id)
        return batch

    def _note_silence(self, silence: timedelta) -> None:
        """After an outage old slots wait: the other boxes of the server are back too."""
        if silence >= OUTAGE_AFTER:
            pause = self._pacing.backfill_after(silence)
            self._backfill_ms = self._now_ms() + pause // MILLISECOND

    def _note_accepted(self, count: int) -> None:
        self.last_accepted = self._clock.wall_now()
        self._recent.append((self._now_ms(), count))

    def _now_ms(self) -> int:
        return self._clock.boottime_ms()


def _is_fresh(batch: Sequence[OutboxSlot], now: datetime) -> bool:
    first = batch[0].slot
    return first.start + first.event_resolution >= now - FRESH
