"""What FlexMeasures asks of each device, as leases: a plan nobody renews in time lapses.

Limits and schedules are kept by device and origin, in memory only. Each counts for the lease's
length after it was last heard, and only while the clock is trusted: plans are times of day.
"""

from datetime import timedelta
from typing import Any

from edge.clock import MILLISECOND, Clock
from edge.errors import ConfigFault
from edge.model import Interval, Origin, Plan

LEASE = timedelta(hours=2)
LEASE_MIN = timedelta(minutes=15)  # shorter would lapse while a server restarts or updates
LEASE_MAX = timedelta(hours=24)  # a schedule does not reach further either
REMEMBERED = timedelta(hours=26)  # what was planned, for the chart of today


class PlanBook:
    """One per box. Everything here is called from the loop."""

    def __init__(self, clock: Clock) -> None:
        self.lease = LEASE
        self._clock = clock
        self._plans: dict[str, dict[Origin, Plan]] = {}
        self._heard_ms: dict[tuple[str, Origin], int] = {}
        self._last_heard_ms = clock.boottime_ms()
        self._over: dict[str, dict[Origin, tuple[Interval, ...]]] = {}

    def take(self, device_key: str, plan: Plan) -> bool:
        """A limit or a schedule as it stands now, in place of the one before; whether it differs.
        Its lease begins anew either way."""
        now_ms = self._clock.boottime_ms()
        self._heard_ms[device_key, plan.origin] = self._last_heard_ms = now_ms
        before = self._plans.get(device_key, {}).get(plan.origin)
        if before == plan:
            return False
        self._plans.setdefault(device_key, {})[plan.origin] = plan
        if before is not None:
            self._remember(device_key, before)
        return True

    def assume(self, device_key: str, plan: Plan) -> None:
        """What an earlier life of the box was told; counts until FlexMeasures says otherwise."""
        self._heard_ms.setdefault((device_key, plan.origin), self._clock.boottime_ms())
        self._plans.setdefault(device_key, {}).setdefault(plan.origin, plan)

    def forget(self, device_key: str) -> None:
        """The device is controllable no longer."""
        self._plans.pop(device_key, None)

    def silent_for(self) -> timedelta:
        """Since FlexMeasures was last heard on any device, or since the start."""
        return (self._clock.boottime_ms() - self._last_heard_ms) * MILLISECOND

    def counting(self, device_key: str) -> dict[Origin, Plan]:
        """The plans of the device whose lease has not run out."""
        if not self._clock.is_trusted():
            return {}
        since_ms = self._clock.boottime_ms() - self.lease // MILLISECOND
        return {
            origin: plan
            for origin, plan in self._plans.get(device_key, {}).items()
            if self._heard_ms[device_key, origin] >= since_ms
        }

    def with_past(self, device_key: str, plans: dict[Origin, Plan]) -> dict[Origin, Plan]:
        """`plans`, and what counted in the last day: for charts."""
        whole = dict(plans)
        for origin, over in self._over.get(device_key, {}).items():
            coming = plans.get(origin, Plan(origin, ())).intervals
            whole[origin] = Plan(origin, (*over, *coming))
        return whole

    def _remember(self, device_key: str, before: Plan) -> None:
        """Keep what a plan said of the time until now."""
        now = self._clock.wall_now()
        over = self._over.setdefault(device_key, {}).setdefault(before.origin, ())
        known_until = over[-1].end if over else now - REMEMBERED
        said = (
            Interval(max(i.start, known_until), min(i.end, now), i.power_w)
            for i in before.intervals
            if i.start < now and i.end > known_until
        )
        kept = (*(i for i in over if i.end > now - REMEMBERED), *said)
        self._over[device_key][before.origin] = kept


def checked_lease(span: timedelta) -> timedelta:
    """`span`, if a lease may be so long. Raises ConfigFault."""
    if not LEASE_MIN <= span <= LEASE_MAX:
        raise ConfigFault(
            "plans can count on between 15 minutes and 24 hours after they were heard"
        )
    return span


def lease_from_json(kept: Any) -> timedelta:
    """What was chosen; the usual lease where nothing, or nothing readable, was."""
    try:
        return LEASE if kept is None else checked_lease(timedelta(seconds=float(kept)))
    except (ConfigFault, TypeError, ValueError, OverflowError):
        return LEASE
