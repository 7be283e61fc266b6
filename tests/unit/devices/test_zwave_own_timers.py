from datetime import timedelta

from edge.devices.zwave.channels import Product
from edge.devices.zwave.own_timers import auto_on

SHELLY = Product(0x0460, 0x0002, 0x0084)
QUBINO_PLUG = Product(0x0159, 0x0002, 0x0054)
ZOOZ = Product(0x027A, 0x0101, 0x000D)


def test_known_device_offers_holds_it_keeps_exactly() -> None:
    timer = auto_on(QUBINO_PLUG, {12: 0})
    assert timer is not None
    assert timer.holds[-1] == timedelta(hours=2)
    assert timer.value(timedelta(minutes=15)) == 900


def test_timer_in_minutes_offers_no_more_than_it_can_count() -> None:
    timer = auto_on(ZOOZ, {33: 0})
    assert timer is not None
    assert timer.holds[-1] == timedelta(hours=1)
    assert timer.value(timedelta(minutes=30)) == 30


def test_timer_that_counts_in_another_unit_is_not_used() -> None:
    assert auto_on(SHELLY, {20: 0, 25: 0}) is not None
    assert auto_on(SHELLY, {20: 0, 25: 1}) is None
    assert auto_on(SHELLY, {20: 0}) is None


def test_firmware_without_the_timer_and_unknown_devices_have_none() -> None:
    assert auto_on(QUBINO_PLUG, {11: 0}) is None
    assert auto_on(Product(1, 2, 3), {12: 0}) is None
