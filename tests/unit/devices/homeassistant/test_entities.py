"""What Home Assistant knows, as channels, devices and readings."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from edge.devices.homeassistant.discovery import announced
from edge.devices.homeassistant.entities import (
    Entity,
    channel_of,
    dashboard,
    entities,
    is_meter,
    is_on,
    paired,
    same_meter,
    statistics_readings,
    switches,
    value_of,
)
from edge.model import Direction, Kind, Quantity
from tests.house.spoken_home_assistant import DUMPS, RELEASES, SpokenHomeAssistant

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
IN, OUT = Direction.IMPORT, Direction.EXPORT


def state(entity: str, value: str = "1", **said: object) -> dict[str, Any]:
    return {"entity_id": entity, "state": value, "attributes": said}


def entry(entity: str, ident: str, **more: object) -> dict[str, Any]:
    return {"entity_id": entity, "id": ident * 4, "platform": "x", "unique_id": ident} | more


def entity(**more: str) -> Entity:
    fields = {
        "uid": "uid",
        "entity_id": "sensor.a",
        "name": "A",
        "device": "device",
        "device_name": "Device",
        "model": "",
        "platform": "",
        "unique_id": "",
        "state": "1",
        "unit": "W",
        "device_class": "power",
        "state_class": "measurement",
    }
    return Entity(**(fields | more))


@pytest.mark.parametrize("release", RELEASES)
def test_recorded_house_has_its_meters_and_switches(release: str) -> None:
    said = SpokenHomeAssistant(release).answers
    known = entities(
        said["get_states"],
        said["config/entity_registry/list"],
        said["config/device_registry/list"],
    )
    channels = {e.name: channel_of(e, IN) for e in known if is_meter(e)}
    assert set(channels) == {"Grid power", "Solar power", "Grid import", "Grid export", "Gas"}
    assert channels["Grid power"].kind is Kind.INSTANTANEOUS
    assert channels["Grid import"].kind is Kind.COUNTER
    assert channels["Gas"].unit == "m³"
    assert {e.name for e in switches(known).values()} == {"Boiler", "Deaf plug"}
    assert len({channel.key for channel in channels.values()}) == 5


@pytest.mark.parametrize("release", RELEASES)
def test_energy_dashboard_of_either_schema_tells_the_grid(release: str) -> None:
    preferences = SpokenHomeAssistant(release).answers["energy/get_prefs"]
    assert dashboard(preferences) == {"sensor.grid_import": IN, "sensor.grid_export": OUT}


def test_solar_battery_gas_and_devices_of_the_dashboard() -> None:
    told = {
        "energy_sources": [
            {"type": "solar", "stat_energy_from": "sensor.sun", "stat_rate": "sensor.sun_w"},
            {"type": "battery", "stat_energy_from": "sensor.out", "stat_energy_to": "sensor.in"},
            {"type": "gas", "stat_energy_from": "sensor.gas"},
        ],
        "device_consumption": [{"stat_consumption": "sensor.heat_pump"}],
    }
    assert dashboard(told) == {
        "sensor.sun": OUT,
        "sensor.sun_w": OUT,
        "sensor.out": OUT,
        "sensor.in": IN,
        "sensor.gas": IN,
        "sensor.heat_pump": IN,
    }


@pytest.mark.parametrize("told", [None, [], {}, {"energy_sources": None}])
def test_dashboard_that_nobody_set_up_tells_nothing(told: object) -> None:
    assert dashboard(told) == {}


def test_entity_is_named_by_its_registry_id_and_grouped_by_device() -> None:
    known = entities(
        [state("sensor.new_name", friendly_name="Clamp"), state("switch.plug"), state("sensor.b")],
        [
            entry("sensor.new_name", "abcd", device_id="d" * 32),
            entry("switch.plug", "beef", device_id="d" * 32),
        ],
        [{"id": "d" * 32, "name": "Shelly", "manufacturer": "Shelly", "model": "1PM"}],
    )
    by_name = {e.entity_id: e for e in known}
    assert by_name["sensor.new_name"].uid == "abcdabcdabcd"
    assert by_name["sensor.new_name"].device == by_name["switch.plug"].device == "d" * 12
    assert by_name["switch.plug"].model == "Shelly 1PM"
    assert by_name["sensor.b"].uid == by_name["sensor.b"].device == "sensor.b"


def test_what_somebody_hid_is_not_offered() -> None:
    registry = [
        entry("sensor.a", "aaaa", hidden_by="user"),
        entry("sensor.b", "b", disabled_by="x"),
    ]
    assert entities([state("sensor.a"), state("sensor.b")], registry, []) == []


def test_first_switch_of_a_device_bears_its_name_and_later_ones_do_not_change_it() -> None:
    first = entity(entity_id="switch.one", uid="one", device="strip")
    second = entity(entity_id="switch.two", uid="two", device="strip")
    assert list(switches([first])) == ["strip"]
    assert list(switches([first, second])) == ["strip", "strip.two"]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, True),
        ({"unit": "horsepower"}, False),
        ({"entity_id": "number.a"}, False),
        ({"device_class": "battery", "unit": "%"}, False),
        ({"device_class": "energy", "unit": "kWh", "state_class": "total_increasing"}, True),
        ({"device_class": "energy", "unit": "kWh", "state_class": ""}, False),
        ({"device_class": "gas", "unit": "ft³", "state_class": "total"}, True),
    ],
)
def test_meters_are_power_and_counters_in_known_units(more: dict[str, str], expected: bool) -> None:
    assert is_meter(entity(**more)) is expected


@pytest.mark.parametrize(
    ("said", "unit", "device_class", "value"),
    [
        ("1.5", "kW", "power", 1500.0),
        ("99000", "Wh", "energy", 99.0),
        ("3.6", "MJ", "energy", 1.0),
        ("1", "CCF", "gas", 2.8316846592),
        ("250", "L", "water", 0.25),
        ("unknown", "W", "power", None),
        ("unavailable", "W", "power", None),
        ("", "W", "power", None),
        ("nan", "W", "power", None),
        ("inf", "W", "power", None),
        ("on", "W", "power", None),
        ("1", "furlong", "power", None),
    ],
)
def test_states_become_values_in_the_channels_unit_or_gaps(
    said: str, unit: str, device_class: str, value: float | None
) -> None:
    expected = None if value is None else pytest.approx(value)
    assert value_of(said, unit, device_class) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [("on", True), ("heat", True), ("off", False), ("unavailable", None), (None, None)],
)
def test_thermostat_is_on_unless_it_is_off(said: str | None, expected: bool | None) -> None:
    assert is_on(said) is expected


def rows(*rows_: dict[str, float | None]) -> list[dict[str, float | None]]:
    start_ms = int(NOON.timestamp() * 1000)
    return [
        {"start": start_ms + i * 300_000, "end": start_ms + (i + 1) * 300_000} | row
        for i, row in enumerate(rows_)
    ]


def test_power_statistics_fill_their_five_minutes_and_no_more() -> None:
    channel = channel_of(entity(), IN)
    told = list(
        statistics_readings(
            rows({"mean": 100.0}, {"mean": None}), channel, NOON, NOON + timedelta(hours=1)
        )
    )
    assert [r.value for r in told] == [100.0] * 5
    assert [r.taken_at for r in told] == [NOON + timedelta(minutes=m) for m in range(5)]


def test_counter_statistics_stand_at_their_end() -> None:
    channel = channel_of(
        entity(device_class="energy", unit="kWh", state_class="total_increasing"), IN
    )
    told = list(
        statistics_readings(
            rows({"state": 10.0, "sum": 1.0}, {"state": 10.5, "sum": 1.5}),
            channel,
            NOON,
            NOON + timedelta(hours=1),
        )
    )
    assert [(r.taken_at - NOON, r.value) for r in told] == [
        (timedelta(minutes=5), 10.0),
        (timedelta(minutes=10), 10.5),
    ]


def test_statistics_outside_the_gap_are_left_out() -> None:
    channel = channel_of(entity(), IN)
    inside = statistics_readings(
        rows({"mean": 1.0}, {"mean": 2.0}, {"mean": 3.0}),
        channel,
        NOON + timedelta(minutes=1),
        NOON + timedelta(minutes=14),
    )
    assert {r.value for r in inside} == {2.0}


@pytest.mark.parametrize(
    ("platform", "unique_id", "device_class", "key"),
    [
        # zwave_js: home id in decimal, node, Meter CC, endpoint, property key (type, scale, rate).
        (
            "zwave_js",
            "3735928559.7-50-1-value-66049",
            "power",
            "zwave/deadbeef-7/1/active_power/import",
        ),
        (
            "zwave_js",
            "3735928559.7-50-1-value-66050",
            "power",
            "zwave/deadbeef-7/1/active_power/export",
        ),
        (
            "zwave_js",
            "3735928559.7-50-0-value-65537",
            "energy",
            "zwave/deadbeef-7/0/active_energy/import",
        ),
        ("zwave_js", "3735928559.7-37-0-currentValue", "power", None),
        (
            "smappee",
            "5010000001-123-total_power",
            "power",
            "smappee/123/consumption/active_energy/import",
        ),
        (
            "smappee",
            "5010000001-123-solar_power",
            "power",
            "smappee/123/solar/active_energy/export",
        ),
        ("smappee", "5010000001-123-load-4", "power", None),
        ("dsmr", "4B3845_current_electricity_usage", "power", "p1/4B3845/0/active_power/import"),
        ("dsmr", "4B3845_current_electricity_delivery", "power", "p1/4B3845/0/active_power/export"),
        ("dsmr", "4B3845_electricity_used_tariff_1", "energy", "p1/4B3845/0/active_energy/import"),
        (
            "dsmr",
            "4B3845_instantaneous_active_power_l2_negative",
            "power",
            "p1/4B3845/L2/active_power/export",
        ),
        ("dsmr", "37464C4F", "gas", "p1/37464C4F/0/gas/import"),
        ("shelly", "A4CF12-power", "power", None),
    ],
)
def test_meter_that_another_family_reads_is_recognised(
    platform: str, unique_id: str, device_class: str, key: str | None
) -> None:
    assert (
        same_meter(entity(platform=platform, unique_id=unique_id, device_class=device_class)) == key
    )


def test_counter_beside_the_power_of_its_device_is_the_same_meter() -> None:
    watt = channel_of(entity(uid="w", device="shelly"), IN)
    kwh = channel_of(entity(uid="k", device="shelly", device_class="energy", unit="kWh"), IN)
    other = channel_of(entity(uid="o", device="other", device_class="energy", unit="kWh"), IN)
    found = paired([watt, kwh, other])
    assert found[kwh.key].repeats == watt.key
    assert found[other.key].repeats is None
    second = channel_of(entity(uid="w2", device="shelly"), IN)
    assert paired([watt, second, kwh])[kwh.key].repeats is None


def test_quantity_of_every_device_class_keeps_its_unit() -> None:
    gas = entity(device_class="gas", unit="L", state_class="total")
    assert channel_of(gas, IN).quantity is Quantity.GAS


def test_announcements_are_read_as_avahi_prints_them() -> None:
    """The dump: avahi 0.8 about a Home Assistant 2025.4.4 whose name has a space, ; and é."""
    told = (DUMPS / "avahi-browse.txt").read_text(encoding="utf-8")
    assert announced(told) == {"http://192.0.2.2:8123": "Ons huis; Café"}
    inside = told.replace("internal_url=http://192.0.2.2:8123", "internal_url=https://ha.example")
    assert announced(inside) == {"https://ha.example": "Ons huis; Café"}
    assert announced("=;eth0;IPv4;a\\.b\\\\;_h._tcp;local;h.local;192.0.2.9;80;") == {
        "http://192.0.2.9:80": "a.b\\"
    }
    assert announced("=;broken\n") == announced("") == {}
