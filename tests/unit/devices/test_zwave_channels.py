from datetime import timedelta

from edge.devices.zwave.channels import (
    REPORT_INTERVAL,
    MeterValue,
    Product,
    Tap,
    taps,
)
from edge.model import Channel, Direction, Kind, Quantity

ZW095 = Product(0x0086, 0x0002, 0x005F)
QUBINO_3_PHASE = Product(0x0159, 0x0007, 0x0054)


def value(endpoint: int, scale: int, *, meter: int = 1, produced: bool = False) -> MeterValue:
    return MeterValue(endpoint, meter << 16 | scale << 8 | (2 if produced else 1))


def made(*values: MeterValue, product: Product = ZW095) -> dict[str, Tap]:
    return {
        tap.channel.key.removeprefix("zwave/home-2/"): tap
        for tap in taps("home-2", "Meter", product, values, {})
    }


def repeats(found: dict[str, Tap], key: str) -> str | None:
    repeated = found[key].channel.repeats
    return repeated.removeprefix("zwave/home-2/") if repeated else None


def test_each_scale_of_each_clamp_is_a_channel_of_its_own() -> None:
    found = made(*(value(e, s) for e in range(4) for s in (0, 2, 4, 5)))
    assert len(found) == 16
    assert found["3/active_power/import"].channel == Channel(
        "zwave",
        "home-2",
        "3",
        Quantity.ACTIVE_POWER,
        Kind.INSTANTANEOUS,
        name="Meter",
        report_interval=REPORT_INTERVAL,
    )
    assert found["0/active_energy/import"].channel.kind is Kind.COUNTER


def test_what_a_house_gives_back_is_an_export_channel() -> None:
    found = made(value(1, 0), value(1, 0, produced=True))
    assert found["1/active_energy/export"].channel.direction is Direction.EXPORT


def test_counter_beside_the_power_of_one_clamp_repeats_it() -> None:
    found = made(value(1, 0), value(1, 2), value(2, 0))
    assert repeats(found, "1/active_energy/import") == "1/active_power/import"
    assert repeats(found, "2/active_energy/import") is None
    assert repeats(found, "1/active_power/import") is None


def test_export_counter_repeats_the_signed_power_of_its_clamp() -> None:
    found = made(value(1, 0), value(1, 0, produced=True), value(1, 2))
    assert repeats(found, "1/active_energy/export") == "1/active_power/import"


def test_whole_house_repeats_the_only_clamp_but_not_one_of_three() -> None:
    assert repeats(made(value(0, 2), value(1, 2)), "0/active_power/import") == (
        "1/active_power/import"
    )
    assert repeats(made(*(value(e, 2) for e in range(4))), "0/active_power/import") is None


def test_qubino_total_shown_twice_counts_once() -> None:
    found = made(*(value(e, 2) for e in range(5)), product=QUBINO_3_PHASE)
    assert repeats(found, "0/active_power/import") == "1/active_power/import"
    assert repeats(found, "1/active_power/import") is None


def test_foreign_units_carry_a_factor_into_ours() -> None:
    assert made(value(0, 7))["0/reactive_power/import"].factor == 1000
    assert made(value(0, 1, meter=2))["0/gas/import"].factor == 0.028316846592
    assert made(value(0, 2, meter=3))["0/water/import"].factor == 0.003785411784


def test_same_volume_in_two_units_is_one_channel_in_the_metric_one() -> None:
    found = made(value(0, 2, meter=3), value(0, 0, meter=3))
    assert [tap.factor for tap in found.values()] == [1.0]


def test_unknown_scale_is_left_out() -> None:
    assert made(value(0, 99), value(0, 0, meter=9)) == {}


def test_known_interval_of_the_device_is_the_channel_s() -> None:
    interval = timedelta(seconds=30)
    (tap,) = taps(
        "d", "n", ZW095, [value(1, 2)], {(1, Quantity.ACTIVE_POWER, Direction.IMPORT): interval}
    )
    assert tap.channel.report_interval == interval
