"""Plays a household on the simulated stick in real time, as its meters would report it.

Which meter reports what and how often follows from the configuration parameters the devices hold
(so that a preset the box sets shows its effect); power is also reported as soon as it changes.
A plug that is off takes its load out of the whole house, and its counter stands still.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta

from tests.house.household import (
    BEHIND_WHICH_PLUGS_HANG,
    PLACES,
    SWITCHED,
    Household,
    Place,
)
from tests.house.stick import KWH, METER, A, Stick, V, Value, W

TICK = timedelta(seconds=1)  # how soon a plug that was switched shows in the whole house

# Report groups of the ZW095: mask in 101 to 103, interval in seconds in 111 to 113. Bits of the
# whole house, and of clamp 1 (clamp 2 and 3 are the next higher bits).
HEM_GROUPS = {101: 111, 102: 112, 103: 113}
HEM_WHOLE_BIT = {KWH: 0x1, W: 0x2, V: 0x4, A: 0x8}
HEM_CLAMP_BIT = {W: 0x100, KWH: 0x800, V: 0x10000, A: 0x80000}
# The ZW175 has one group.
PLUG_GROUPS = {101: 111}

type Shown = tuple[Place, int]  # a place and a scale
EVERYTHING: list[Shown] = [(place, scale) for place in PLACES for scale in (KWH, W, V, A)]
CHANGING: list[Shown] = [(place, scale) for place in PLACES for scale in (KWH, W, A)]


class Replay:
    """`run()` plays for ever. `now` is the moment that is played."""

    def __init__(
        self,
        stick: Stick,
        household: Household,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.stick = stick
        self.household = household
        self._now = now
        self._on: dict[int, bool] = {place.node: True for place in SWITCHED}
        self._unused_kwh = dict.fromkeys(SWITCHED, 0.0)  # what plugs that were off kept back
        self._counted_to: datetime | None = None
        self._intervals: dict[Shown, timedelta] = {}
        self._due: dict[Shown, datetime] = {}
        self._reported_w: dict[Place, float] = {}

    async def show(self) -> None:
        """Set every meter to this moment without a report: what an interview reads."""
        moment = self._now()
        self._count(moment)
        self._on |= await self.stick.show(*self._values(EVERYTHING, moment))

    async def run(self) -> None:
        await self.show()
        seen: int | None = None
        while True:
            if self.stick.configured != seen:
                seen = self.stick.configured
                await self._ask_parameters()
            moment = self._now()
            self._count(moment)
            due = [shown for shown in self._intervals if self._is_due(shown, moment)]
            silent = [shown for shown in CHANGING if shown not in due]
            self._on |= await self.stick.report(
                *self._values(due, moment), shown=self._values(silent, moment)
            )
            await asyncio.sleep(self._pause_s())

    def _pause_s(self) -> float:
        """Until the next tick, or until the next row if that begins sooner."""
        now = self._now()
        next_row = next(self.household.minutes(now + timedelta(microseconds=1), now + TICK), None)
        return ((next_row or now + TICK) - now).total_seconds()

    def _is_due(self, shown: Shown, moment: datetime) -> bool:
        place, scale = shown
        changed = False
        if scale == W:
            watts = self._watts(place, moment)
            changed = watts != self._reported_w.get(place)
            self._reported_w[place] = watts
        if not changed and moment < self._due.get(shown, moment):
            return False
        self._due[shown] = moment + self._intervals[shown]
        return True

    # --- what meters show -----------------------------------------------------------------------

    def _values(self, every: Iterable[Shown], moment: datetime) -> list[Value]:
        show = {KWH: self._kwh, W: self._watts, A: self._amperes, V: self._volts}
        return [
            Value(place.node, place.endpoint, scale, show[scale](place, moment))
            for place, scale in every
        ]

    def _watts(self, place: Place, moment: datetime) -> float:
        if place in SWITCHED and not self._on[place.node]:
            return 0.0
        return self.household.power_w(place, moment) - self._kept_back_w(place, moment)

    def _kept_back_w(self, place: Place, moment: datetime) -> float:
        """The load of plugs that are off, for the meters behind which they hang."""
        if place not in BEHIND_WHICH_PLUGS_HANG:
            return 0.0
        off = [plug for plug in SWITCHED if not self._on[plug.node]]
        return sum(self.household.power_w(plug, moment) for plug in off)

    def _kwh(self, place: Place, moment: datetime) -> float:
        if place in BEHIND_WHICH_PLUGS_HANG:
            unused = sum(self._unused_kwh.values())
        else:
            unused = self._unused_kwh.get(place, 0.0)
        return round(self.household.energy_kwh(place, moment) - unused, 3)

    def _amperes(self, place: Place, moment: datetime) -> float:
        return round(abs(self._watts(place, moment)) / self._volts(place, moment), 3)

    def _volts(self, _: Place, moment: datetime) -> float:
        return self.household.voltage_v(moment)

    def _count(self, moment: datetime) -> None:
        """Note what plugs that are off did not use since the last tick."""
        since, self._counted_to = self._counted_to or moment, moment
        for plug in SWITCHED:
            if not self._on[plug.node]:
                used = [self.household.energy_kwh(plug, at) for at in (since, moment)]
                self._unused_kwh[plug] += used[1] - used[0]

    # --- what meters report ---------------------------------------------------------------------

    async def _ask_parameters(self) -> None:
        held = await self.stick.parameters(*HEM_GROUPS, *HEM_GROUPS.values())
        intervals = {shown: report_interval(shown, held[shown[0].node]) for shown in EVERYTHING}
        self._intervals = {shown: every for shown, every in intervals.items() if every}


def report_interval(shown: Shown, parameters: Mapping[int, int]) -> timedelta | None:
    """How often a device with these parameters reports this; None where no group asks for it."""
    place, scale = shown
    groups = HEM_GROUPS if place.node == METER else PLUG_GROUPS
    bit = HEM_WHOLE_BIT[scale]
    if place.endpoint:
        bit = HEM_CLAMP_BIT[scale] << (place.endpoint - 1)
    asking = [parameters[every] for mask, every in groups.items() if parameters[mask] & bit]
    return timedelta(seconds=min(asking)) if asking and min(asking) > 0 else None
