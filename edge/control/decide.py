"""What a device should do at this moment: plans and limits in, one decision out. Pure.

Three origins may ask, in this order of right: a hand, a limit (a cap somebody posted), the
schedule. None of them asks for more than the device's own limits allow: how long it may be off,
how long it must have been on in between, the hours it is left alone.

Partial power on an on/off device: a limit is a cap, so the device goes off when the cap is below
its nominal power; a schedule is a wish, so it goes off when less than half its nominal power is
planned. `-0.0` is nothing. A missing interval asks for nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

# What only the box can bring back may stay off this long, whoever asks: a dead box is found by
# then, and a freezer survives it.
BOX_TIMED_OFF_MAX = timedelta(hours=2)
SCHEDULE_OFF_BELOW = 0.5  # of nominal power
SHORTEST_OFF = timedelta(seconds=30)  # less than this is radio traffic, not flexibility


class Origin(StrEnum):
    """Who asks, the strongest first."""

    HAND = "hand"
    LIMIT = "limit"
    SCHEDULE = "schedule"


@dataclass(frozen=True, slots=True)
class Controllable:
    """A switch somebody allowed the box to use, and how far.

    `normal_on` is the state it returns to. `left_alone` are local hours [from, to) in which no
    limit and no schedule touches it (over midnight when from > to). `own_timers` are the holds
    after which it comes back without the box; all others need `consent` and obey the box's cap.
    """

    device_key: str
    nominal_power_w: float
    off_longest: timedelta = timedelta(hours=1)
    on_shortest: timedelta = timedelta(minutes=10)
    left_alone: tuple[tuple[time, time], ...] = ()
    timezone: str = "UTC"
    normal_on: bool = True
    own_timers: tuple[timedelta, ...] = ()
    consent: bool = False

    @property
    def off_max(self) -> timedelta:
        """The longest it may be off in one go."""
        return self.off_longest if self.own_timers else min(self.off_longest, BOX_TIMED_OFF_MAX)


@dataclass(frozen=True, slots=True)
class Interval:
    """[start, end) with the average power wanted in it, consumption positive."""

    start: datetime
    end: datetime
    power_w: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What one origin asks of one device, in intervals sorted by start that do not overlap."""

    origin: Origin
    intervals: tuple[Interval, ...]

    def at(self, moment: datetime) -> Interval | None:
        """The interval that holds `moment`."""
        return next((i for i in self.intervals if i.start <= moment < i.end), None)


@dataclass(frozen=True, slots=True)
class Past:
    """What was already done to the device: off since when, and when it last came back."""

    off_since: datetime | None = None
    on_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """`off_until` None means: its normal state. `why` is for people, `next_change` for the page."""

    off_until: datetime | None
    origin: Origin | None
    why: str
    next_change: datetime | None = None


def decide(
    device: Controllable, plans: Mapping[Origin, Plan], past: Past, now: datetime
) -> Decision:
    """What `device` should do at `now`."""
    for origin in Origin:
        plan = plans.get(origin)
        interval = plan.at(now) if plan else None
        if plan is None or interval is None:
            continue
        if not _asks_off(device, origin, interval.power_w):
            return _normal(origin, f"the {origin} lets it run", interval.end)
        wanted = _off_end(device, plan, interval)
        return _within_limits(device, origin, wanted, past, now)
    return _normal(None, "nobody asks anything of it", _next_start(plans.values(), now))


def _asks_off(device: Controllable, origin: Origin, power_w: float) -> bool:
    if origin is Origin.SCHEDULE:
        return power_w < SCHEDULE_OFF_BELOW * device.nominal_power_w
    return power_w < device.nominal_power_w


def _off_end(device: Controllable, plan: Plan, first: Interval) -> datetime:
    """The end of the run of touching intervals that all ask for off."""
    end = first.end
    for interval in plan.intervals:
        if interval.start == end and _asks_off(device, plan.origin, interval.power_w):
            end = interval.end
    return end


def _within_limits(
    device: Controllable, origin: Origin, wanted: datetime, past: Past, now: datetime
) -> Decision:
    if not device.own_timers and not device.consent:
        return _normal(origin, "only the box could bring it back, and nobody agreed to that")
    if origin is not Origin.HAND:
        if (free_at := _left_alone_until(device, now)) is not None:
            return _normal(origin, "these are hours it is left alone", free_at)
        rested_at = past.on_since + device.on_shortest if past.on_since else now
        if past.off_since is None and rested_at > now:
            return _normal(origin, "it came back only a short while ago", rested_at)
        wanted = min(wanted, _next_left_alone(device, now, wanted))
    until = min(wanted, (past.off_since or now) + device.off_max)
    if until <= now:
        return _normal(origin, "it has been off as long as it may", now + device.on_shortest)
    if past.off_since is None and until - now < SHORTEST_OFF:
        return _normal(origin, "what is left of it is too short to switch for", wanted)
    return Decision(until, origin, f"the {origin} asks for it", until)


def _normal(origin: Origin | None, why: str, next_change: datetime | None = None) -> Decision:
    return Decision(None, origin, why, next_change)


def _next_start(plans: Iterable[Plan], now: datetime) -> datetime | None:
    return min((i.start for plan in plans for i in plan.intervals if i.start > now), default=None)


def _left_alone_until(device: Controllable, now: datetime) -> datetime | None:
    """When the hours end in which it is left alone; None outside of them."""
    for start, end in _left_alone_spans(device, now):
        if start <= now < end:
            return end
    return None


def _next_left_alone(device: Controllable, now: datetime, until: datetime) -> datetime:
    starts = (start for start, _ in _left_alone_spans(device, now) if now < start < until)
    return min(starts, default=until)


def _left_alone_spans(device: Controllable, now: datetime) -> list[tuple[datetime, datetime]]:
    """The spans around `now`, yesterday's to tomorrow's, in the house's own time."""
    zone = ZoneInfo(device.timezone)
    today = now.astimezone(zone).date()
    spans = []
    for day in (today - timedelta(days=1), today, today + timedelta(days=1)):
        for begin, finish in device.left_alone:
            start = datetime.combine(day, begin, zone)
            end_day = day if finish > begin else day + timedelta(days=1)
            spans.append((start, datetime.combine(end_day, finish, zone)))
    return spans
