from datetime import timedelta

import pytest

from edge.energy_check import EnergyCheck, pair
from edge.model import BoxTime, Channel, Direction, Kind, Quantity, Reading

MINUTE = timedelta(minutes=1)


def power(direction: Direction = Direction.IMPORT, every: timedelta = MINUTE) -> Channel:
    kind = Kind.INSTANTANEOUS
    return Channel("zwave", "7", "1", Quantity.ACTIVE_POWER, kind, direction, every)


def counter(direction: Direction = Direction.IMPORT) -> Channel:
    return Channel("zwave", "7", "1", Quantity.ACTIVE_ENERGY, Kind.COUNTER, direction, 5 * MINUTE)


def feed(
    check: EnergyCheck, power_w: float, counter_kw: float, minutes: range, boot: int = 1
) -> None:
    """Power every minute, the counter every five minutes."""
    for minute in minutes:
        stamp = BoxTime(boot, minute * 60_000)
        check.take(Reading(check.power.key, stamp, power_w))
        if minute % 5 == 0:
            check.take(Reading(check.counter.key, stamp, 100 + counter_kw * minute / 60))


def checked(power_w: float, counter_kw: float, hours: int = 2) -> float | None:
    check = EnergyCheck(power(), counter())
    feed(check, power_w, counter_kw, range(hours * 60 + 1))
    return check.deviation_percent()


def test_power_that_agrees_with_the_counter_deviates_by_nothing() -> None:
    assert checked(2000, 2.0) == pytest.approx(0)


def test_deviation_is_told_in_percent_of_the_counter() -> None:
    assert checked(2200, 2.0) == pytest.approx(10)
    assert checked(1000, 2.0) == pytest.approx(-50)


def test_deviation_is_not_told_before_there_is_energy_to_compare() -> None:
    assert checked(100, 0.1, hours=2) is None


def test_stretch_in_which_power_was_silent_is_not_compared() -> None:
    check = EnergyCheck(power(), counter())
    feed(check, 2000, 2.0, range(61))
    feed(check, 2000, 2.0, range(240, 301))  # the counter ran on for three hours
    assert check.deviation_percent() == pytest.approx(0)


def test_reboot_breaks_the_stretch() -> None:
    check = EnergyCheck(power(), counter())
    feed(check, 2000, 2.0, range(61))
    feed(check, 2000, 2.0, range(30, 91), boot=2)
    assert check.deviation_percent() == pytest.approx(0)


def test_counter_reset_is_not_compared() -> None:
    check = EnergyCheck(power(), counter())
    feed(check, 2000, 2.0, range(61))
    check.take(Reading(check.counter.key, BoxTime(1, 3_660_000), 0.0))
    assert check.deviation_percent() == pytest.approx(0)


def test_export_counter_is_compared_with_negative_power() -> None:
    sold = counter(Direction.EXPORT)
    check = pair(sold, {channel.key: channel for channel in (power(), sold)})
    assert check is not None
    feed(check, -2000, 2.0, range(121))
    assert check.deviation_percent() == pytest.approx(0)


def test_export_counter_prefers_the_power_told_as_export() -> None:
    sold, told = counter(Direction.EXPORT), power(Direction.EXPORT)
    check = pair(sold, {channel.key: channel for channel in (power(), told, sold)})
    assert check == EnergyCheck(told, sold)


def test_old_days_leave_the_figure() -> None:
    check = EnergyCheck(power(), counter())
    feed(check, 4000, 2.0, range(24 * 60))
    assert check.deviation_percent() == pytest.approx(100)
    feed(check, 2000, 2.0, range(24 * 60, 4 * 24 * 60))
    assert check.deviation_percent() == pytest.approx(0)
