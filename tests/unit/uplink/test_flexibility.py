from datetime import UTC, datetime, timedelta

import pytest

from edge.errors import ConfigFault
from edge.model import Interval, Origin, Sensor, Term
from edge.uplink.flexibility import (
    Followed,
    OwnTriggers,
    cycle,
    flex_context,
    flex_model,
    plan_from,
    triggers_from_json,
    triggers_to_json,
    why_no_schedule,
)
from edge.uplink.remote import Series
from edge.uplink.schedules import power_sensor

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
BOILER = Followed("zwave/5", "Boiler", 2000.0)
WISH = OwnTriggers(timedelta(hours=1), timedelta(hours=24), 7, 0.3)


def test_equal_neighbours_are_one_interval_in_watts() -> None:
    series = Series(NOON, MINUTE, (None, 0.0, -0.0, 2.0, None, 2.0))
    plan = plan_from(Origin.LIMIT, series, NOON)
    assert plan.intervals == (
        Interval(NOON + MINUTE, NOON + 3 * MINUTE, 0.0),
        Interval(NOON + 3 * MINUTE, NOON + 4 * MINUTE, 2000.0),
        Interval(NOON + 5 * MINUTE, NOON + 6 * MINUTE, 2000.0),
    )


def test_what_is_over_is_left_out() -> None:
    series = Series(NOON, MINUTE, (0.0, 1.0))
    assert len(plan_from(Origin.LIMIT, series, NOON + MINUTE).intervals) == 1


def test_nobody_ever_posted_is_an_empty_plan() -> None:
    assert plan_from(Origin.SCHEDULE, None, NOON).intervals == ()


def test_sensor_that_counts_production_is_turned() -> None:
    plan = plan_from(Origin.SCHEDULE, Series(NOON, MINUTE, (-2.0, -0.0)), NOON, sign=-1)
    assert [interval.power_w for interval in plan.intervals] == [2000.0, 0.0]
    assert "-" not in str(plan.intervals[1].power_w)


def test_commitment_makes_it_a_trade_off() -> None:
    context = flex_context(WISH, {"zwave/5": BOILER}, "EUR/MWh")
    assert context["commitments"] == [
        {
            "name": "comfort of the box's devices",
            "baseline": "2000 W",
            "down-price": "-0.3 EUR/kWh",
            "up-price": "1 EUR/kWh",
        }
    ]
    assert flex_model(BOILER)["production-capacity"] == "0 W"


def test_wish_for_schedules_is_kept_and_checked() -> None:
    assert triggers_from_json(triggers_to_json(WISH)) == WISH
    with pytest.raises(ConfigFault) as problem:
        triggers_from_json(
            triggers_to_json(OwnTriggers(MINUTE, timedelta(days=9), 7, worth_per_kwh=-1))
        )
    assert len(problem.value.faults) == 3


def test_box_asks_at_its_own_place_in_each_period() -> None:
    phase = 7 * MINUTE
    first = cycle(NOON, 30 * MINUTE, phase, NOON)
    assert first == NOON + phase
    assert cycle(NOON, 30 * MINUTE, phase, first) == first + 30 * MINUTE


def test_power_sensor_of_a_device_is_fed_by_it_alone() -> None:
    def sensor(number: int, name: str, unit: str, *keys: str) -> Sensor:
        return Sensor(number, name, unit, 5 * MINUTE, tuple(Term(key) for key in keys))

    sensors = [
        sensor(1, "whole house", "kW", "zwave/5/0/active_power/import", "zwave/6/0/x"),
        sensor(2, "electricity-power 1", "kW", "zwave/5/1/active_power/import"),
        sensor(3, "electricity-power", "kW", "zwave/5/0/active_power/import"),
        sensor(4, "gas", "m³", "zwave/5/0/gas/import"),
        sensor(5, "electricity-power", "kW", "zwave/55/0/active_power/import"),
    ]
    found = power_sensor("zwave/5", sensors)
    assert found is not None
    assert found.sensor_id == 3
    assert power_sensor("zwave/9", sensors) is None


def test_commitments_of_others_stay_and_ours_stands_once() -> None:
    once = flex_context(WISH, {BOILER.device_key: BOILER}, "EUR/kWh")
    theirs = {"name": "peak", "baseline": "0 W", "up-price": "2 EUR/kWh"}
    kept = {"commitments": [theirs, *_commitments(once)]}
    again = flex_context(WISH, {BOILER.device_key: BOILER}, "EUR/kWh", kept)
    assert _commitments(again) == [theirs, *_commitments(once)]


@pytest.mark.parametrize("kept", [{}, {"commitments": None}, {"commitments": "none"}])
def test_context_that_cannot_be_read_is_no_obstacle(kept: dict[str, object]) -> None:
    once = flex_context(WISH, {BOILER.device_key: BOILER}, "EUR/kWh")
    assert flex_context(WISH, {BOILER.device_key: BOILER}, "EUR/kWh", kept) == once


def _commitments(context: dict[str, object]) -> list[object]:
    found = context["commitments"]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Scheduling job failed with InfeasibleProblemException: infeasible.", "must loosen"),
        ("failed with UnknownPricesException: Prices unknown", "load them into the price sensor"),
        ("something else entirely", "something else entirely"),
    ],
)
def test_why_there_is_no_schedule_is_said_in_words(said: str, words: str) -> None:
    told = why_no_schedule(said)
    assert told.startswith("FlexMeasures makes no schedule: ")
    assert words in told
    assert said in told
