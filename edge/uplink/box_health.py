"""The box's own pulse, as an asset of its own below the site in FlexMeasures.

Heartbeat, oldest waiting slot, dead devices and set-aside readings, with staleness limits, so that
FlexMeasures' own status pages name a silent box. Says how things are now: what could not be told
in time is not told later, because a gap is what it means. Never holds up the readings, and spends
little of the requests that all boxes of a user share: where its sensors are is remembered, and all
but the heartbeat step aside when requests are short.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from edge.clock import Clock
from edge.documents import Documents
from edge.errors import Malformed, Refused
from edge.health import Health
from edge.model import Sensor, Slot
from edge.store.outbox import OutboxSlot, SlotState
from edge.uplink.flexmeasures import FlexMeasures
from edge.uplink.mapping import EVENT_RESOLUTION, Feed, sensors_from_json, sensors_to_json
from edge.uplink.pacing import Pacing
from edge.uplink.pairing import Yard
from edge.uplink.resample import slot_start

KEY = "box"  # of the asset, among the devices' keys
_DOCUMENT = "box_health"
_HEARTBEAT = "heartbeat"
_SELDOM = timedelta(minutes=15)  # the rest matters less and costs a request each
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Vitals:
    """How the box is, now. `oldest_waiting`: the age of the oldest waiting slot, or zero."""

    oldest_waiting: timedelta
    dead_devices: int
    set_aside: int


_SIGNS: dict[str, tuple[str, timedelta, Callable[[Vitals], float]]] = {
    _HEARTBEAT: ("dimensionless", EVENT_RESOLUTION, lambda _: 1.0),
    "oldest-waiting": ("min", _SELDOM, lambda vitals: vitals.oldest_waiting / _MINUTE),
    "dead-devices": ("dimensionless", _SELDOM, lambda vitals: float(vitals.dead_devices)),
    "set-aside": ("dimensionless", _SELDOM, lambda vitals: float(vitals.set_aside)),
}


class Home(Protocol):
    """Where to tell it; None while not paired. account.py fulfils it."""

    def server(self) -> FlexMeasures | None: ...
    def site_id(self) -> int | None: ...


class BoxHealth:
    """`attributes` stand on the asset; `health` gets the alarm where FlexMeasures takes nothing."""

    def __init__(
        self,
        box: str,
        name: str,
        attributes: dict[str, object],
        home: Home,
        vitals: Callable[[], Awaitable[Vitals]],
        settings: Documents,
        pacing: Pacing,
        health: Health,
        clock: Clock,
    ) -> None:
        self._box = box
        self._name = name
        self._attributes = attributes
        self._home = home
        self._vitals = vitals
        self._settings = settings
        self._pacing = pacing
        self._health = health
        self._clock = clock
        self._place: tuple[FlexMeasures, int] | None = None
        self._sensors: list[Sensor] = []
        self._told: dict[int, Slot] = {}

    async def beat(self) -> None:
        """Tell what is due; to be called with each upload. Raises Unreachable only."""
        server, site_id = self._home.server(), self._home.site_id()
        if server is None or site_id is None or not self._clock.is_trusted():
            return
        try:
            if self._place != (server, site_id):
                self._sensors = await self._known_sensors(server, site_id)
                self._place = (server, site_id)
            await self._tell(server)
        except (Refused, Malformed) as problem:
            said = f"FlexMeasures does not take the box's own health: {problem}"
            self._health.alarm(_DOCUMENT, said)
            self._place = None
            await self._settings.delete(_DOCUMENT)
        else:
            self._health.clear(_DOCUMENT)

    async def _known_sensors(self, server: FlexMeasures, site_id: int) -> list[Sensor]:
        """As the last run left them, so that a street that starts anew asks for nothing."""
        place = {
            "url": server.address.base,
            "email": server.email,
            "site_id": site_id,
            "attributes": self._attributes,
        }
        kept = await self._settings.get(_DOCUMENT)
        if kept and kept["place"] == place and len(kept["sensors"]) == len(_SIGNS):
            return sensors_from_json(kept["sensors"])
        sensors = await self._settle_in(server, site_id)
        content = {"place": place, "sensors": sensors_to_json(sensors)}
        await self._settings.put(_DOCUMENT, content)
        return sensors

    async def _settle_in(self, server: FlexMeasures, site_id: int) -> list[Sensor]:
        """Find or make the asset and its sensors; say which version runs."""
        yard = await Yard.open(server, self._box, site_id, await server.member())
        asset = await yard.asset(KEY, self._name, self._attributes)
        if self._attributes.items() - asset.attributes.items():
            await server.update_asset(asset, attributes=self._attributes)
        sensors = [
            await yard.sensor_for(Feed(KEY, name, unit, resolution, ()), self._name)
            for name, (unit, resolution, _) in _SIGNS.items()
        ]
        await yard.show(sensors)
        return sensors

    async def _tell(self, server: FlexMeasures) -> None:
        vitals = await self._vitals()
        for sensor, (name, (_, _, sign)) in zip(self._sensors, _SIGNS.items(), strict=True):
            if name != _HEARTBEAT and self._pacing.pause(server.allowance):
                return
            step = sensor.event_resolution
            start = slot_start(self._clock.wall_now(), step) - step
            told = self._told.get(sensor.sensor_id)
            if told is not None and told.start == start:
                continue
            slot = Slot(sensor.sensor_id, start, step, sign(vitals))
            # A refusal means that it was told already, before a restart.
            await server.post_slots(sensor, [_offered(slot)])
            self._told[sensor.sensor_id] = slot


def _offered(slot: Slot) -> OutboxSlot:
    """The slot as post_slots takes it; it never sees the outbox."""
    return OutboxSlot(
        row_id=0,
        slot=slot,
        prior=None,
        state=SlotState.WAITING,
        attempts=0,
        posted_at=None,
        job=None,
        reason=None,
    )
