"""The page's room for what is live: power now, energy of today, and what FlexMeasures took.

Today's energy is the sum of what was made ready to send: one small question to the outbox per
sensor, asked at most every half minute.
"""

from datetime import datetime, timedelta

from edge.agent_api import web
from edge.agent_api.door import answer
from edge.agent_api.map_room import MapRoom
from edge.agent_api.refusals import NotAllowed
from edge.agent_api.status import StatusDesk
from edge.clock import Clock
from edge.contract.attention import reason_of
from edge.contract.care import LiveRow, LiveView, Series
from edge.contract.setup import MapRow
from edge.intake import ReadingIntake
from edge.model import Sensor
from edge.store.outbox import Outbox
from edge.uplink.account import Account

COUNTED_EVERY_MS = 30_000
SHOWN = timedelta(hours=24)
_KW_PER_UNIT = {"W": 0.001, "kW": 1.0, "MW": 1000.0}


class LiveRoom:
    """Routes over the map, the intake and the outbox."""

    def __init__(
        self,
        map_room: MapRoom,
        account: Account,
        intake: ReadingIntake,
        outbox: Outbox,
        desk: StatusDesk,
        clock: Clock,
    ) -> None:
        self._map = map_room
        self._account = account
        self._intake = intake
        self._outbox = outbox
        self._desk = desk
        self._clock = clock
        self._today: dict[int, tuple[float, float | None]] = {}

    def routes(self) -> list[web.Route]:
        return [
            web.get("/live", self._show),
            web.get("/live/series/{ident:.+}", self._series),
        ]

    async def _show(self, _: web.Request) -> web.Response:
        status = await self._desk.flexmeasures()
        sensors = {sensor.sensor_id: sensor for sensor in self._account.sensors()}
        rows = [await self._row(row, sensors) for row in await self._map.rows()]
        return answer(
            LiveView(
                rows=rows,
                waiting=status.slots_waiting,
                oldest_waiting=status.oldest_waiting,
                last_accepted=status.last_accepted,
                accepted=status.slots_accepted,
                rejected=status.slots_rejected,
                catching_up_percent=status.catching_up_percent,
                done_by=status.done_by,
                problem=reason_of(status.last_error or "") or status.last_error,
                advice=status.advice,
            )
        )

    async def _series(self, request: web.Request) -> web.Response:
        sensor = self._sensor(request.values["ident"])
        step = sensor.event_resolution
        start = _floor(self._clock.wall_now() - SHOWN, step)
        slots = await self._outbox.history(sensor.sensor_id, start, start + SHOWN + step)
        sign = -1 if self._map.is_turned(sensor) else 1
        values: list[float | None] = [None] * (SHOWN // step + 1)
        for slot in slots:
            at = (slot.start - start) // step
            if 0 <= at < len(values):
                values[at] = sign * slot.value
        return answer(
            Series(
                start=start,
                resolution_s=int(step.total_seconds()),
                unit=sensor.unit,
                values=values,
            )
        )

    async def _row(self, row: MapRow, sensors: dict[int, Sensor]) -> LiveRow:
        sensor = sensors.get(row.sensor_id or 0)
        ages = [
            latest.age.total_seconds()
            for term in row.terms
            if (latest := self._intake.latest(term.channel_key)) is not None
        ]
        return LiveRow(
            ident=row.ident,
            name=row.name,
            quantity=row.quantity,
            unit=row.unit,
            value=row.value,
            age_s=max(ages) if ages else None,
            today_kwh=None if sensor is None else await self._today_kwh(sensor),
            sends=sensor is not None,
        )

    async def _today_kwh(self, sensor: Sensor) -> float | None:
        """Energy since local midnight; None for what is no power."""
        factor = _KW_PER_UNIT.get(sensor.unit)
        if factor is None or not self._clock.is_trusted():
            return None
        now_ms = self._clock.boottime_ms()
        counted = self._today.get(sensor.sensor_id)
        if counted is None or now_ms - counted[0] > COUNTED_EVERY_MS:
            now = self._clock.wall_now()
            midnight = now.astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
            slots = await self._outbox.history(sensor.sensor_id, midnight, now)
            hours = sensor.event_resolution / timedelta(hours=1)
            sign = -1 if self._map.is_turned(sensor) else 1
            energy_kwh = sign * sum(slot.value for slot in slots) * factor * hours
            counted = (now_ms, energy_kwh if slots else None)
            self._today[sensor.sensor_id] = counted
        return counted[1]

    def _sensor(self, ident: str) -> Sensor:
        for sensor in self._account.sensors():
            if ident == f"sensor{sensor.sensor_id}":
                return sensor
        raise NotAllowed("not_found", 404)


def _floor(moment: datetime, step: timedelta) -> datetime:
    epoch = datetime.fromtimestamp(0, moment.tzinfo)
    return moment - (moment - epoch) % step
