"""How often known meters report, and a sane preset where they should report otherwise. Pure.

Aeotec meters have up to three report groups: a bit mask of what to send (parameter 101 and on) and
an interval (111 and on). What each bit means is read from the driver's device database, where its
label says quantity, clamp and direction; so the three variants of the HEM 8 need no table of bits.

The presets: power often enough for five-minute slots, the counters rarely (they fill gaps only),
voltage and current rarely. Everything a device already does as wanted is left alone.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from edge.devices.zwave.channels import Product
from edge.model import Direction, Quantity

_INTERVAL_AFTER_MASK = 10  # the interval of the group in parameter 101 is in 111, and so on

_BIT = re.compile(
    r"Automatic Report: (?:Group (?P<group>\d) - )?(?P<quantity>[A-Za-z ]+?)"
    r"(?: \((?:Whole HEM|(?:Clamp|Channel) (?P<clamp>\d))(?: (?P<direction>Import|Export))?\))?"
)
_QUANTITIES = {
    "Power": Quantity.ACTIVE_POWER,
    "kWh": Quantity.ACTIVE_ENERGY,
    "Voltage": Quantity.VOLTAGE,
    "Current": Quantity.CURRENT,
    "kVar": Quantity.REACTIVE_POWER,
    "kVarh": Quantity.REACTIVE_ENERGY,
    "kVAh": Quantity.APPARENT_ENERGY,
    "Power Factor": Quantity.POWER_FACTOR,
}

type Wanted = tuple[int, Quantity, Direction]
"""Endpoint, quantity and direction of a channel."""


class Parameter(NamedTuple):
    """A configuration parameter, or some bits of one, with what the driver last knew of it."""

    number: int
    mask: int | None
    label: str
    value: int | None


class Setting(NamedTuple):
    """A whole parameter and the value it should have."""

    number: int
    value: int


@dataclass(frozen=True, slots=True)
class Preset:
    """What each report group sends and how often, and parameters set besides.

    `signed_power` is set only where the household wants power with a sign.
    """

    groups: tuple[tuple[frozenset[Quantity], timedelta], ...]
    besides: tuple[Setting, ...] = ()
    signed_power: Setting | None = None


_POWER = frozenset({Quantity.ACTIVE_POWER})
_ENERGY = frozenset({Quantity.ACTIVE_ENERGY})
_GRID = frozenset({Quantity.VOLTAGE, Quantity.CURRENT})

_METER_GROUPS = (
    (_POWER, timedelta(seconds=30)),
    (_ENERGY, timedelta(minutes=5)),
    (_GRID, timedelta(minutes=10)),
)
_HEM_5 = Preset(
    _METER_GROUPS,
    # 13: CRC-16, for without it one bit flip in 255 passes as a reading (XOR checksum).
    besides=(Setting(13, 1),),
    # 2: "algebraic sum". The default shows what a house gives back as consumption.
    signed_power=Setting(2, 1),
)
_HEM_8 = Preset(_METER_GROUPS)  # import and export have groups of their own, power has no sign
_SMART_SWITCH_7 = Preset(((_POWER | _ENERGY, timedelta(minutes=1)),))

PRESETS: Mapping[Product, Preset] = {
    Product(0x0086, 0x0002, 0x005F): _HEM_5,  # ZW095 EU
    Product(0x0086, 0x0102, 0x005F): _HEM_5,  # ZW095 US
    Product(0x0086, 0x0202, 0x005F): _HEM_5,  # ZW095 AU
    Product(0x0371, 0x0003, 0x0033): _HEM_8,  # ZWA046 EU, one phase
    Product(0x0371, 0x0003, 0x002E): _HEM_8,  # ZWA046 EU, three phases
    Product(0x0371, 0x0003, 0x0034): _HEM_8,  # ZWA046 EU, three phases, early
    Product(0x0371, 0x0103, 0x002E): _HEM_8,  # ZWA046 US, two phases
    Product(0x0371, 0x0003, 0x00AF): _SMART_SWITCH_7,  # ZW175
}


class _Bit(NamedTuple):
    mask: int
    wanted: Wanted
    is_set: bool


class _Group(NamedTuple):
    """One mask parameter of the device. `place`: first, second or third group of its direction."""

    number: int
    place: int
    bits: tuple[_Bit, ...]

    @property
    def interval_number(self) -> int:
        return self.number + _INTERVAL_AFTER_MASK

    @property
    def value(self) -> int:
        return sum(bit.mask for bit in self.bits if bit.is_set)


def report_intervals(parameters: Iterable[Parameter]) -> dict[Wanted, timedelta]:
    """How often the device reports each of its channels by itself, as its parameters stand now."""
    known = list(parameters)
    values = {p.number: p.value for p in known if p.mask is None}
    intervals: dict[Wanted, timedelta] = {}
    for group in _groups(known):
        seconds = values.get(group.interval_number)
        if not seconds:
            continue
        interval = timedelta(seconds=seconds)
        for bit in group.bits:
            if bit.is_set:
                intervals[bit.wanted] = min(interval, intervals.get(bit.wanted, interval))
    return intervals


def settings(
    product: Product,
    parameters: Iterable[Parameter],
    *,
    signed_power: bool,
    power_interval: timedelta | None = None,
) -> list[Setting]:
    """What must be written so that a known meter follows its preset; empty if it already does.

    `power_interval` is a person's choice and takes the place of the preset's for active power.
    """
    preset = PRESETS.get(product)
    if preset is None:
        return []
    known = list(parameters)
    now = {p.number: p.value for p in known if p.mask is None}
    wanted = [*preset.besides]
    if signed_power and preset.signed_power:
        wanted.append(preset.signed_power)
    for group in _groups(known):
        now[group.number] = group.value
        wanted += _group_settings(group, preset, power_interval)
    return [s for s in wanted if s.number in now and now[s.number] != s.value]


def _group_settings(
    group: _Group, preset: Preset, power_interval: timedelta | None
) -> Iterator[Setting]:
    if group.place > len(preset.groups):
        yield Setting(group.number, 0)
        return
    quantities, interval = preset.groups[group.place - 1]
    if power_interval is not None and Quantity.ACTIVE_POWER in quantities:
        interval = power_interval
    mask = sum(bit.mask for bit in group.bits if bit.wanted[1] in quantities)
    yield Setting(group.number, mask)
    yield Setting(group.interval_number, int(interval.total_seconds()))


def _groups(parameters: Iterable[Parameter]) -> list[_Group]:
    bits: dict[tuple[int, int], list[_Bit]] = {}
    for parameter in parameters:
        found = _BIT.fullmatch(parameter.label)
        quantity = _QUANTITIES.get(found["quantity"]) if found else None
        if found is None or quantity is None or parameter.mask is None:
            continue
        exported = found["direction"] == "Export"
        wanted = (
            int(found["clamp"] or 0),
            quantity,
            Direction.EXPORT if exported else Direction.IMPORT,
        )
        bit = _Bit(parameter.mask, wanted, bool(parameter.value))
        bits.setdefault((parameter.number, int(found["group"] or 1)), []).append(bit)
    return [_Group(number, place, tuple(found)) for (number, place), found in sorted(bits.items())]
