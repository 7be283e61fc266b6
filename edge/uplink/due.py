"""From committed readings to due slots in the outbox, sensor by sensor, window by window.

Works through what lies between each sensor's watermark and now, at most a few hours of readings at
a time, so a month of backlog needs no more memory than an afternoon. Late data moves the watermark
back; the outbox ignores slots it knows and turns changed ones into corrections. Nothing is
computed while the clock is not trusted: a slot has a wall time.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from edge.clock import MILLISECOND, Clock
from edge.errors import ConfigFault
from edge.model import Channel, Kind, Sensor, Slot
from edge.plausibility import Limits
from edge.store.buffer import Buffer
from edge.store.outbox import Outbox
from edge.uplink.resample import (
    SETTLING,
    check,
    due_slots,
    keys,
    reach,
    slot_start,
)

log = logging.getLogger(__name__)

ROUND_EVERY = timedelta(seconds=15)
WINDOW = timedelta(hours=2)  # 30 series every 10 s are 21 600 samples, about 4 MB
FAR = timedelta(minutes=15)  # sensors that look further than this are computed apart from the rest
COMMIT_SLOTS = 1000  # five full batches; what is not committed cannot leave
KEEP = timedelta(hours=48)  # readings stay this long after their slots: late data needs neighbours
KEEP_FAULTY = timedelta(days=30)  # and this long where a sensor cannot be fed until a person acts
FORGET_EVERY = timedelta(hours=1)
_EVER = datetime(1, 1, 1, tzinfo=UTC)


class DueSlots:
    """Fills the outbox. `sensors` and `channels` are asked each round: changes need no restart.

    `commit_every` is the buffer's: what was read may be that long on its way to the card.
    """

    def __init__(
        self,
        buffer: Buffer,
        outbox: Outbox,
        sensors: Callable[[], Sequence[Sensor]],
        channels: Callable[[], Mapping[str, Channel]],
        clock: Clock,
        *,
        commit_every: timedelta = timedelta(seconds=30),
        limits: Limits | None = None,
    ) -> None:
        self._buffer = buffer
        self._outbox = outbox
        self._sensors = sensors
        self._channels = channels
        self._clock = clock
        self._commit_every = commit_every
        self._limits = limits or Limits()
        self._watermarks: dict[int, datetime] = {}
        self._wait_ms: dict[int, int] = {}  # sensors that wait for a report, until when
        self._forgotten_ms: int | None = None
        self._uncommitted = 0
        self._horizon: datetime | None = None
        self.faults: dict[int, str] = {}  # sensors that cannot be fed, and why

    async def run(self) -> None:
        """Fill the outbox for ever, at our own pace."""
        while True:
            await self.round()
            await self._clock.sleep(ROUND_EVERY)

    async def round(self) -> None:
        """Enqueue everything that is due now."""
        if not self._clock.is_trusted():
            return
        await self._buffer.note_time()
        sensors = self._fit_sensors()
        for sensor in sensors:
            await self._find_watermark(sensor)
        marks = await self._reopen(sensors)
        await self._catch_up(sensors)
        if marks:
            await self._buffer.late_done(marks)  # not before: a crash must not lose them
        await self._forget(sensors)

    # --- inside ---------------------------------------------------------------------------------

    def _fit_sensors(self) -> list[Sensor]:
        fit, faults = [], {}
        for sensor in self._sensors():
            try:
                check(sensor, self._channels())
                fit.append(sensor)
            except ConfigFault as fault:
                faults[sensor.sensor_id] = str(fault)
        for sensor_id in faults.keys() - self.faults.keys():
            log.warning("%s", faults[sensor_id])
        self.faults = faults
        return fit

    async def _find_watermark(self, sensor: Sensor) -> None:
        """Where the work on this sensor stands; a new one starts with the oldest reading.

        The outbox knows best: a commit may have failed, or the box was paired anew. Late data
        moves only our own mark, which may therefore lie before the outbox's, never after it.
        """
        kept = await self._outbox.watermark(sensor.sensor_id)
        if kept is None:
            oldest = await self._buffer.oldest(keys(sensor))
            now = self._clock.wall_now()
            kept = slot_start(min(oldest or now, now), sensor.event_resolution)
            await self._outbox.enqueue([], {sensor.sensor_id: kept})
            self._watermarks[sensor.sensor_id] = kept
        kept = slot_start(kept, sensor.event_resolution)
        own = self._watermarks.get(sensor.sensor_id, kept)
        self._watermarks[sensor.sensor_id] = min(own, kept)

    async def _reopen(self, sensors: Sequence[Sensor]) -> dict[str, datetime]:
        """Move watermarks back to where late data may change a slot; return the marks it left.

        Below the horizon the neighbours of a late reading are gone, and a mean of what is left
        would be wrong; sums of intervals are whole or not there at all. What lies before a
        sensor's beginning is history its source tells as a whole.
        """
        marks = await self._buffer.late()
        moved = {}
        for sensor in sensors:
            late = [marks[key] for key in keys(sensor) if key in marks]
            watermark = self._watermarks[sensor.sensor_id]
            if not late or min(late) >= watermark:
                continue
            start = min(late) - reach(sensor, self._channels())
            began = await self._outbox.began(sensor.sensor_id)
            if began is None or start >= began:
                start = max(start, self._whole_from(sensor))
            self._wait_ms.pop(sensor.sensor_id, None)
            moved[sensor.sensor_id] = min(watermark, slot_start(start, sensor.event_resolution))
        self._watermarks |= moved
        return marks

    async def _sound(self, sensor: Sensor, slots: Sequence[Slot]) -> Sequence[Slot]:
        """Without means made of what the horizon left, between the sensor's beginning and it."""
        whole_from = self._whole_from(sensor)
        if not slots or slots[0].start >= whole_from:
            return slots
        began = await self._outbox.began(sensor.sensor_id) or _EVER
        return [slot for slot in slots if slot.start >= whole_from or slot.start < began]

    def _whole_from(self, sensor: Sensor) -> datetime:
        """From when on all readings of a mean are still there."""
        if self._horizon is None or not self._has_power(sensor):
            return _EVER
        return self._horizon + reach(sensor, self._channels())

    def _has_power(self, sensor: Sensor) -> bool:
        channels = self._channels()
        return any(
            channels[key].kind is Kind.INSTANTANEOUS for key in keys(sensor) if key in channels
        )

    async def _catch_up(self, sensors: Sequence[Sensor]) -> None:
        now = self._committed_until()
        waiting = {sensor.sensor_id: sensor for sensor in sensors}
        while True:
            waiting = {i: s for i, s in waiting.items() if self._is_behind(s, now)}
            if not waiting:
                return
            first = min(waiting.values(), key=lambda sensor: self._watermarks[sensor.sensor_id])
            end = self._watermarks[first.sensor_id] + WINDOW
            group = [
                sensor
                for sensor_id, sensor in waiting.items()
                if self._watermarks[sensor_id] < end and self._far(sensor) == self._far(first)
            ]
            for sensor_id in await self._fill(group, end, now):
                self._let_wait(waiting.pop(sensor_id))

    def _far(self, sensor: Sensor) -> timedelta:
        """How far its readings must be looked for; what is near is looked for together."""
        return max(reach(sensor, self._channels()), FAR)

    def _let_wait(self, sensor: Sensor) -> None:
        """Nothing more can be made of this one before its counter reports again: looking each
        round would mean to read hours of readings in vain."""
        slowest = reach(sensor, self._channels())
        self._wait_ms[sensor.sensor_id] = self._clock.boottime_ms() + slowest / 12 // MILLISECOND

    def _committed_until(self) -> datetime:
        return self._clock.wall_now() - self._commit_every

    def _is_behind(self, sensor: Sensor, now: datetime) -> bool:
        is_waiting = self._clock.boottime_ms() < self._wait_ms.get(sensor.sensor_id, 0)
        slot_end = self._watermarks[sensor.sensor_id] + sensor.event_resolution
        return not is_waiting and slot_end + SETTLING <= now

    async def _fill(self, group: Sequence[Sensor], end: datetime, now: datetime) -> list[int]:
        """Compute one window of these sensors; return those that must wait for more readings."""
        channels = self._channels()
        far = self._far(group[0])
        start = min(self._watermarks[sensor.sensor_id] for sensor in group)
        last = max(slot_start(end, s.event_resolution) + s.event_resolution for s in group)
        wanted = {key for sensor in group for key in keys(sensor)}
        samples = await self._buffer.samples(wanted, start - far, last + far)
        slots: list[Slot] = []
        until: dict[int, datetime] = {}
        for sensor in group:
            window = (self._watermarks[sensor.sensor_id], end)
            due = due_slots(sensor, channels, samples, window, now, self._limits)
            slots += await self._sound(sensor, due.slots)
            until[sensor.sensor_id] = due.until
            await self._clock.sleep(timedelta(0))  # what waits for the loop goes first
        if not any(samples.values()):
            until |= await self._next_stretch(group, last + far, now)
        await self._outbox.enqueue(slots, until)
        await self._commit_many(len(slots))
        stuck = [i for i, moment in until.items() if moment <= self._watermarks[i]]
        self._watermarks |= until
        return stuck

    async def _next_stretch(
        self, group: Sequence[Sensor], known_until: datetime, now: datetime
    ) -> dict[int, datetime]:
        """Where these sensors, of which nothing was read before known_until, have readings again:
        months without a device are passed in one step."""
        if known_until >= now:
            return {}
        wanted = {key for sensor in group for key in keys(sensor)}
        begins = min(await self._buffer.oldest(wanted, known_until) or now, now)
        begins = max(begins, known_until) - self._far(group[0])
        return {sensor.sensor_id: slot_start(begins, sensor.event_resolution) for sensor in group}

    async def _commit_many(self, enqueued: int) -> None:
        """While catching up, let slots leave as soon as there are some worth a commit."""
        self._uncommitted += enqueued
        if self._uncommitted >= COMMIT_SLOTS:
            self._uncommitted = 0
            await self._buffer.commit()

    async def _forget(self, sensors: Sequence[Sensor]) -> None:
        """Let readings go whose slots are computed, told and old."""
        now_ms = self._clock.boottime_ms()
        pause_ms = FORGET_EVERY // MILLISECOND
        is_early = self._forgotten_ms is not None and now_ms < self._forgotten_ms + pause_ms
        if is_early or not sensors:
            return
        self._forgotten_ms = now_ms
        needed = [self._watermarks[sensor.sensor_id] for sensor in sensors]
        oldest_waiting = (await self._outbox.counts()).oldest_waiting
        if oldest_waiting is not None:
            needed.append(oldest_waiting)
        fed = {key for sensor in sensors for key in keys(sensor)}
        late = await self._buffer.late()  # what came in since this round began
        needed += [moment for key, moment in late.items() if key in fed]
        far = max(reach(sensor, self._channels()) for sensor in sensors)
        keep = KEEP_FAULTY if self.faults else KEEP
        self._horizon = min(*needed, self._clock.wall_now() - keep) - far
        await self._buffer.forget_before(self._horizon)
