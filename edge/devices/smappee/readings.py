"""What the Smappee cloud says, as channels and readings. Pure.

Electricity comes by `consumption` (energy in Wh per five minutes), gas, water and input modules by
`sensor/{id}/consumption` (pulses). A missing interval is a gap, never zero. Aggregation 1 is five
minutes; 5 would be a quarter of a year, so nothing else is ever asked for.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeIs

from edge.model import Channel, Device, DeviceState, Direction, Kind, Quantity, Reading

FAMILY = "smappee"
FIVE_MINUTES = timedelta(minutes=5)
AGGREGATION_FIVE_MINUTES = 1
KEPT_BY_CLOUD = timedelta(days=14)  # of 5-minute records
SILENT_AFTER = timedelta(minutes=45)  # records appear up to ten minutes after their interval
EVENT_EXPECTED_EVERY = timedelta(hours=1)

_FIVE_MINUTES_MS = FIVE_MINUTES // timedelta(milliseconds=1)
# Units of gas and water sensors as people and installers type them → how many make 1 m³.
_PER_CUBIC_METRE = {"m3": 1.0, "m³": 1.0, "l": 1000.0, "liter": 1000.0, "litre": 1000.0}
_QUANTITIES = {"gas": Quantity.GAS, "water": Quantity.WATER}
_TENTHS = 10.0  # temperature comes in 0.1 °C (from memory, not verified against hardware)


@dataclass(frozen=True, slots=True)
class Measured:
    """One number of each record: value = record[field] / per_unit, in the channel's unit."""

    field: str
    per_unit: float
    channel: Channel


def electricity(location: str, name: str) -> tuple[Measured, ...]:
    """Everything `consumption` may say about a location; a record says what it has."""

    def energy(field: str, endpoint: str, per_unit: float, way: Direction, same: str) -> Measured:
        of = f"{FAMILY}/{location}/{same}/active_energy/import" if same else None
        return Measured(
            field,
            per_unit,
            Channel(
                FAMILY,
                location,
                endpoint,
                Quantity.ACTIVE_ENERGY,
                Kind.INTERVAL,
                way,
                FIVE_MINUTES,
                f"{name} {endpoint}",
                of,
            ),
        )

    whole, out = Direction.IMPORT, Direction.EXPORT
    return (
        energy("consumption", "consumption", 1000.0, whole, ""),
        energy("solar", "solar", 1000.0, out, ""),
        # The cloud sums the twelve power samples of an hour's worth: 12 times the energy in Wh.
        energy("alwaysOn", "always-on", 12_000.0, whole, "consumption"),
        energy("gridImport", "grid", 1000.0, whole, "consumption"),
        energy("gridExport", "grid", 1000.0, out, "consumption"),
    )


def sensor_measures(location: str, sensor: dict[str, Any]) -> tuple[Measured, ...]:
    """The enabled channels of a gas, water or input module, and the air around it."""
    ident = sensor["id"]
    found = []
    for described in sensor.get("channels", ()):
        number, pulses_per_unit = described.get("channel"), described.get("ppu")
        if not described.get("enabled", True) or not number or not _is_number(pulses_per_unit):
            continue
        if pulses_per_unit <= 0:
            continue
        unit = str(described.get("uom", "")).strip().lower()
        quantity = _QUANTITIES.get(str(described.get("type", "")).lower())
        if quantity and unit in _PER_CUBIC_METRE:
            per_unit = pulses_per_unit * _PER_CUBIC_METRE[unit]
        elif unit == "kwh":
            quantity, per_unit = Quantity.ACTIVE_ENERGY, pulses_per_unit
        elif unit == "wh":
            quantity, per_unit = Quantity.ACTIVE_ENERGY, pulses_per_unit * 1000.0
        else:
            quantity, per_unit = Quantity.PULSES, pulses_per_unit  # a number of its own unit
        name = str(described.get("name") or sensor.get("name") or ident)
        channel = Channel(
            FAMILY,
            location,
            f"sensor-{ident}-{number}",
            quantity,
            Kind.INTERVAL,
            report_interval=FIVE_MINUTES,
            name=name,
        )
        found.append(Measured(f"value{number}", per_unit, channel))
    for field, quantity, per_unit in (
        ("temperature", Quantity.TEMPERATURE, _TENTHS),
        ("humidity", Quantity.HUMIDITY, 1.0),
    ):
        channel = Channel(
            FAMILY,
            location,
            f"sensor-{ident}",
            quantity,
            Kind.INSTANTANEOUS,
            report_interval=FIVE_MINUTES,
            name=f"{sensor.get('name') or ident} {quantity}",
        )
        found.append(Measured(field, per_unit, channel))
    return tuple(found)


def appliance_channel(location: str, appliance: dict[str, Any]) -> Channel:
    """The power an appliance was seen to draw when it was switched: an event, not a meter."""
    return Channel(
        FAMILY,
        location,
        f"appliance-{appliance['id']}",
        Quantity.ACTIVE_POWER,
        Kind.INSTANTANEOUS,
        report_interval=EVENT_EXPECTED_EVERY,
        name=str(appliance.get("name") or appliance["id"]),
        repeats=f"{FAMILY}/{location}/consumption/active_energy/import",
    )


def actuator_devices(location: str, info: dict[str, Any]) -> Iterator[tuple[str, str, bool | None]]:
    """(device, name, is on) of every actuator; version 2 of the cloud does not say what is on."""
    for actuator in info.get("actuators", ()):
        current = {str(s.get("id")) for s in actuator.get("states", ()) if s.get("current")}
        is_on = True if "ON_ON" in current else False if "OFF_OFF" in current else None
        yield f"{location}.{actuator['id']}", str(actuator.get("name") or actuator["id"]), is_on


def location_device(location: str, name: str, newest: datetime | None, now: datetime) -> Device:
    """A service location as a device. Silence of the monitor shows as a dead device."""
    if newest is None:
        state = DeviceState.UNKNOWN
    else:
        state = DeviceState.ALIVE if now - newest < SILENT_AFTER else DeviceState.DEAD
    return Device(FAMILY, location, name, "Smappee service location", state, newest)


def readings(
    records: object, measures: Iterable[Measured], until: datetime
) -> Iterator[tuple[Measured, Reading]]:
    """Every usable value of the records whose interval is over by `until`.

    A record without a time, off the five minutes, or a value that is no number gives nothing:
    the interval stays a gap.
    """
    wanted = [(measured, measured.channel.key) for measured in measures]
    for record in records if isinstance(records, list) else ():
        start = interval_start(record)
        if start is None or start + FIVE_MINUTES > until:
            continue
        for measured, key in wanted:
            value = record.get(measured.field)
            if _is_number(value):
                yield measured, Reading(key, start, value / measured.per_unit)


def interval_start(record: object) -> datetime | None:
    """The start of a record's interval, or None where it has none."""
    stamp = record.get("timestamp") if isinstance(record, dict) else None
    if not _is_number(stamp) or stamp % _FIVE_MINUTES_MS:
        return None
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=int(stamp))


def event_readings(events: object, channel: Channel) -> Iterator[Reading]:
    """Switch-on events with the power drawn, switch-off events as 0 W (sign not verified)."""
    for event in events if isinstance(events, list) else ():
        if not isinstance(event, dict):
            continue
        stamp, power_w = event.get("timestamp"), event.get("activePower")
        if _is_number(stamp) and _is_number(power_w):
            taken_at = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=int(stamp))
            yield Reading(channel.key, taken_at, max(0.0, float(power_w)))


def start_of(reading: Reading) -> datetime:
    """When the interval of a reading begins; here it always bears the cloud's own time."""
    assert isinstance(reading.taken_at, datetime)  # noqa: S101
    return reading.taken_at


def _is_number(value: object) -> TypeIs[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
