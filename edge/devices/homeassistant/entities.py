"""What Home Assistant knows, as channels, devices and readings. Pure.

An entity is named by its registry id, which outlives a new name; a value counts only in a unit we
know. `unknown` and `unavailable` are gaps. Units: Home Assistant's unit_conversion.py.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from edge.model import Channel, Direction, Kind, Quantity, Reading

FAMILY = "homeassistant"
SWITCHING = frozenset({"switch", "climate", "water_heater", "humidifier", "fan", "input_boolean"})
POWER_INTERVAL = timedelta(minutes=1)
COUNTER_INTERVAL = timedelta(minutes=5)  # as far apart as the statistics that fill gaps
STATISTICS_ROW = timedelta(minutes=5)
STATISTICS_UNITS = {"power": "W", "energy": "kWh", "volume": "m³"}
NO_VALUE = frozenset({"unknown", "unavailable", "none", ""})

_CUBIC_FOOT_M3 = 0.028316846592
_GALLON_M3 = 0.003785411784
_POWER = {"mW": 1e-3, "W": 1.0, "kW": 1e3, "MW": 1e6, "BTU/h": 1 / 3.412141633}
_ENERGY = {
    "mWh": 1e-6,
    "Wh": 1e-3,
    "kWh": 1.0,
    "MWh": 1e3,
    "GWh": 1e6,
    "J": 1 / 3.6e6,
    "kJ": 1 / 3.6e3,
    "MJ": 1 / 3.6,
    "GJ": 1e3 / 3.6,
}
_VOLUME = {
    "m³": 1.0,
    "L": 1e-3,
    "mL": 1e-6,
    "ft³": _CUBIC_FOOT_M3,
    "CCF": 100 * _CUBIC_FOOT_M3,
    "gal": _GALLON_M3,
}
_CLASSES: Mapping[str, tuple[Quantity, Kind, Mapping[str, float]]] = {
    "power": (Quantity.ACTIVE_POWER, Kind.INSTANTANEOUS, _POWER),
    "energy": (Quantity.ACTIVE_ENERGY, Kind.COUNTER, _ENERGY),
    "gas": (Quantity.GAS, Kind.COUNTER, _VOLUME),
    "water": (Quantity.WATER, Kind.COUNTER, _VOLUME),
}
_COUNTING = frozenset({"total", "total_increasing"})


@dataclass(frozen=True, slots=True)
class Entity:
    """One entity: `uid` stays when somebody renames it, `entity_id` does not."""

    uid: str
    entity_id: str
    name: str
    device: str
    device_name: str
    model: str
    platform: str
    unique_id: str
    state: str
    unit: str
    device_class: str
    state_class: str

    @property
    def domain(self) -> str:
        return self.entity_id.partition(".")[0]


def entities(
    states: Iterable[Mapping[str, Any]],
    registry: Iterable[Mapping[str, Any]],
    devices: Iterable[Mapping[str, Any]],
) -> list[Entity]:
    """Every entity with a state that nobody hid; the first registered of a device comes first."""
    registered = {entry["entity_id"]: (place, entry) for place, entry in enumerate(registry)}
    known_devices = {device["id"]: device for device in devices}
    found = []
    for state in states:
        place, entry = registered.get(state["entity_id"], (0, {}))
        if entry.get("disabled_by") or entry.get("hidden_by"):
            continue
        said = state.get("attributes") or {}
        uid = str(entry["id"])[:12] if entry.get("id") else state["entity_id"]
        device = known_devices.get(entry.get("device_id"), {})
        name = str(said.get("friendly_name") or state["entity_id"])
        entity = Entity(
            uid,
            state["entity_id"],
            name,
            str(device["id"])[:12] if device else uid,
            str(device.get("name_by_user") or device.get("name") or name),
            " ".join(filter(None, (device.get("manufacturer"), device.get("model")))),
            str(entry.get("platform", "")),
            str(entry.get("unique_id", "")),
            str(state.get("state", "")),
            str(said.get("unit_of_measurement") or ""),
            str(said.get("device_class") or ""),
            str(said.get("state_class") or ""),
        )
        found.append((entry.get("created_at") or 0, place, entity))
    return [entity for *_, entity in sorted(found, key=lambda item: item[:2])]


def is_meter(entity: Entity) -> bool:
    """Whether it measures something the box can read: power, or a counter, in a known unit."""
    if entity.domain != "sensor" or entity.device_class not in _CLASSES:
        return False
    _, kind, units = _CLASSES[entity.device_class]
    return entity.unit in units and (kind is Kind.INSTANTANEOUS or entity.state_class in _COUNTING)


def channel_of(entity: Entity, direction: Direction) -> Channel:
    """The channel of a meter entity; `repeats` where another family reads the same meter."""
    quantity, kind, _ = _CLASSES[entity.device_class]
    return Channel(
        FAMILY,
        entity.device,
        entity.uid,
        quantity,
        kind,
        direction,
        POWER_INTERVAL if kind is Kind.INSTANTANEOUS else COUNTER_INTERVAL,
        entity.name,
        same_meter(entity),
    )


def paired(channels: Iterable[Channel]) -> dict[str, Channel]:
    """The channels by key; a counter beside the one power meter of its device repeats that."""
    known = list(channels)
    powers: dict[tuple[str, Direction], list[Channel]] = {}
    for channel in known:
        if channel.quantity is Quantity.ACTIVE_POWER:
            powers.setdefault((channel.device, channel.direction), []).append(channel)
    found = {}
    for channel in known:
        beside = powers.get((channel.device, channel.direction), [])
        if channel.quantity is Quantity.ACTIVE_ENERGY and len(beside) == 1 and not channel.repeats:
            channel = replace(channel, repeats=beside[0].key)
        found[channel.key] = channel
    return found


def switches(known: Iterable[Entity]) -> dict[str, Entity]:
    """What can be switched, by Device.device: the first of a device bears the device's own name."""
    found: dict[str, Entity] = {}
    for entity in known:
        if entity.domain in SWITCHING:
            first = entity.device not in found
            found[entity.device if first else f"{entity.device}.{entity.uid}"] = entity
    return found


def value_of(state: object, unit: str, device_class: str) -> float | None:
    """A state in the channel's unit; None is a gap."""
    text = str(state).strip()
    factor = _CLASSES[device_class][2].get(unit)
    if text.lower() in NO_VALUE or factor is None:
        return None
    try:
        value = float(text) * factor
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def is_on(state: str | None) -> bool | None:
    """Whether a switching entity is on; a thermostat is off or in one of many other states."""
    if state is None or state.lower() in NO_VALUE:
        return None
    return state != "off"


def dashboard(preferences: object) -> dict[str, Direction]:
    """What the person's energy dashboard shows, as statistic id → direction.

    Knows the grid source of before 2026 (lists of flows) and of now (flat), and power by stat_rate.
    """
    told = preferences if isinstance(preferences, dict) else {}
    found: dict[str, Direction] = {}

    def note(where: Mapping[str, Any], field: str, direction: Direction) -> None:
        if isinstance(where, dict) and isinstance(where.get(field), str):
            found.setdefault(where[field], direction)

    for source in told.get("energy_sources") or ():
        made_here = source.get("type") in ("solar", "battery")
        outward = Direction.EXPORT if made_here else Direction.IMPORT
        back = Direction.IMPORT if made_here else Direction.EXPORT
        for flow in (source, *(source.get("flow_from") or ())):
            note(flow, "stat_energy_from", outward)
        for flow in (source, *(source.get("flow_to") or ())):
            note(flow, "stat_energy_to", back)
        note(source, "stat_rate", outward)
    for used in told.get("device_consumption") or ():
        note(used, "stat_consumption", Direction.IMPORT)
        note(used, "stat_rate", Direction.IMPORT)
    return found


def statistics_readings(
    rows: object, channel: Channel, start: datetime, end: datetime
) -> Iterator[Reading]:
    """Five-minute statistics in STATISTICS_UNITS as readings of [start, end).

    Power rows hold a time-weighted mean: it is said once a minute, so that it fills its row and
    nothing after it. Counter rows hold the counter as it stood at their end.
    """
    for row in rows if isinstance(rows, list) else ():
        row_start, row_end = _moment(row.get("start")), _moment(row.get("end"))
        field = "mean" if channel.kind is Kind.INSTANTANEOUS else "state"
        value = row.get(field)
        if row_start is None or row_end is None or not isinstance(value, int | float):
            continue
        if not math.isfinite(value) or row_start < start or row_end > end:
            continue
        if channel.kind is Kind.INSTANTANEOUS:
            moment = row_start
            while moment < row_end:
                yield Reading(channel.key, moment, float(value))
                moment += POWER_INTERVAL
        else:
            yield Reading(channel.key, row_end, float(value))


def _moment(stamp: object) -> datetime | None:
    """Milliseconds since 1970, or the ISO text of before 2023."""
    if isinstance(stamp, int | float):
        return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=stamp)
    return None


# --- the same meter in another family ------------------------------------------------------------

_ZWAVE_METER = re.compile(r"(\d+)\.(\d+)-50-(\d+)-value-(\d+)")
_ELECTRIC_METER, _PRODUCED = 1, 2
_ZWAVE_SCALES = {0: Quantity.ACTIVE_ENERGY, 2: Quantity.ACTIVE_POWER}
_SMAPPEE = re.compile(r".+-(\d+)-(total_power|alwayson|solar_power)")
_SMAPPEE_ENDPOINTS = {
    "total_power": "consumption/active_energy/import",
    "alwayson": "always-on/active_energy/import",
    "solar_power": "solar/active_energy/export",
}
_P1 = re.compile(
    r"(.+)_(current_electricity_usage|current_electricity_delivery"
    r"|electricity_used_tariff_\d|electricity_delivered_tariff_\d"
    r"|instantaneous_active_power_l(\d)_(?:positive|negative))"
)


def same_meter(entity: Entity) -> str | None:
    """The key under which a family nearer to the meter reads it: from the entity's unique id."""
    match entity.platform:
        case "zwave_js":
            return _zwave_key(entity.unique_id)
        case "smappee":
            found = _SMAPPEE.fullmatch(entity.unique_id)
            return f"smappee/{found[1]}/{_SMAPPEE_ENDPOINTS[found[2]]}" if found else None
        case "dsmr":
            return _p1_key(entity)
    return None


def _zwave_key(unique_id: str) -> str | None:
    """home.node-50-endpoint-value-key, as zwave_js builds it from the value's id."""
    found = _ZWAVE_METER.fullmatch(unique_id)
    if not found:
        return None
    home, node, endpoint, key = (int(part) for part in found.groups())
    quantity = _ZWAVE_SCALES.get(key >> 8 & 0xFF)
    if key >> 16 != _ELECTRIC_METER or quantity is None:
        return None
    direction = Direction.EXPORT if key & 0xFF == _PRODUCED else Direction.IMPORT
    return f"zwave/{home:08x}-{node}/{endpoint}/{quantity}/{direction}"


def _p1_key(entity: Entity) -> str | None:
    if entity.device_class == "gas":
        return f"p1/{entity.unique_id.partition('_')[0]}/0/gas/import"
    found = _P1.fullmatch(entity.unique_id)
    if not found:
        return None
    meter, what, phase = found.groups()
    outward = "deliver" in what or what.endswith("negative")
    quantity = Quantity.ACTIVE_ENERGY if "tariff" in what else Quantity.ACTIVE_POWER
    endpoint = f"L{phase}" if phase else "0"
    return f"p1/{meter}/{endpoint}/{quantity}/{Direction.EXPORT if outward else Direction.IMPORT}"
