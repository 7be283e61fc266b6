"""Switches that can come back by themselves: the auto-on parameter of known devices. Pure.

Only devices whose device database entry (node-zwave-js 15.29) names the parameter and its unit are
listed: with a wrong unit a boiler would stay off for hours. While such a parameter is set, the
device also comes back after a person switched it off, so it is cleared as soon as the box switches
without a hold.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

from edge.devices.zwave.channels import Product

_SECOND, _MINUTE = timedelta(seconds=1), timedelta(minutes=1)
HOLDS = tuple(timedelta(minutes=minutes) for minutes in (5, 10, 15, 30, 60, 120))


class AutoOn(NamedTuple):
    """`parameter` counts in `unit`; 0 = off. `unit_parameter` must be 0 for that unit to hold."""

    parameter: int
    unit: timedelta
    value_max: int
    unit_parameter: int | None = None

    @property
    def holds(self) -> tuple[timedelta, ...]:
        """The holds this timer can keep exactly."""
        return tuple(hold for hold in HOLDS if hold <= self.unit * self.value_max)

    def value(self, hold: timedelta) -> int:
        """What to write for `hold`, one of `holds`."""
        return hold // self.unit


_AUTO_ON: Mapping[Product, AutoOn] = {
    Product(0x0159, 0x0001, 0x0051): AutoOn(12, _SECOND, 32536),  # Qubino Flush Dimmer ZMNHDD
    Product(0x0159, 0x0001, 0x0052): AutoOn(12, _SECOND, 32536),  # Qubino DIN Dimmer ZMNHSD
    Product(0x0159, 0x0002, 0x0052): AutoOn(12, _SECOND, 32535, 15),  # Qubino 1 Relay ZMNHAD
    Product(0x0159, 0x0002, 0x0053): AutoOn(12, _SECOND, 65535, 15),  # Qubino 1D Relay ZMNHND
    Product(0x0159, 0x0002, 0x0054): AutoOn(12, _SECOND, 32535),  # Qubino Smart Plug 16A
    Product(0x0460, 0x0002, 0x0084): AutoOn(20, _SECOND, 32535, 25),  # Shelly Wave 1PM
    Product(0x0460, 0x0002, 0x0087): AutoOn(20, _SECOND, 32535, 25),  # Shelly Wave Plug S
    Product(0x0460, 0x0002, 0x0092): AutoOn(20, _SECOND, 32535, 25),  # Shelly Wave Plug UK
    Product(0x027A, 0x0101, 0x000D): AutoOn(33, _MINUTE, 99),  # Zooz ZEN15, firmware 1.6 and up
}


def auto_on(product: Product, parameters: Mapping[int, int | None]) -> AutoOn | None:
    """The auto-on timer of a device with these parameters (number → value), if it has one.

    Product and parameters must fit: other firmware of the same product may lack the timer.
    """
    timer = _AUTO_ON.get(product)
    if timer is None or timer.parameter not in parameters:
        return None
    if timer.unit_parameter is not None and parameters.get(timer.unit_parameter) != 0:
        return None
    return timer
