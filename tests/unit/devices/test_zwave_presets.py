from datetime import timedelta

from edge.devices.zwave.channels import Product
from edge.devices.zwave.presets import Parameter, Setting, report_intervals, settings
from edge.model import Direction, Quantity

ZW095 = Product(0x0086, 0x0002, 0x005F)
HEM_8 = Product(0x0371, 0x0003, 0x0033)
PLUG = Product(0x0371, 0x0003, 0x00AF)


def group(number: int, place: int, set_bits: int, suffix: str = "") -> list[Parameter]:
    """Four bits of one report group: W and kWh, of the whole house and of clamp 1."""
    bits = [
        (0x01, f"kWh (Whole HEM{suffix})"),
        (0x02, f"Power (Whole HEM{suffix})"),
        (0x100, f"Power (Clamp 1{suffix})"),
        (0x800, f"kWh (Clamp 1{suffix})"),
    ]
    label = f"Automatic Report: Group {place} - "
    return [
        Parameter(number, mask, label + what, int(bool(set_bits & mask))) for mask, what in bits
    ]


def meter(
    groups: tuple[int, int, int], intervals_s: tuple[int, int, int], **extra: int
) -> list[Parameter]:
    parameters = [Parameter(2, None, "Energy Detection Mode", extra.get("mode", 0))]
    parameters.append(Parameter(13, None, "CRC-16 Encapsulation", extra.get("crc", 0)))
    for place, (bits, interval_s) in enumerate(zip(groups, intervals_s, strict=True), 1):
        parameters += group(100 + place, place, bits)
        label = f"Automatic Reporting Interval: Group {place}"
        parameters.append(Parameter(110 + place, None, label, interval_s))
    return parameters


FACTORY = meter((0x02, 0x01, 0), (5, 120, 120))
AS_WISHED = meter((0x102, 0x801, 0), (30, 300, 600), mode=1, crc=1)


def test_channels_report_as_often_as_the_shortest_group_they_are_in() -> None:
    parameters = meter((0x102, 0x03, 0), (30, 300, 600))
    assert report_intervals(parameters) == {
        (0, Quantity.ACTIVE_POWER, Direction.IMPORT): timedelta(seconds=30),
        (1, Quantity.ACTIVE_POWER, Direction.IMPORT): timedelta(seconds=30),
        (0, Quantity.ACTIVE_ENERGY, Direction.IMPORT): timedelta(minutes=5),
    }


def test_known_meter_is_told_what_to_report_and_how_often() -> None:
    assert settings(ZW095, FACTORY, signed_power=True) == [
        Setting(13, 1),
        Setting(2, 1),
        Setting(101, 0x102),
        Setting(111, 30),
        Setting(102, 0x801),
        Setting(112, 300),
        Setting(113, 600),
    ]


def test_meter_that_reports_as_wished_is_left_alone() -> None:
    assert settings(ZW095, AS_WISHED, signed_power=True) == []


def test_sign_of_power_is_the_household_s_choice() -> None:
    assert Setting(2, 1) not in settings(ZW095, FACTORY, signed_power=False)


def test_person_s_interval_takes_the_place_of_the_preset_s() -> None:
    assert settings(ZW095, AS_WISHED, signed_power=True, power_interval=timedelta(seconds=10)) == [
        Setting(111, 10)
    ]


def test_groups_for_export_are_set_like_those_for_import() -> None:
    parameters = group(101, 1, 0, " Import") + group(104, 1, 0, " Export")
    parameters += [Parameter(n, None, "Automatic Reporting Interval", 600) for n in (111, 114)]
    assert settings(HEM_8, parameters, signed_power=True) == [
        Setting(101, 0x102),
        Setting(111, 30),
        Setting(104, 0x102),
        Setting(114, 30),
    ]


def test_plug_has_one_group_without_a_number() -> None:
    parameters = [
        Parameter(101, 0x01, "Automatic Report: kWh", 1),
        Parameter(101, 0x02, "Automatic Report: Power", 1),
        Parameter(101, 0x04, "Automatic Report: Voltage", 1),
        Parameter(111, None, "Automatic Reporting Interval", 600),
    ]
    assert settings(PLUG, parameters, signed_power=True) == [Setting(101, 3), Setting(111, 60)]


def test_unknown_meter_is_never_written_to() -> None:
    assert settings(Product(1, 2, 3), FACTORY, signed_power=True) == []


def test_parameter_that_the_device_lacks_is_not_written() -> None:
    without_mode = [p for p in FACTORY if p.number != 2]
    assert Setting(2, 1) not in settings(ZW095, without_mode, signed_power=True)
