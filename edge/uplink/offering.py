"""One batch of slots to FlexMeasures and its verdicts back: who is in doubt, who is guilty.

Without an answer nothing is settled, and before slots that may have arrived are offered again the
server is asked what it holds: storing known values again costs it fifty times as much. A refused
batch is halved until the guilty slot is alone, and so is one on which the server fails again and
again while it takes others; a sensor that refuses one value after the other is left alone itself.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from http import HTTPStatus
from math import isclose
from typing import Protocol

from edge.clock import MILLISECOND, Clock
from edge.errors import Refused
from edge.model import Sensor
from edge.store.outbox import Outbox, OutboxSlot, Verdict
from edge.uplink.connection import Away
from edge.uplink.flexmeasures import LogInRefused, Posted, SensorRefused
from edge.uplink.pacing import Allowance
from edge.uplink.verdict import JobEnd, JobState

log = logging.getLogger(__name__)

JOBS_OPEN_MAX = 20  # beyond it the server's worker is the bottleneck, not we
JOB_POLL_EVERY = timedelta(seconds=5)
JOB_FAILED_PAUSE = timedelta(minutes=5)  # trouble of the server's own
REJECTS_IN_A_ROW_MAX = 4  # then it is the sensor that is refused, not its values
FAILURES_IN_A_ROW_MAX = 3  # of the server on one sensor; then a value may be what it fails on
SENSOR_PAUSE = timedelta(hours=1)  # a person must act; one look an hour finds out that they did

type Verdicts = Mapping[int, tuple[Verdict, str]]

_TOLERANCE = 1e-9  # the server keeps doubles; only their decimal notation may differ


class Server(Protocol):
    """What the uplink's sender needs of flexmeasures.py."""

    @property
    def allowance(self) -> Allowance | None: ...
    async def post_slots(self, sensor: Sensor, slots: Sequence[OutboxSlot]) -> Posted: ...
    async def job(self, job_id: str) -> JobState: ...
    async def stored(
        self, sensor: Sensor, start: datetime, end: datetime
    ) -> dict[datetime, float]: ...


class Offering:
    """Offers slots and settles them. `accepted` is called with how many were, each time."""

    def __init__(self, outbox: Outbox, clock: Clock, accepted: Callable[[int], None]) -> None:
        self._outbox = outbox
        self._clock = clock
        self._accepted = accepted
        self._answered: set[int] = set()  # sensors of which no post is in doubt
        self._rejects: Counter[int] = Counter()  # in a row, by sensor
        self._failures: Counter[int] = Counter()  # of the server, in a row, by sensor
        self._took_others: set[int] = set()  # sensors it fails on, while it took another's slots
        self._paused_ms: dict[int, int] = {}  # sensors that take nothing, until when
        self._jobs_asked_ms: int | None = None
        self.jobs_open = 0
        self.refused: dict[int, str] = {}  # sensors that take nothing, and why

    def paused(self) -> set[int]:
        """Sensors that are to be left alone now."""
        now_ms = self._clock.boottime_ms()
        return {sensor_id for sensor_id, until_ms in self._paused_ms.items() if until_ms > now_ms}

    def try_again(self) -> None:
        """A person changed something: no sensor is left alone, all are in doubt again."""
        self._answered.clear()
        self._paused_ms.clear()
        self.refused.clear()

    async def missing(
        self, server: Server, sensor: Sensor, rows: Sequence[OutboxSlot]
    ) -> Sequence[OutboxSlot]:
        """What the server does not hold yet of these slots of one sensor; the rest is settled."""
        if sensor.sensor_id in self._answered:
            return rows
        return await self._settle_arrived(server, sensor, rows)

    async def offer(self, server: Server, sensor: Sensor, rows: Sequence[OutboxSlot]) -> Verdicts:
        """Offer missing slots of one sensor; the verdicts that are left to settle().

        Raises Unreachable, Refused, Malformed: nothing is settled.
        """
        if sensor.sensor_id in self.paused() or self.jobs_open >= JOBS_OPEN_MAX:
            return {}
        if self._failures[sensor.sensor_id] < FAILURES_IN_A_ROW_MAX:
            return await self._post(server, sensor, rows)
        await self._find_fatal(server, sensor, rows, sure=sensor.sensor_id in self._took_others)
        return {}

    async def settle(self, sensor: Sensor, verdicts: Verdicts) -> None:
        """Write verdicts down."""
        if not verdicts:
            return
        await self._outbox.settle(verdicts)
        accepted = sum(verdict is Verdict.ACCEPT for verdict, _ in verdicts.values())
        reasons = [reason for verdict, reason in verdicts.values() if verdict is Verdict.REJECT]
        if accepted:
            self._accepted(accepted)
            self._took_others |= {each for each, times in self._failures.items() if times}
            self._took_others.discard(sensor.sensor_id)
            self._rejects[sensor.sensor_id] = 0
            self.refused.pop(sensor.sensor_id, None)
        self._rejects[sensor.sensor_id] += len(reasons)
        if self._rejects[sensor.sensor_id] >= REJECTS_IN_A_ROW_MAX:
            self._rejects[sensor.sensor_id] -= 1  # one more after the pause is enough
            self._pause(sensor, reasons[-1], SENSOR_PAUSE)

    def doubt(self, sensor: Sensor) -> None:
        """Something under way was broken off: ask what arrived before posting again."""
        self._answered.discard(sensor.sensor_id)

    async def ask_jobs(self, server: Server, sensors: Mapping[int, Sensor]) -> None:
        """Learn how posts ended that the server took without storing them at once."""
        now_ms = self._clock.boottime_ms()
        every_ms = JOB_POLL_EVERY // MILLISECOND
        if self._jobs_asked_ms is not None and now_ms < self._jobs_asked_ms + every_ms:
            return
        self._jobs_asked_ms = now_ms
        jobs = await self._outbox.jobs_open()
        self.jobs_open = len(jobs)
        for job, rows in list(jobs.items())[:JOBS_OPEN_MAX]:
            state = await server.job(job)
            if state.end is not JobEnd.OPEN:
                self.jobs_open -= 1
                await self._end_job(server, sensors.get(rows[0].slot.sensor_id), rows, state)

    # --- inside ---------------------------------------------------------------------------------

    async def _post(
        self,
        server: Server,
        sensor: Sensor,
        rows: Sequence[OutboxSlot],
        *,
        is_part: bool = False,
    ) -> Verdicts:
        row_ids = [row.row_id for row in rows]
        try:
            posted = await server.post_slots(sensor, rows)
        except SensorRefused as problem:
            self._pause(sensor, str(problem), SENSOR_PAUSE)
            return {}
        except Away as problem:
            if problem.may_have_arrived:
                self.doubt(sensor)
            self._failures[sensor.sensor_id] += _is_failure(problem)
            await self._outbox.posted(row_ids)
            raise
        self._failures[sensor.sensor_id] = 0
        if posted.job is not None:
            self.jobs_open += 1
            await self._outbox.posted(row_ids, posted.job)
        elif posted.split:
            if not is_part:  # what is stored already need not be offered in parts
                rows = await self._settle_arrived(server, sensor, rows)
            await self._halve(server, sensor, rows)
        return posted.verdicts

    async def _halve(self, server: Server, sensor: Sensor, rows: Sequence[OutboxSlot]) -> None:
        """Find the guilty among refused slots."""
        middle = len(rows) // 2
        for half in (rows[:middle], rows[middle:]):
            if half and sensor.sensor_id not in self.paused():
                await self.settle(sensor, await self._post(server, sensor, half, is_part=True))

    async def _find_fatal(
        self, server: Server, sensor: Sensor, rows: Sequence[OutboxSlot], *, sure: bool
    ) -> None:
        """Find the slots the server fails on. Only one that takes others (`sure`) is to be
        believed: where it fails on all, nothing is settled and the sensor waits a while."""
        middle = (len(rows) + 1) // 2
        failed: list[tuple[Sequence[OutboxSlot], Away]] = []
        halves = [half for half in (rows[:middle], rows[middle:]) if half]
        for half in halves:
            try:
                verdicts = await self._post(server, sensor, half, is_part=True)
                await self.settle(sensor, verdicts)
            except Away as problem:
                if not _is_failure(problem):
                    raise
                failed.append((half, problem))
        if len(failed) == len(halves) and not sure:
            self._pause(sensor, str(failed[0][1]), JOB_FAILED_PAUSE)
            raise failed[0][1]
        for half, why in failed:
            if len(half) == 1:
                reason = f"FlexMeasures fails on it: {why}"
                await self.settle(sensor, {half[0].row_id: (Verdict.REJECT, reason)})
            else:
                await self._find_fatal(server, sensor, half, sure=True)

    async def _settle_arrived(
        self, server: Server, sensor: Sensor, rows: Sequence[OutboxSlot]
    ) -> Sequence[OutboxSlot]:
        """Accept what the server holds already; return the rest."""
        end = rows[-1].slot.start + rows[-1].slot.event_resolution
        try:
            stored = await server.stored(sensor, rows[0].slot.start, end)
        except LogInRefused:
            raise
        except Refused:  # the answer to a post says better what is wrong
            stored = {}
        arrived = {row.row_id for row in rows if _is_same(stored.get(row.slot.start), row)}
        if len(arrived) < len(rows):  # else the next may have arrived as well
            self._answered.add(sensor.sensor_id)
        if arrived:
            await self.settle(sensor, dict.fromkeys(arrived, (Verdict.ACCEPT, "")))
        return [row for row in rows if row.row_id not in arrived]

    async def _end_job(
        self, server: Server, sensor: Sensor | None, rows: Sequence[OutboxSlot], state: JobState
    ) -> None:
        if sensor is None:  # not mapped any more
            await self._outbox.settle({row.row_id: (Verdict.KEEP, state.reason) for row in rows})
            return
        match state.end:
            case JobEnd.FINISHED:
                await self.settle(sensor, {row.row_id: (Verdict.ACCEPT, "") for row in rows})
            case JobEnd.GUILTY if len(rows) > 1:
                await self._halve(server, sensor, rows)
            case JobEnd.GUILTY:
                await self.settle(sensor, {rows[0].row_id: (Verdict.REJECT, state.reason)})
            case _:  # failed or lost
                self.doubt(sensor)
                await self.settle(
                    sensor, {row.row_id: (Verdict.KEEP, state.reason) for row in rows}
                )
                if state.end is JobEnd.FAILED:
                    self._pause(sensor, state.reason, JOB_FAILED_PAUSE)

    def _pause(self, sensor: Sensor, reason: str, pause: timedelta) -> None:
        log.warning("sensor %d %r takes nothing: %s", sensor.sensor_id, sensor.name, reason)
        self.refused[sensor.sensor_id] = reason
        self._paused_ms[sensor.sensor_id] = self._clock.boottime_ms() + pause // MILLISECOND


def _is_failure(problem: Away) -> bool:
    """A server that broke over a request, rather than one that is away."""
    return problem.status == HTTPStatus.INTERNAL_SERVER_ERROR


def _is_same(stored: float | None, row: OutboxSlot) -> bool:
    return stored is not None and isclose(
        stored, row.slot.value, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE
    )
