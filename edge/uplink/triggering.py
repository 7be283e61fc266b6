"""Asking FlexMeasures for schedules ourselves: off by default, one question for all devices.

Ten questions in five minutes belong to a whole account, so each box asks at a place of its own in
the period a person chose; when the account's share is used up it waits as long as it is told, and
its own moment longer. An answer that is not there yet is asked for at the pace of the polls and
given up with words. Nothing here holds up the limits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from edge.clock import MILLISECOND, Clock
from edge.documents import Documents
from edge.errors import ConfigFault, Refused, Unreachable
from edge.model import Sensor
from edge.uplink.account import Account
from edge.uplink.connection import Away
from edge.uplink.flexibility import (
    LIMIT_UNIT,
    Followed,
    OwnTriggers,
    cycle,
    flex_context,
    flex_model,
    triggers_from_json,
    triggers_to_json,
    why_no_schedule,
)
from edge.uplink.flexmeasures import FlexMeasures
from edge.uplink.pacing import Pacing
from edge.uplink.remote import RemoteAsset
from edge.uplink.session import LogInRefused

COMPUTED_WITHIN = timedelta(minutes=10)
BUDGET_PERIOD = timedelta(minutes=5)  # the account's, for ten triggers
LOST_AGAIN_AFTER = timedelta(minutes=5)  # a trigger on a server that did not answer
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COARSEST_UNKNOWN = timedelta(minutes=5)
_DOCUMENT = "schedules"


@dataclass(frozen=True, slots=True)
class _Asked:
    """A schedule that is being computed."""

    job: str
    sensor_id: int
    since_ms: int


class Triggering:
    """One per box. `note` is what a person should know; empty where all is well."""

    def __init__(self, account: Account, settings: Documents, clock: Clock, pacing: Pacing) -> None:
        self.note = ""
        self.wish: OwnTriggers | None = None
        self._account = account
        self._settings = settings
        self._clock = clock
        self._pacing = pacing
        self._at: datetime | None = None
        self._asked: _Asked | None = None

    async def restore(self) -> None:
        kept = await self._settings.get(_DOCUMENT)
        try:
            self.wish = triggers_from_json(kept) if kept else None
        except (ConfigFault, KeyError, TypeError) as problem:
            self.note = f"the wish for schedules cannot be followed: {problem}"
        if self.wish is not None:
            self._at = self._next(self.wish)

    async def keep(self, wish: OwnTriggers | None) -> None:
        """Ask for schedules from now on, or (None) no longer. Raises ConfigFault."""
        if wish is None:
            await self._settings.delete(_DOCUMENT)
        else:
            triggers_from_json(triggers_to_json(wish))
            await self._settings.put(_DOCUMENT, triggers_to_json(wish))
        self.wish, self._at, self._asked, self.note = wish, None, None, ""

    async def step(
        self, server: FlexMeasures, devices: Mapping[str, Followed], powers: Mapping[str, Sensor]
    ) -> bool:
        """Ask, or see what came of it, if it is time; whether a new schedule is there to be read.

        `powers` are the power sensors of devices, by key. Raises LogInRefused and Malformed.
        """
        wish = self.wish
        if wish is None:
            return False
        try:
            if self._asked is not None:
                return await self._is_computed(server, self._asked)
            if self._at is None or self._clock.wall_now() >= self._at:
                self._at = self._next(wish)
                await self._ask(server, wish, devices, powers)
        except LogInRefused:
            raise
        except Refused as problem:
            self._asked = None
            self.note = why_no_schedule(str(problem))
        except Away as problem:
            self._again_later(problem)
        except Unreachable as problem:
            self._again_later(Away(str(problem)))
        return False

    async def _ask(
        self,
        server: FlexMeasures,
        wish: OwnTriggers,
        devices: Mapping[str, Followed],
        powers: Mapping[str, Sensor],
    ) -> None:
        paired = self._account.paired
        if paired is None or not powers:
            self.note = "no controllable device has a power sensor; map its meter"
            return
        price = await server.sensor(wish.price_sensor_id)
        site = await server.asset(paired.site_asset_id)
        asked_of = {key: devices[key] for key in powers if key in devices}
        context = flex_context(wish, asked_of, price.unit, site.flex_context)
        await _keep_context(server, site, context)
        models = [
            {"sensor": powers[key].sensor_id, **flex_model(device)}
            for key, device in asked_of.items()
        ]
        steps = [power.event_resolution for power in powers.values()]
        step = max(steps, default=_COARSEST_UNKNOWN)
        now = self._clock.wall_now()
        start = now - (now - EPOCH) % step
        job = await server.trigger(site.asset_id, start, wish.horizon, models, context)
        first = next(iter(powers.values())).sensor_id
        self._asked = _Asked(job, first, self._clock.boottime_ms())

    async def _is_computed(self, server: FlexMeasures, asked: _Asked) -> bool:
        """Every device's own poll then reads it."""
        hour = timedelta(hours=1)
        series = await server.schedule(asked.sensor_id, asked.job, hour, LIMIT_UNIT)
        if series is not None:
            self._asked, self.note = None, ""
            return True
        if (self._clock.boottime_ms() - asked.since_ms) * MILLISECOND > COMPUTED_WITHIN:
            self._asked = None
            self.note = (
                "FlexMeasures took the question but computes nothing; its host must start a worker"
            )
        return False

    def _again_later(self, problem: Away) -> None:
        """The limits are asked for all the same: the budget of triggers is another one."""
        if self._asked is not None:
            return  # it is only the answer that could not be fetched; the next poll asks again
        told = problem.retry_after or LOST_AGAIN_AFTER
        at = self._clock.wall_now() + told + self._pacing.offset("trigger again", BUDGET_PERIOD)
        self._at = at if self._at is None else min(at, self._at)
        self.note = f"{problem}; the box asks for its schedule again at {at.astimezone():%H:%M}"

    def _next(self, wish: OwnTriggers) -> datetime:
        phase = self._pacing.offset("trigger", wish.every)
        return cycle(EPOCH, wish.every, phase, self._clock.wall_now())


async def _keep_context(
    server: FlexMeasures, site: RemoteAsset, context: Mapping[str, object]
) -> None:
    """Leave it on the site for whoever triggers a schedule, if the box's user may."""
    kept = {**site.flex_context, **context}
    if kept == site.flex_context:
        return
    try:
        await server.update_asset(site, flex_context=kept)
    except LogInRefused:
        raise
    except Refused:
        return  # the question carries it along anyway
