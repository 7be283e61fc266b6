"""What FlexMeasures asks of the devices: limits and schedules, polled.

Each controllable device gets a limit sensor on its asset: whoever may post there caps the device
for that time. The schedule is read from the device's power sensor by kind of source, whoever made
it. Every box asks at moments of its own. Whether it also triggers schedules: triggering.py.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from edge.clock import MILLISECOND, Clock
from edge.documents import Documents
from edge.errors import Malformed, Refused, Unreachable
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
    flex_model,
    plan_from,
)
from edge.uplink.flexmeasures import FlexMeasures
from edge.uplink.pacing import RESERVE, Pacing
from edge.uplink.pairing import Yard
from edge.uplink.remote import RemoteAsset
from edge.uplink.session import LogInRefused
from edge.uplink.triggering import EPOCH, Triggering

log = logging.getLogger(__name__)

POLL_EVERY = timedelta(seconds=30)
SPREAD_OVER = 0.8  # of a poll period: then there is time for the answers
REFUSED_AGAIN_AFTER = 20  # polls
POLL_SLOWLY = timedelta(minutes=2)  # where the server's limiter has little left
SCHEDULES_EVERY = 2  # polls: a schedule is for quarters of an hour, a limit for now
LIMIT_AHEAD = timedelta(hours=4)
SCHEDULE_AHEAD = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a device stands in FlexMeasures. `sign` −1: its power sensor counts production."""

    asset: RemoteAsset
    limit_id: int
    power: Sensor | None
    sign: int


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
        self.triggering = Triggering(account, settings, clock, pacing)
        self._notes: dict[str, str] = {}
        self._account = account
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

    @property
    def notes(self) -> dict[str, str]:
        """What a person should know, by device, "FlexMeasures" or "schedule"."""
        own = self.triggering.note
        return {**self._notes, "schedule": own} if own else dict(self._notes)

    @property
    def wish(self) -> OwnTriggers | None:
        """How the box asks for schedules itself, if it does."""
        return self.triggering.wish

    async def restore(self) -> None:
        await self.triggering.restore()

    async def trigger_by_itself(self, wish: OwnTriggers | None) -> None:
        """Ask for schedules from now on, or (None) no longer. Raises ConfigFault."""
        await self.triggering.keep(wish)
        self.look_again()

    def look_again(self) -> None:
        """A person changed something: ask at once."""
        self._notes.clear()
        self._look.set()

    async def run(self) -> None:
        """Ask for ever; a part for keep_running. Raises Refused where a person must act."""
        while True:
            await until(self._look, self._clock.sleep(self._pause()))
            self._look.clear()
            try:
                await self.round()
            except Away as problem:
                self._notes["FlexMeasures"] = str(problem)
                told = problem.retry_after or timedelta(0)
                self._quiet_ms = self._clock.boottime_ms() + told // MILLISECOND
            except (Unreachable, Malformed) as problem:
                self._notes["FlexMeasures"] = str(problem)

    async def round(self) -> None:
        """Ask everything once that is to be asked now."""
        server, devices = self._account.server(), self._followed()
        self._notes = {key: note for key, note in self._notes.items() if key in devices}
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
                self._notes[key] = str(problem)
                self._places.pop(key, None)
        powers = {key: place.power for key, place in self._places.items() if place.power}
        if await self.triggering.step(server, devices, powers):
            self._round = 0
            self.look_again()

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
            and not (key in self._notes and self._round % REFUSED_AGAIN_AFTER)
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
                self._places[key] = place = await _place(server, yard, device, power[key])
                self._notes.pop(key, None)
                await _keep_model(server, place, device)
            except LogInRefused:
                raise
            except Refused as problem:
                self._notes[key] = str(problem)

    def _pause(self) -> timedelta:
        """Until this box's next moment; longer where the server has little left for its user."""
        allowance = self._server.allowance if self._server else None
        scarce = allowance is not None and allowance.remaining < RESERVE * allowance.limit
        period = max(POLL_SLOWLY, self._poll_every) if scarce else self._poll_every
        now = self._clock.wall_now()
        return cycle(EPOCH, period, self._pacing.offset("poll", period), now) - now


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
    return _Place(asset, limit.sensor_id, power, sign)


async def _keep_model(server: FlexMeasures, place: _Place, device: Followed) -> None:
    """Leave on the device's asset what it can do, beside what its host wrote there."""
    if place.power is None:
        return
    try:
        asset = await server.asset(place.asset.asset_id)
        output = {"consumption": {"sensor": place.power.sensor_id}}
        model = {**asset.flex_model, **flex_model(device), **output}
        if model != asset.flex_model:
            await server.update_asset(asset, flex_model=model)
    except LogInRefused:
        raise
    except Refused as problem:  # limits reach the device all the same
        raise Refused(f"FlexMeasures does not keep what it can do: {problem}") from problem
