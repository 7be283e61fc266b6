"""What a device should do at this moment: plans and limits in, one decision out. Pure.

Three origins may ask, in this order of right: a hand, a limit (a cap somebody posted), the
schedule. None of them gets more than the device's own limits allow: how long it may be away from
its normal state, how long it must rest in between, the hours it is left alone.

Partial power on an on/off device: a limit is a cap, so the device goes off where the cap is below
its nominal power, and a cap above it says nothing; a schedule is a wish, so the nearer of the two
states is taken. `-0.0` is nothing. A missing interval asks for nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from edge.model import Interval, Origin, Plan

# What only the box can bring back may stay away this long, whoever asks: a dead box is found by
# then, and a freezer survives it.
BOX_TIMED_MAX = timedelta(hours=2)
# Half an hour "from now" begins with its minute in FlexMeasures and is seen at the next poll; it is
# a hold of half an hour all the same. The box brings the device back on time; only where the box is
# dead it comes so much later.
HOLD_GRACE = timedelta(seconds=90)
_STEPS_MAX = 400  # boundaries of a day's plans that next_change() looks at
SHORTEST_AWAY = timedelta(seconds=30)  # less than this is radio traffic, not flexibility


@dataclass(frozen=True, slots=True)
class Controllable:
    """A switch somebody allowed the box to use, and how far.

    It is "away" while it is not in its normal state (`normal_on`). `off_power_w` is what it still
    takes when switched off. `left_alone` are local hours [from, to) in which no limit and no
    schedule touches it (over midnight when from >= to). `own_timers` are the holds after which it
    comes back without the box; where only the box can bring it back, that needs `consent` and
    obeys the box's cap.
    """

    device_key: str
    nominal_power_w: float
    off_power_w: float = 0.0
    away_longest: timedelta = timedelta(hours=1)
    rest_shortest: timedelta = timedelta(minutes=10)
    left_alone: tuple[tuple[time, time], ...] = ()
    timezone: str = "UTC"
    normal_on: bool = True
    own_timers: tuple[timedelta, ...] = ()
    consent: bool = False

    @property
    def is_box_timed(self) -> bool:
        """Whether only the box can bring it back: a device's own timer brings it on, never off."""
        return not (self.own_timers and self.normal_on)

    @property
    def away_max(self) -> timedelta:
        """The longest it may be away in one go."""
        return min(self.away_longest, BOX_TIMED_MAX) if self.is_box_timed else self.away_longest

    def hold(self, wanted: timedelta) -> timedelta | None:
        """The longest of its own holds that ends no later than wanted, give or take HOLD_GRACE."""
        if self.is_box_timed:
            return None
        longest = wanted + HOLD_GRACE
        return max((hold for hold in self.own_timers if hold <= longest), default=None)


@dataclass(frozen=True, slots=True)
class Past:
    """What was already done to the device: away since when, and when it last came back."""

    away_since: datetime | None = None
    back_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """`away_until` None means: its normal state. `why` is a key of the page's texts (control.why.…,
    see WHY for the words), `look_again` the first moment at which the answer may be another."""

    away_until: datetime | None
    origin: Origin | None
    why: str
    look_again: datetime | None = None


WHY = {
    "nobody": "nobody asks anything of it",
    "allowed": "{origin} wants it in its normal state",
    "asked": "{origin} asks for it",
    "no_consent": "only the box could bring it back, and nobody agreed to that",
    "left_alone": "these are hours in which it is left alone",
    "resting": "it came back only a short while ago",
    "longest": "it has been away as long as it may",
    "too_short": "what is left of it is too short to switch for",
    "by_hand": "somebody switched it by hand",
    "over": "its time is over",
    "forbidden": "it may be switched no longer",
    "too_late": "the card was too slow; it was not switched",
    "memory_lost": "the box's memory was damaged; it was brought back to be sure",
    "restarted_without_time": "the box restarted and did not know the time",
}


def decide(
    device: Controllable, plans: Mapping[Origin, Plan], past: Past, now: datetime
) -> Decision:
    """What `device` should do at `now`."""
    boundaries = (plan.next_boundary(now) for plan in plans.values())
    next_boundary = _first(*boundaries)
    for origin in Origin:
        plan = plans.get(origin)
        interval = plan.at(now) if plan else None
        away = _asks_away(device, origin, interval) if interval else None
        if plan is None or interval is None or away is None:
            continue
        if not away:
            return Decision(None, origin, "allowed", next_boundary)
        wanted = _end_of_run(device, plan, interval)
        return _within_limits(device, origin, wanted, past, now, next_boundary)
    return Decision(None, None, "nobody", next_boundary)


def next_change(
    device: Controllable, plans: Mapping[Origin, Plan], past: Past, now: datetime
) -> tuple[datetime, Decision] | None:
    """When the device will leave its normal state, or come back, as far as is known; and why."""
    decision = decide(device, plans, past, now)
    if decision.away_until is not None:
        back_at = decision.away_until
        return back_at, decide(device, plans, Past(back_since=back_at), back_at)
    for _ in range(_STEPS_MAX):
        if decision.look_again is None:
            return None
        moment = decision.look_again
        decision = decide(device, plans, past, moment)
        if decision.away_until is not None:
            return moment, decision
    return None


def _asks_away(device: Controllable, origin: Origin, interval: Interval) -> bool | None:
    """Whether the interval wants the device away from its normal state; None: it says nothing."""
    power_w = interval.power_w
    if origin is Origin.LIMIT:
        if not power_w < device.nominal_power_w:
            return None
        return device.normal_on  # a cap never asks anything to run
    wants_off = power_w < (device.nominal_power_w + device.off_power_w) / 2
    return wants_off is device.normal_on


def _end_of_run(device: Controllable, plan: Plan, first: Interval) -> datetime:
    """The end of the run of touching intervals that all ask for the same."""
    end = first.end
    for interval in plan.intervals:
        if interval.start == end and _asks_away(device, plan.origin, interval):
            end = interval.end
    return end


def _within_limits(
    device: Controllable,
    origin: Origin,
    wanted: datetime,
    past: Past,
    now: datetime,
    next_boundary: datetime | None,
) -> Decision:
    def normal(why: str, until: datetime | None = None) -> Decision:
        return Decision(None, origin, why, _first(until, next_boundary))

    if device.is_box_timed and not device.consent:
        return normal("no_consent")
    if origin is not Origin.HAND:
        if (free_at := _left_alone_until(device, now)) is not None:
            return normal("left_alone", free_at)
        rested_at = past.back_since + device.rest_shortest if past.back_since else now
        if past.away_since is None and rested_at > now:
            return normal("resting", rested_at)
        wanted = min(wanted, _next_left_alone(device, now, wanted))
    until = min(wanted, (past.away_since or now) + device.away_max)
    if until <= now:
        return normal("longest")
    if past.away_since is None and not _worth_it(device, until - now):
        return normal("too_short")
    return Decision(until, origin, "asked", _first(until, next_boundary))


def _worth_it(device: Controllable, span: timedelta) -> bool:
    """A device whose own timer must bring it back has no shorter holds than its shortest."""
    return span >= SHORTEST_AWAY and (device.consent or device.hold(span) is not None)


def _first(*moments: datetime | None) -> datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)


def _left_alone_until(device: Controllable, now: datetime) -> datetime | None:
    """When the hours end in which it is left alone; None outside of them."""
    for start, end in _left_alone_spans(device, now):
        if start <= now < end:
            return end
    return None


def _next_left_alone(device: Controllable, now: datetime, until: datetime) -> datetime:
    starts = (start for start, _ in _left_alone_spans(device, now) if now < start < until)
    return min(starts, default=until)


def _left_alone_spans(device: Controllable, now: datetime) -> Iterable[tuple[datetime, datetime]]:
    """The spans around `now`, yesterday's to tomorrow's, of the house's own hours."""
    if not device.left_alone:
        return
    zone = ZoneInfo(device.timezone)
    today = now.astimezone(zone).date()
    for days in (-1, 0, 1):
        day = today + timedelta(days=days)
        for begin, finish in device.left_alone:
            end_day = day if finish > begin else day + timedelta(days=1)
            yield (
                datetime.combine(day, begin, zone).astimezone(UTC),
                datetime.combine(end_day, finish, zone).astimezone(UTC),
            )
