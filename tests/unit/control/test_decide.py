"""The rules of switching, by hand and over random plans."""

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.control.decide import BOX_TIMED_MAX, SHORTEST_AWAY, Controllable, Past, decide
from edge.model import Interval, Origin, Plan

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
QUARTER = timedelta(minutes=15)
HOUR = timedelta(hours=1)
BOILER = Controllable("zwave/5", nominal_power_w=2000, consent=True)
NEVER = Past()


def plan(
    origin: Origin, *powers_w: float, start: datetime = NOON, step: timedelta = QUARTER
) -> Plan:
    return Plan(
        origin,
        tuple(
            Interval(start + n * step, start + (n + 1) * step, power_w)
            for n, power_w in enumerate(powers_w)
        ),
    )


def asked(*plans: Plan) -> dict[Origin, Plan]:
    return {each.origin: each for each in plans}


def test_device_is_free_again_when_its_interval_ends() -> None:
    zero = asked(plan(Origin.LIMIT, 0))
    assert decide(BOILER, zero, NEVER, NOON).away_until == NOON + QUARTER
    assert decide(BOILER, zero, NEVER, NOON + QUARTER).away_until is None


def test_touching_intervals_are_one_absence() -> None:
    zero = asked(plan(Origin.LIMIT, 0, 0, 0, 2000, 0))
    assert decide(BOILER, zero, NEVER, NOON).away_until == NOON + 3 * QUARTER


@pytest.mark.parametrize("nothing", [0.0, -0.0])
def test_negative_zero_is_nothing(nothing: float) -> None:
    for origin in Origin:
        assert decide(BOILER, asked(plan(origin, nothing)), NEVER, NOON).away_until


def test_limit_switches_off_below_nominal_power_and_says_nothing_above() -> None:
    assert decide(BOILER, asked(plan(Origin.LIMIT, 1999)), NEVER, NOON).away_until
    allowed = decide(BOILER, asked(plan(Origin.LIMIT, 2000)), NEVER, NOON)
    assert (allowed.away_until, allowed.origin) == (None, None)


def test_limit_that_allows_leaves_the_schedule_its_say() -> None:
    both = asked(plan(Origin.LIMIT, 3000), plan(Origin.SCHEDULE, 0))
    decision = decide(BOILER, both, NEVER, NOON)
    assert decision.origin is Origin.SCHEDULE
    assert decision.away_until == NOON + QUARTER


def test_schedule_takes_the_nearer_state() -> None:
    assert decide(BOILER, asked(plan(Origin.SCHEDULE, 999)), NEVER, NOON).away_until
    assert decide(BOILER, asked(plan(Origin.SCHEDULE, 1000)), NEVER, NOON).away_until is None


def test_power_that_is_no_number_switches_nothing() -> None:
    for origin in Origin:
        assert decide(BOILER, asked(plan(origin, float("nan"))), NEVER, NOON).away_until is None


def test_hand_is_stronger_than_limit_and_limit_than_schedule() -> None:
    run, stop = 2000.0, 0.0
    everyone = asked(plan(Origin.HAND, run), plan(Origin.LIMIT, stop), plan(Origin.SCHEDULE, stop))
    decision = decide(BOILER, everyone, NEVER, NOON)
    assert (decision.away_until, decision.origin) == (None, Origin.HAND)
    del everyone[Origin.HAND]
    everyone[Origin.SCHEDULE] = plan(Origin.SCHEDULE, run)
    assert decide(BOILER, everyone, NEVER, NOON).origin is Origin.LIMIT


def test_missing_interval_asks_for_nothing() -> None:
    later = asked(plan(Origin.SCHEDULE, 0, start=NOON + HOUR))
    decision = decide(BOILER, later, NEVER, NOON)
    assert decision.away_until is None
    assert decision.look_again == NOON + HOUR


def test_nobody_agreed_so_nothing_is_switched() -> None:
    alone = Controllable("zwave/5", 2000)
    for origin in Origin:
        assert decide(alone, asked(plan(origin, 0)), NEVER, NOON).why == "no_consent"


def test_device_with_a_timer_needs_no_consent_and_is_not_switched_for_less_than_it_can_hold() -> (
    None
):
    timed = Controllable("smappee/1", 2000, own_timers=(5 * MINUTE, 15 * MINUTE))
    assert decide(timed, asked(plan(Origin.LIMIT, 0)), NEVER, NOON).away_until
    short = asked(plan(Origin.LIMIT, 0, step=3 * MINUTE))
    assert decide(timed, short, NEVER, NOON).why == "too_short"


def test_only_the_box_can_bring_it_back_so_two_hours_are_the_most() -> None:
    long = Controllable("zwave/5", 2000, away_longest=timedelta(hours=9), consent=True)
    day = asked(plan(Origin.HAND, 0, step=timedelta(days=1)))
    assert decide(long, day, NEVER, NOON).away_until == NOON + BOX_TIMED_MAX


def test_hours_it_is_left_alone_are_the_house_s_own() -> None:
    night = Controllable(
        "zwave/5", 2000, consent=True, left_alone=((time(22), time(6)),), timezone="Europe/Brussels"
    )
    day = asked(plan(Origin.SCHEDULE, 0, start=NOON, step=timedelta(days=1)))
    assert decide(night, day, NEVER, NOON + 8.9 * HOUR).away_until == NOON + 9 * HOUR  # 22:00 CET
    assert decide(night, day, NEVER, NOON + 9 * HOUR).why == "left_alone"
    assert decide(night, day, NEVER, NOON + 9 * HOUR).look_again == NOON + 17 * HOUR
    hand = asked(plan(Origin.HAND, 0, start=NOON, step=timedelta(days=1)))
    assert decide(night, hand, NEVER, NOON + 9 * HOUR).away_until


def test_device_rests_between_two_absences() -> None:
    zero = asked(plan(Origin.SCHEDULE, 0, step=HOUR))
    resting = decide(BOILER, zero, Past(back_since=NOON - MINUTE), NOON)
    assert (resting.away_until, resting.why) == (None, "resting")
    assert resting.look_again == NOON + 9 * MINUTE
    assert decide(BOILER, zero, Past(back_since=NOON - 10 * MINUTE), NOON).away_until


def test_device_that_is_off_normally_is_switched_on_by_a_schedule_and_never_by_a_limit() -> None:
    pump = Controllable("zwave/6", 2000, consent=True, normal_on=False)
    assert decide(pump, asked(plan(Origin.SCHEDULE, 2000)), NEVER, NOON).away_until
    assert decide(pump, asked(plan(Origin.SCHEDULE, 0)), NEVER, NOON).away_until is None
    assert decide(pump, asked(plan(Origin.LIMIT, 5000)), NEVER, NOON).away_until is None
    capped = asked(plan(Origin.LIMIT, 0), plan(Origin.SCHEDULE, 2000))
    assert decide(pump, capped, NEVER, NOON).origin is Origin.LIMIT
    assert decide(pump, capped, NEVER, NOON).away_until is None


# --- over random plans ----------------------------------------------------------------------------

powers = st.sampled_from([0.0, -0.0, 300.0, 999.0, 1000.0, 1500.0, 2000.0, 5000.0, float("nan")])
gaps = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 200), powers), max_size=12)
hours = st.times().map(lambda t: t.replace(second=0, microsecond=0, tzinfo=None))


@st.composite
def random_plans(draw: st.DrawFn) -> dict[Origin, Plan]:
    plans = {}
    for origin in draw(st.sets(st.sampled_from(Origin))):
        at, intervals = NOON, []
        for gap, length, power_w in draw(gaps):
            start = at + gap * MINUTE
            at = start + length * MINUTE
            intervals.append(Interval(start, at, power_w))
        plans[origin] = Plan(origin, tuple(intervals))
    return plans


@st.composite
def devices(draw: st.DrawFn) -> Controllable:
    return Controllable(
        "zwave/5",
        nominal_power_w=2000,
        off_power_w=draw(st.sampled_from([0.0, 50.0])),
        away_longest=draw(st.integers(1, 300)) * MINUTE,
        rest_shortest=draw(st.integers(0, 60)) * MINUTE,
        left_alone=tuple(draw(st.lists(st.tuples(hours, hours), max_size=2))),
        timezone=draw(st.sampled_from(["UTC", "Europe/Brussels", "America/St_Johns"])),
        normal_on=draw(st.booleans()),
        own_timers=draw(st.sampled_from([(), (5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR)])),
        consent=draw(st.booleans()),
    )


@given(devices(), random_plans(), st.lists(st.integers(1, 30), min_size=20, max_size=80))
def test_whatever_is_planned_the_device_s_own_limits_hold(
    device: Controllable, plans: dict[Origin, Plan], steps: list[int]
) -> None:
    """Decide again and again, as the box does, and watch."""
    now, past, origin = NOON, Past(), None
    until = None
    for step in steps:
        decision = decide(device, plans, past, now)
        if decision.away_until is not None:
            assert decision.away_until > now
            assert device.consent or not device.is_box_timed
            since = past.away_since or now
            assert decision.away_until <= since + device.away_max
            if past.away_since is None:
                assert decision.away_until - now >= SHORTEST_AWAY
                assert device.consent or device.hold(decision.away_until - now)
                if decision.origin is not Origin.HAND and past.back_since:
                    assert now - past.back_since >= device.rest_shortest
            if decision.origin is not Origin.HAND:
                assert not _is_left_alone(device, now)
                assert not _is_left_alone(device, decision.away_until - timedelta(microseconds=1))
            past, until, origin = Past(away_since=since), decision.away_until, decision.origin
        elif past.away_since is not None:
            past, until = Past(back_since=now), None
        assert decision.look_again is None or decision.look_again > now
        now += step * MINUTE
        if until is not None and until <= now:
            past, until = Past(back_since=until), None
    assert origin is None or origin in plans


def _is_left_alone(device: Controllable, moment: datetime) -> bool:
    from zoneinfo import ZoneInfo

    local = moment.astimezone(ZoneInfo(device.timezone)).time()
    return any(
        begin <= local < finish if begin < finish else local >= begin or local < finish
        for begin, finish in device.left_alone
    )


@given(devices(), random_plans(), st.integers(0, 500))
def test_without_a_reason_to_look_again_nothing_would_change(
    device: Controllable, plans: dict[Origin, Plan], minutes: int
) -> None:
    """Until look_again the answer stays: so the box may sleep until then."""
    now = NOON + minutes * MINUTE
    first = decide(device, plans, NEVER, now)
    later = first.look_again or now + timedelta(days=1)
    almost = now + (later - now) * 0.999
    if first.away_until is None and first.why not in ("too_short",):
        second = decide(device, plans, NEVER, almost)
        if second.why != "too_short":
            assert (second.away_until is None) is (first.away_until is None)
