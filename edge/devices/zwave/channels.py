"""Which channels a Z-Wave meter has. Pure: knows Meter Command Class, no client and no clock.

The driver shows each meter value under a property key that holds the meter's type, the scale and
the rate type (Z-Wave Meter Command Class version 6, tables 4.94 to 4.96; key layout: node-zwave-js,
MeterCC.ts). The unit of a channel is fixed by its quantity, so some scales carry a factor.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import NamedTuple

from edge.model import Channel, Direction, Kind, Quantity

FAMILY = "zwave"
REPORT_INTERVAL = timedelta(minutes=5)  # where the device does not say how often it reports

_ELECTRIC, _GAS, _WATER, _HEATING, _COOLING = 1, 2, 3, 4, 5
_PRODUCED = 2
_CUBIC_FOOT_M3 = 0.028316846592
_US_GALLON_M3 = 0.003785411784


class _Scale(NamedTuple):
    quantity: Quantity
    kind: Kind
    factor: float = 1.0


_SCALES: Mapping[tuple[int, int], _Scale] = {
    (_ELECTRIC, 0): _Scale(Quantity.ACTIVE_ENERGY, Kind.COUNTER),
    (_ELECTRIC, 1): _Scale(Quantity.APPARENT_ENERGY, Kind.COUNTER),
    (_ELECTRIC, 2): _Scale(Quantity.ACTIVE_POWER, Kind.INSTANTANEOUS),
    (_ELECTRIC, 3): _Scale(Quantity.PULSES, Kind.COUNTER),
    (_ELECTRIC, 4): _Scale(Quantity.VOLTAGE, Kind.INSTANTANEOUS),
    (_ELECTRIC, 5): _Scale(Quantity.CURRENT, Kind.INSTANTANEOUS),
    (_ELECTRIC, 6): _Scale(Quantity.POWER_FACTOR, Kind.INSTANTANEOUS),
    (_ELECTRIC, 7): _Scale(Quantity.REACTIVE_POWER, Kind.INSTANTANEOUS, 1000.0),
    (_ELECTRIC, 8): _Scale(Quantity.REACTIVE_ENERGY, Kind.COUNTER),
    (_GAS, 0): _Scale(Quantity.GAS, Kind.COUNTER),
    (_GAS, 1): _Scale(Quantity.GAS, Kind.COUNTER, _CUBIC_FOOT_M3),
    (_GAS, 3): _Scale(Quantity.PULSES, Kind.COUNTER),
    (_WATER, 0): _Scale(Quantity.WATER, Kind.COUNTER),
    (_WATER, 1): _Scale(Quantity.WATER, Kind.COUNTER, _CUBIC_FOOT_M3),
    (_WATER, 2): _Scale(Quantity.WATER, Kind.COUNTER, _US_GALLON_M3),
    (_WATER, 3): _Scale(Quantity.PULSES, Kind.COUNTER),
    (_HEATING, 0): _Scale(Quantity.HEAT, Kind.COUNTER),
    (_COOLING, 0): _Scale(Quantity.COLD, Kind.COUNTER),
}

_ENERGY_OF = {
    Quantity.ACTIVE_ENERGY: Quantity.ACTIVE_POWER,
    Quantity.REACTIVE_ENERGY: Quantity.REACTIVE_POWER,
}


class MeterValue(NamedTuple):
    """One value of Meter Command Class as the driver names it: endpoint and property key."""

    endpoint: int
    property_key: int

    @property
    def meter_type(self) -> int:
        return self.property_key >> 16

    @property
    def scale(self) -> int:
        return self.property_key >> 8 & 0xFF

    @property
    def is_produced(self) -> bool:
        return self.property_key & 0xFF == _PRODUCED


class Product(NamedTuple):
    """What a device says it is: manufacturer id, product type, product id."""

    manufacturer: int
    product_type: int
    product_id: int


ROOT_REPEATS_FIRST: Collection[Product] = {
    # Qubino ZMNHXD 3-phase: endpoint 1 is the total, and endpoint 0 shows it once more.
    Product(0x0159, 0x0007, 0x0054),
}


@dataclass(frozen=True, slots=True)
class Tap:
    """A channel and how to fill it: each value of `source`, times `factor`, is a reading of it."""

    channel: Channel
    source: MeterValue
    factor: float


def taps(
    device: str,
    name: str,
    product: Product,
    values: Iterable[MeterValue],
    intervals: Mapping[tuple[int, Quantity, Direction], timedelta],
) -> list[Tap]:
    """Every channel that these meter values make, those that repeat another one marked so.

    `intervals` says how often the device reports a quantity of an endpoint, where that is known.
    Scales we do not know are left out.
    """
    found: dict[str, Tap] = {}
    for value in sorted(set(values)):
        scale = _SCALES.get((value.meter_type, value.scale))
        if scale is None:
            continue
        direction = Direction.EXPORT if value.is_produced else Direction.IMPORT
        wanted = (value.endpoint, scale.quantity, direction)
        channel = Channel(
            family=FAMILY,
            device=device,
            endpoint=str(value.endpoint),
            quantity=scale.quantity,
            kind=scale.kind,
            direction=direction,
            report_interval=intervals.get(wanted, REPORT_INTERVAL),
            name=name,
        )
        # The same volume in two units is one channel: the first scale is the metric one.
        found.setdefault(channel.key, Tap(channel, value, scale.factor))
    by_key = {key: tap.channel for key, tap in found.items()}
    return [
        replace(tap, channel=replace(tap.channel, repeats=_repeated(tap.channel, by_key, product)))
        for tap in found.values()
    ]


def _repeated(channel: Channel, channels: Mapping[str, Channel], product: Product) -> str | None:
    """The key of the channel that shows the same energy as this one, if there is one."""
    beside = _power_beside(channel, channels)
    return beside or _clamp_behind(channel, channels, product)


def _power_beside(energy: Channel, channels: Mapping[str, Channel]) -> str | None:
    """The power of the same clamp. A signed power (no export channel) covers both directions."""
    power = _ENERGY_OF.get(energy.quantity)
    if power is None:
        return None
    for direction in (energy.direction, Direction.IMPORT):
        beside = replace(energy, quantity=power, direction=direction)
        if beside.key in channels:
            return beside.key
    return None


def _clamp_behind(whole: Channel, channels: Mapping[str, Channel], product: Product) -> str | None:
    """The only clamp of a device whose endpoint 0 shows that clamp once more."""
    if whole.endpoint != "0":
        return None
    clamps = sorted(
        (
            channel
            for channel in channels.values()
            if channel.endpoint != "0"
            and (channel.quantity, channel.direction) == (whole.quantity, whole.direction)
        ),
        key=lambda channel: int(channel.endpoint),
    )
    if len(clamps) == 1 or (clamps and product in ROOT_REPEATS_FIRST):
        return clamps[0].key
    return None
