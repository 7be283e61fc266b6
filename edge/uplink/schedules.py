"""What FlexMeasures asks of the devices: limits and schedules, polled; triggered, if wished.

Each controllable device gets a limit sensor on its asset: whoever may post there caps the device
for that time. The schedule is read from the device's power sensor by kind of source, whoever made
it. Every box asks at moments of its own. Off by default: triggering schedules itself, one trigger
for all devices, because the ten in five minutes belong to a whole account.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from edge.clock import Clock
from edge.errors import ConfigFault, Malformed, Refused, Unreachable
from edge.model import Origin, Plan, Sensor
from edge.supervise import until
from edge.uplink.account import Account
from edge.uplink.connection import Away
from edge.uplink.flexibility import (
    LIMIT,
    LIMIT_RESOLUTION,
    LIMIT_UNIT,
    Followed,
    OwnTriggers,
    cycle,
    flex_context,
    flex_model,
    plan_from,
    triggers_from_json,
    triggers_to_json,
)
from edge.uplink.flexmeasures import FlexMeasures
from edge.uplink.pacing import RESERVE, Pacing
from edge.uplink.pairing import Yard
from edge.uplink.remote import RemoteAsset
from edge.uplink.session import LogInRefused

log = logging.getLogger(__name__)

POLL_EVERY = timedelta(seconds=30)
SPREAD_OVER = 0.8  # of a poll period: then there is time for the answers
REFUSED_AGAIN_AFTER = 20  # polls
POLL_SLOWLY = timedelta(minutes=2)  # where the server's limiter has little left
SCHEDULES_EVERY = 2  # polls: a schedule is for quarters of an hour, a limit for now
LIMIT_AHEAD = timedelta(hours=4)
SCHEDULE_AHEAD = timedelta(hours=24)
COMPUTED_WITHIN = timedelta(minutes=10)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_DOCUMENT = "schedules"


class Documents(Protocol):
    """What this room needs of store/settings.py."""

    async def get(self, name: str) -> Any: ...
    async def put(self, name: str, value: Any) -> None: ...
    async def delete(self, name: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a device stands in FlexMeasures. `sign` −1: its power sensor counts production."""

    asset: RemoteAsset
    limit_id: int
    power: Sensor | None
    sign: int


@dataclass(frozen=True, slots=True)
class _Asked:
    """A schedule that is being computed."""

    job: str
    since_ms: int


class Schedules:
    """One per box. `followed` answers which devices are controllable, now."""

    def __init__(
        self,
        account: Account,
        settings: Documents,
        followed: Callable[[], Mapping[str, Followed]],
        take_plan: Callable[[str, Plan], None],
        clock: Clock,
        pacing: Pacing,
        *,
        poll_every: timedelta = POLL_EVERY,
    ) -> None:
        self.notes: dict[str, str] = {}  # what a person should know, by device or "schedule"
        self.wish: OwnTriggers | None = None
        self._account = account
        self._settings = settings
        self._followed = followed
        self._take_plan = take_plan
        self._clock = clock
        self._pacing = pacing
        self._poll_every = poll_every
        self._look = asyncio.Event()
        self._places: dict[str, _Place] = {}
        self._server: FlexMeasures | None = None
        self._round = 0
        self._quiet_ms = 0
        self._trigger_at: datetime | None = None
        self._asked: _Asked | None = None

    async def restore(self) -> None:
        kept = await self._settings.get(_DOCUMENT)
        try:
            self.wish = triggers_from_json(kept) if kept else None
        except (ConfigFault, KeyError, TypeError) as problem:
            self.notes["schedule"] = f"the wish for schedules cannot be followed: {problem}"
        if self.wish is not None:
            self._trigger_at = self._next_trigger(self.wish)

    async def trigger_by_itself(self, wish: OwnTriggers | None) -> None:
        """Ask for schedules from now on, or (None) no longer. Raises ConfigFault."""
        if wish is None:
            await self._settings.delete(_DOCUMENT)
            self.notes.pop("schedule", None)
        else:
            triggers_from_json(triggers_to_json(wish))
            await self._settings.put(_DOCUMENT, triggers_to_json(wish))
        self.wish, self._trigger_at, self._asked = wish, None, None
        self.look_again()

    def look_again(self) -> None:
        """A person changed something: ask at once."""
        self.notes.clear()
        self._look.set()

    async def run(self) -> None:
        """Ask for ever; a part for keep_running. Raises Refused where a person must act."""
        while True:
            await until(self._look, self._clock.sleep(self._pause()))
            self._look.clear()
            try:
                await self.round()
            except Away as problem:
                self.notes["FlexMeasures"] = str(problem)
                told = problem.retry_after or timedelta(0)
                self._quiet_ms = self._clock.boottime_ms() + told // _MILLISECOND
            except (Unreachable, Malformed) as problem:
                self.notes["FlexMeasures"] = str(problem)

    async def round(self) -> None:
        """Ask everything once that is to be asked now."""
        server, devices = self._account.server(), self._followed()
        self.notes = {
            key: note for key, note in self.notes.items() if key in {*devices, "schedule"}
        }
        if server is None or not devices or not self._clock.is_trusted():
            return
        if self._clock.boottime_ms() < self._quiet_ms:
            return
        await self._find_places(server, devices)
        schedules_too = self._round % SCHEDULES_EVERY == 0
        self._round += 1
        for number, (key, place) in enumerate(list(self._places.items())):
            if number:  # the questions fill the period: no burst, whatever the number of devices
                await self._clock.sleep(SPREAD_OVER * self._poll_every / len(self._places))
            try:
                await self._poll(server, key, place, schedules_too=schedules_too)
            except LogInRefused:
                raise
            except Refused as problem:  # this device's sensor; the others go on
                self.notes[key] = str(problem)
                self._places.pop(key, None)
        await self._trigger(server, devices)

    # --- asking -----------------------------------------------------------------------------------

    async def _poll(
        self, server: FlexMeasures, key: str, place: _Place, *, schedules_too: bool
    ) -> None:
        now = self._clock.wall_now()
        limits = await server.data(
            place.limit_id, now, now + LIMIT_AHEAD + timedelta(hours=1), "user", LIMIT_UNIT
        )
        self._take_plan(key, plan_from(Origin.LIMIT, limits, now))
        if schedules_too and place.power is not None:
            ahead = now + SCHEDULE_AHEAD
            series = await server.data(place.power.sensor_id, now, ahead, "scheduler", LIMIT_UNIT)
            self._take_plan(key, plan_from(Origin.SCHEDULE, series, now, sign=place.sign))

    async def _find_places(self, server: FlexMeasures, devices: Mapping[str, Followed]) -> None:
        """Find or make what is missing; what is known is not asked again."""
        if server is not self._server:
            self._places, self._server = {}, server
        for key in [key for key in self._places if key not in devices]:
            del self._places[key]
        power = {key: power_sensor(key, self._account.sensors()) for key in devices}
        missing = [
            device
            for key, device in devices.items()
            if (key not in self._places or self._places[key].power != power[key])
            and not (key in self.notes and self._round % REFUSED_AGAIN_AFTER)
        ]
        paired = self._account.paired
        if not missing or paired is None:
            return
        yard = await Yard.open(
            server, self._account.box, paired.site_asset_id, await server.member()
        )
        for device in missing:
            key = device.device_key
            try:
                self._places[key] = await _place(server, yard, device, power[key])
            except LogInRefused:
                raise
            except Refused as problem:
                self.notes[key] = str(problem)

    # --- asking for schedules ---------------------------------------------------------------------

    async def _trigger(self, server: FlexMeasures, devices: Mapping[str, Followed]) -> None:
        wish = self.wish
        if wish is None:
            return
        try:
            if self._asked is not None:
                await self._fetch(server, self._asked)
            elif self._trigger_at is None or self._clock.wall_now() >= self._trigger_at:
                self._trigger_at = self._next_trigger(wish)
                await self._ask_for_schedule(server, wish, devices)
        except LogInRefused:
            raise
        except Refused as problem:
            self._asked = None
            self.notes["schedule"] = f"FlexMeasures makes no schedule: {problem}"

    async def _ask_for_schedule(
        self, server: FlexMeasures, wish: OwnTriggers, devices: Mapping[str, Followed]
    ) -> None:
        paired = self._account.paired
        known = {key: place for key, place in self._places.items() if place.power is not None}
        if paired is None or not known:
            self.notes["schedule"] = "no controllable device has a power sensor; map its meter"
            return
        price = await server.sensor(wish.price_sensor_id)
        context = flex_context(wish, {key: devices[key] for key in known}, price.unit)
        site = RemoteAsset(paired.site_asset_id, paired.site)
        await server.update_asset(site, flex_context=context)
        models = [
            {"sensor": place.power.sensor_id, **flex_model(devices[key])}
            for key, place in known.items()
            if place.power is not None
        ]
        start = _floor(self._clock.wall_now(), _coarsest(known.values()))
        job = await server.trigger(site.asset_id, start, wish.horizon, models, context)
        self._asked = _Asked(job, self._clock.boottime_ms())

    async def _fetch(self, server: FlexMeasures, asked: _Asked) -> None:
        """See whether it is there; every device's own poll then reads it."""
        power = next(place.power for place in self._places.values() if place.power is not None)
        series = await server.schedule(power.sensor_id, asked.job, timedelta(hours=1), LIMIT_UNIT)
        if series is not None:
            self._asked, self._round = None, 0
            self.look_again()
        elif (self._clock.boottime_ms() - asked.since_ms) * _MILLISECOND > COMPUTED_WITHIN:
            self._asked = None
            self.notes["schedule"] = (
                "FlexMeasures took the question but computes nothing; its host must start a worker"
            )

    def _next_trigger(self, wish: OwnTriggers) -> datetime:
        phase = self._pacing.offset("trigger", wish.every)
        return cycle(_EPOCH, wish.every, phase, self._clock.wall_now())

    def _pause(self) -> timedelta:
        """Until this box's next moment; longer where the server has little left for its user."""
        allowance = self._server.allowance if self._server else None
        scarce = allowance is not None and allowance.remaining < RESERVE * allowance.limit
        period = max(POLL_SLOWLY, self._poll_every) if scarce else self._poll_every
        now = self._clock.wall_now()
        return cycle(_EPOCH, period, self._pacing.offset("poll", period), now) - now


def power_sensor(device_key: str, sensors: Sequence[Sensor]) -> Sensor | None:
    """The sensor of a device's own power: fed by this device alone, in W or kW."""
    own = [
        sensor
        for sensor in sensors
        if sensor.unit in ("W", "kW", "MW")
        and all(term.channel_key.startswith(f"{device_key}/") for term in sensor.terms)
    ]
    return min(own, key=lambda sensor: (len(sensor.name), sensor.name), default=None)


async def _place(
    server: FlexMeasures, yard: Yard, device: Followed, power: Sensor | None
) -> _Place:
    asset = await yard.asset(device.device_key, device.name)
    limit = yard.named(asset.asset_id, LIMIT)
    if limit is None:
        attributes = {"consumption_is_positive": True}
        limit = await server.create_sensor(
            asset.asset_id, LIMIT, LIMIT_UNIT, LIMIT_RESOLUTION, attributes
        )
    sign = 1
    if power is not None:
        remote = await server.sensor(power.sensor_id)
        sign = 1 if remote.attributes.get("consumption_is_positive") is True else -1
        output = {"consumption": {"sensor": power.sensor_id}}
        await server.update_asset(asset, flex_model={**flex_model(device), **output})
    return _Place(asset, limit.sensor_id, power, sign)


def _coarsest(places: "Sequence[_Place] | Any") -> timedelta:
    steps = [place.power.event_resolution for place in places if place.power is not None]
    return max(steps, default=timedelta(minutes=5))


def _floor(moment: datetime, step: timedelta) -> datetime:
    return moment - (moment - _EPOCH) % step
