from dataclasses import replace
from datetime import timedelta

import pytest

from edge.errors import Malformed
from edge.model import Channel, Direction, Kind, Quantity, Sensor, Term
from edge.uplink.mapping import (
    Feed,
    default_mapping,
    moved,
    sensors_from_json,
    sensors_to_json,
    turned_for,
)

FIVE_MINUTES = timedelta(minutes=5)
IN, OUT = Direction.IMPORT, Direction.EXPORT


def watts(endpoint: str = "1", direction: Direction = IN, **more: object) -> Channel:
    return Channel(
        "zwave",
        "7",
        endpoint,
        Quantity.ACTIVE_POWER,
        Kind.INSTANTANEOUS,
        direction,
        **more,  # type: ignore[arg-type]
    )


def kilowatt_hours(endpoint: str = "1", direction: Direction = IN, **more: object) -> Channel:
    return Channel(
        "zwave",
        "7",
        endpoint,
        Quantity.ACTIVE_ENERGY,
        Kind.COUNTER,
        direction,
        **more,  # type: ignore[arg-type]
    )


def only(channels: list[Channel]) -> Feed:
    (feed,) = default_mapping(channels)
    return feed


def test_power_feeds_a_kilowatt_sensor_and_its_counter_stands_in() -> None:
    power, energy = watts(), kilowatt_hours(repeats=watts().key)
    assert only([power, energy]) == Feed(
        "zwave/7", "electricity-power 1", "kW", FIVE_MINUTES, (Term(power.key, 1, energy.key),)
    )


def test_whole_device_has_the_plain_name() -> None:
    assert only([watts("0")]).name == "electricity-power"


def test_counter_alone_becomes_power() -> None:
    energy = kilowatt_hours()
    feed = only([energy])
    assert (feed.unit, feed.terms) == ("kW", (Term(energy.key),))


def test_what_leaves_the_house_is_subtracted() -> None:
    taken, given = watts(), watts(direction=OUT)
    counters = [kilowatt_hours(repeats=taken.key), kilowatt_hours(direction=OUT, repeats=given.key)]
    assert only([given, taken, *counters]).terms == (
        Term(taken.key, 1, counters[0].key),
        Term(given.key, -1, counters[1].key),
    )


def test_signed_power_with_two_counters_has_no_stand_in() -> None:
    power = watts()
    counters = [kilowatt_hours(repeats=power.key), kilowatt_hours(direction=OUT, repeats=power.key)]
    assert only([power, *counters]).terms == (Term(power.key),)


def test_channels_that_repeat_others_feed_nothing() -> None:
    clamp, clamp_energy = watts("1"), kilowatt_hours("1", repeats=watts("1").key)
    whole = watts("0", repeats=clamp.key)
    whole_energy = kilowatt_hours("0", repeats=whole.key)
    assert only([clamp, clamp_energy, whole, whole_energy]).terms == (
        Term(clamp.key, 1, clamp_energy.key),
    )


def test_gas_and_water_keep_their_unit_and_pace() -> None:
    gas = replace(kilowatt_hours("2"), quantity=Quantity.GAS, report_interval=timedelta(minutes=50))
    water = replace(kilowatt_hours("3"), quantity=Quantity.WATER)
    assert [(f.name, f.unit, f.event_resolution) for f in default_mapping([gas, water])] == [
        ("gas 2", "m³", timedelta(hours=1)),
        ("water 3", "m³", FIVE_MINUTES),
    ]


def test_voltages_and_temperatures_stay_in_the_house() -> None:
    others = [
        replace(watts(), quantity=quantity)
        for quantity in Quantity
        if quantity
        not in (Quantity.ACTIVE_POWER, Quantity.ACTIVE_ENERGY, Quantity.GAS, Quantity.WATER)
    ]
    assert default_mapping(others) == []


def test_mapping_does_not_depend_on_the_order_of_channels() -> None:
    channels = [watts("1"), watts("2"), watts("2", OUT), kilowatt_hours("3")]
    assert default_mapping(channels) == default_mapping(reversed(channels))


@pytest.mark.parametrize(
    ("unit", "attributes", "sign"),
    [
        ("kW", {"consumption_is_positive": True}, 1),
        ("kW", {"consumption_is_positive": False}, -1),
        ("MW", {}, -1),
        ("m³", {}, 1),
    ],
)
def test_sign_is_that_of_the_existing_sensor(
    unit: str, attributes: dict[str, object], sign: int
) -> None:
    feed = only([watts()])
    assert turned_for(feed, attributes, unit)[0].sign == sign


def test_mapping_is_kept_as_it_is() -> None:
    sensor = Sensor(
        7, "p", "kW", FIVE_MINUTES, (Term("a", -1, "b"), Term("c")), asset_id=3, created_by_box=True
    )
    assert sensors_from_json(sensors_to_json([sensor])) == [sensor]
    assert sensors_from_json(None) == []


@pytest.mark.parametrize("kept", [1, [1], [{}], [{"sensor_id": 1}], {"a": 1}])
def test_mapping_that_cannot_be_read_says_so(kept: object) -> None:
    with pytest.raises(Malformed):
        sensors_from_json(kept)


def test_id_nobody_knows_stands_in_a_name_only_where_the_device_has_two_of_it() -> None:
    def power(device: str, endpoint: str) -> Channel:
        return Channel("homeassistant", device, endpoint, Quantity.ACTIVE_POWER, Kind.INSTANTANEOUS)

    alone, first, second = power("a", "0e9c2cc74e0e"), power("b", "111111111111"), power("b", "2")
    names = [feed.name for feed in default_mapping([alone, first, second])]
    assert names == ["electricity-power", "electricity-power 111111111111", "electricity-power 2"]


def fed(sensor_id: int, *keys: str, fallback: str | None = None) -> Sensor:
    terms = tuple(Term(key, 1, fallback) for key in keys)
    return Sensor(sensor_id, f"sensor {sensor_id}", "kW", FIVE_MINUTES, terms)


def test_what_a_device_fed_is_fed_by_the_one_whose_place_it_took() -> None:
    new = fed(1, "zwave/9/0/active_power/import", fallback="zwave/9/0/active_energy/import")
    (kept,) = moved([new], "zwave/9", "zwave/7")
    assert kept.sensor_id == 1
    assert kept.terms == (
        Term("zwave/7/0/active_power/import", 1, "zwave/7/0/active_energy/import"),
    )


def test_sensor_of_the_new_device_gives_way_to_the_old_one_and_sums_stay() -> None:
    old = fed(1, "zwave/7/0/active_power/import")
    new = fed(2, "zwave/9/0/active_power/import")
    both = fed(3, "zwave/9/0/active_power/import", "zwave/91/0/active_power/import")
    kept = moved([old, new, both], "zwave/9", "zwave/7")
    assert [sensor.sensor_id for sensor in kept] == [1, 3]
    assert [term.channel_key for term in kept[1].terms] == [
        "zwave/7/0/active_power/import",
        "zwave/91/0/active_power/import",
    ]
