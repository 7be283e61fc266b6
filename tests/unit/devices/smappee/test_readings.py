"""What the Smappee cloud says, as channels and readings."""

from datetime import UTC, datetime, timedelta

import pytest

from edge.devices.smappee.holds import OWN_TIMERS, SmappeeHold, exact_hold
from edge.devices.smappee.readings import (
    appliance_channel,
    electricity,
    event_readings,
    interval_start,
    readings,
    sensor_measures,
)
from edge.model import Channel, Direction, Kind, Quantity

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp() * 1000)
LATER = NOON + timedelta(hours=1)


def said(*records: object) -> dict[str, float]:
    """Channel key → value of electricity records."""
    return {
        reading.channel_key.removeprefix("smappee/123/"): reading.value
        for _, reading in readings(list(records), electricity("123", "Home"), LATER)
    }


def test_energy_of_five_minutes_arrives_in_kwh() -> None:
    record = {"timestamp": NOON_MS, "consumption": 51.3, "solar": 12.5, "alwaysOn": 120.0}
    assert said(record) == {
        "consumption/active_energy/import": pytest.approx(0.0513),
        "solar/active_energy/export": pytest.approx(0.0125),
        "always-on/active_energy/import": pytest.approx(0.01),
    }


def test_grid_of_newer_versions_is_import_and_export() -> None:
    record = {"timestamp": NOON_MS, "gridImport": 5.0, "gridExport": 0}
    assert said(record) == {
        "grid/active_energy/import": 0.005,
        "grid/active_energy/export": 0.0,
    }


def test_channels_are_five_minute_intervals_and_parts_are_marked_as_repeats() -> None:
    whole, solar, always_on, *grid = (m.channel for m in electricity("123", "Home"))
    assert (whole.kind, whole.report_interval) == (Kind.INTERVAL, timedelta(minutes=5))
    assert (whole.unit, whole.repeats, solar.repeats) == ("kWh", None, None)
    assert solar.direction is Direction.EXPORT
    assert {channel.repeats for channel in (always_on, *grid)} == {whole.key}


@pytest.mark.parametrize(
    "record",
    [
        {"consumption": 5.0},
        {"timestamp": NOON_MS + 1, "consumption": 5.0},
        {"timestamp": None, "consumption": 5.0},
        {"timestamp": NOON_MS, "consumption": None},
        {"timestamp": NOON_MS, "consumption": "5"},
        {"timestamp": NOON_MS, "consumption": float("nan")},
        {"timestamp": NOON_MS, "consumption": True},
        "a word",
        None,
    ],
)
def test_unreadable_record_leaves_a_gap_and_not_a_zero(record: object) -> None:
    assert said(record) == {}


def test_interval_that_is_not_over_is_not_offered() -> None:
    record = {"timestamp": int(LATER.timestamp() * 1000), "consumption": 5.0}
    assert said(record) == {}


def test_body_that_is_no_list_gives_nothing() -> None:
    assert list(readings({"error": "x"}, electricity("123", "Home"), LATER)) == []


def sensor(**described: object) -> dict[str, object]:
    whole = {"channel": 1, "ppu": 100.0, "uom": "m3", "enabled": True, "type": "gas", "name": "Gas"}
    return {"id": 4, "name": "module", "channels": [whole | described]}


@pytest.mark.parametrize(
    ("described", "quantity", "value"),
    [
        ({}, Quantity.GAS, 0.03),
        ({"type": "water", "uom": "l", "ppu": 1}, Quantity.WATER, 0.003),
        ({"type": "electricity", "uom": "kWh", "ppu": 1000}, Quantity.ACTIVE_ENERGY, 0.003),
        ({"type": "electricity", "uom": "Wh", "ppu": 1}, Quantity.ACTIVE_ENERGY, 0.003),
        ({"type": "other", "uom": "bottles"}, Quantity.PULSES, 0.03),
    ],
)
def test_pulses_become_the_sensors_own_unit(
    described: dict[str, object], quantity: Quantity, value: float
) -> None:
    record = {"timestamp": NOON_MS, "value1": 3}
    [(measured, reading)] = readings([record], sensor_measures("123", sensor(**described)), LATER)
    assert measured.channel.quantity is quantity
    assert reading.value == pytest.approx(value)
    assert measured.channel.unit in ("m³", "kWh", "")


@pytest.mark.parametrize("described", [{"enabled": False}, {"ppu": 0}, {"ppu": None}])
def test_sensor_that_is_off_or_has_no_pulse_weight_measures_nothing(
    described: dict[str, object],
) -> None:
    record = {"timestamp": NOON_MS, "value1": 3}
    assert not list(readings([record], sensor_measures("123", sensor(**described)), LATER))


def test_sensor_tells_temperature_and_humidity_too() -> None:
    record = {"timestamp": NOON_MS, "temperature": 226, "humidity": 41}
    told = [r.value for _, r in readings([record], sensor_measures("123", sensor()), LATER)]
    assert told == [22.6, 41.0]


def test_appliance_events_are_its_power_and_nought_when_it_stops() -> None:
    channel = appliance_channel("123", {"id": 1, "name": "Coffeemaker"})
    events = [
        {"activePower": 340.0, "timestamp": NOON_MS},
        {"activePower": -340.0, "timestamp": NOON_MS + 60_000},
        {"timestamp": NOON_MS},
        "?",
    ]
    told = list(event_readings(events, channel))
    assert [reading.value for reading in told] == [340.0, 0.0]
    assert told[1].taken_at == NOON + timedelta(minutes=1)


def test_smappee_has_four_holds_and_no_other() -> None:
    assert [int(hold) for hold in SmappeeHold] == [300, 900, 1800, 3600]
    assert exact_hold(timedelta(minutes=20)) is None
    assert exact_hold(timedelta(seconds=900.5)) is None
    assert exact_hold(timedelta(minutes=15)) is SmappeeHold.QUARTER
    assert max(OWN_TIMERS) == timedelta(hours=1)


def test_interval_start_is_utc() -> None:
    assert interval_start({"timestamp": NOON_MS}) == NOON


def test_channel_keys_are_unique() -> None:
    channels: list[Channel] = [m.channel for m in electricity("123", "Home")]
    channels += [m.channel for m in sensor_measures("123", sensor())]
    assert len({channel.key for channel in channels}) == len(channels)
