"""Which channels feed which sensors, unless a person says otherwise. Pure.

Power first: every clamp that measures W becomes one sensor of average power, its kWh counter
serving where W is missing; a clamp with only kWh becomes power too. What comes back from the house
counts negative. Channels that repeat another one feed nothing, so that nothing is counted twice.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from edge.errors import Malformed
from edge.model import HOLD_INTERVALS, Channel, Direction, Kind, Quantity, Sensor, Term
from edge.overlap import resolved

EVENT_RESOLUTION = timedelta(minutes=5)
_COARSER = (5, 10, 15, 30, 60, 24 * 60)  # minutes
_NUMBER_MAX = 3  # endpoints of this length are numbers ("1", "L1"), longer ones ids
POWER = "electricity-power"  # what FlexMeasures' own templates call it
_VOLUMES = {Quantity.GAS: "gas", Quantity.WATER: "water"}
SIGNED_UNITS = {"W", "kW", "MW", "Wh", "kWh", "MWh"}


@dataclass(frozen=True, slots=True)
class Feed:
    """A sensor to be: what it is called, on which device's asset, and the channels it sums.

    `sensor_id` names an existing sensor a person chose; name, unit and resolution are then its own.
    """

    device_key: str
    name: str
    unit: str
    event_resolution: timedelta
    terms: tuple[Term, ...]
    sensor_id: int | None = None


def default_mapping(channels: Iterable[Channel]) -> list[Feed]:
    """The feeds for these channels; voltages, temperatures and the like stay in the house."""
    known = resolved(channels)
    clamps: dict[tuple[str, str], list[Channel]] = {}
    for channel in known.values():
        clamps.setdefault((channel.device_key, channel.endpoint), []).append(channel)
    feeds: list[Feed] = []
    for clamp in clamps.values():
        feeds += _power_feed(clamp, known)
        feeds += [
            _feed(channel, _name(_VOLUMES[channel.quantity], channel, known), [channel], {})
            for channel in clamp
            if channel.quantity in _VOLUMES and channel.repeats is None
        ]
    return sorted(feeds, key=lambda feed: (feed.device_key, feed.name))


def turned_for(feed: Feed, attributes: Mapping[str, object], unit: str) -> tuple[Term, ...]:
    """The feed's terms with the sign of an existing sensor: FlexMeasures counts production
    positive on power sensors that do not say `consumption_is_positive`."""
    if unit not in SIGNED_UNITS or attributes.get("consumption_is_positive") is True:
        return feed.terms
    return tuple(replace(term, sign=-term.sign) for term in feed.terms)


def moved(sensors: Sequence[Sensor], device_key: str, old_key: str) -> list[Sensor]:
    """The mapping once a device goes on as another one: its channels are the other's then. A sensor
    that would show what another one shows already falls out."""

    def renamed(key: str | None) -> str | None:
        own = f"{device_key}/"
        return f"{old_key}/{key.removeprefix(own)}" if key and key.startswith(own) else key

    kept: list[Sensor] = []
    for sensor in sensors:
        terms = tuple(
            replace(
                term,
                channel_key=renamed(term.channel_key) or "",
                fallback_key=renamed(term.fallback_key),
            )
            for term in sensor.terms
        )
        is_shown = any(_keys(other.terms) == _keys(terms) for other in sensors)
        if terms == sensor.terms or not is_shown:
            kept.append(replace(sensor, terms=terms))
    return kept


def _keys(terms: Iterable[Term]) -> set[str]:
    return {term.channel_key for term in terms}


def sensors_to_json(sensors: Iterable[Sensor]) -> list[dict[str, object]]:
    """The mapping as state.db keeps it."""
    return [
        {
            "sensor_id": sensor.sensor_id,
            "name": sensor.name,
            "unit": sensor.unit,
            "resolution_s": sensor.event_resolution.total_seconds(),
            "asset_id": sensor.asset_id,
            "created_by_box": sensor.created_by_box,
            "terms": [[term.channel_key, term.sign, term.fallback_key] for term in sensor.terms],
        }
        for sensor in sensors
    ]


def sensors_from_json(content: object) -> list[Sensor]:
    """What sensors_to_json wrote; nothing for None. Raises Malformed."""
    if content is None:
        return []
    try:
        return [_sensor(each) for each in content]  # type: ignore[attr-defined]
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise Malformed("the stored mapping cannot be read", str(content)) from problem


def _sensor(kept: dict[str, object]) -> Sensor:
    terms = kept["terms"]
    return Sensor(
        sensor_id=int(kept["sensor_id"]),  # type: ignore[call-overload]
        name=str(kept["name"]),
        unit=str(kept["unit"]),
        event_resolution=timedelta(seconds=float(kept["resolution_s"])),  # type: ignore[arg-type]
        terms=tuple(Term(str(key), int(sign), fallback) for key, sign, fallback in terms),  # type: ignore[attr-defined]
        asset_id=int(kept["asset_id"]),  # type: ignore[call-overload]
        created_by_box=bool(kept["created_by_box"]),
    )


def _power_feed(clamp: Sequence[Channel], known: Mapping[str, Channel]) -> list[Feed]:
    """The one power sensor of a clamp, if it measures power or energy of its own."""
    powers = [c for c in clamp if c.quantity is Quantity.ACTIVE_POWER and c.repeats is None]
    energies = [
        c for c in clamp if c.quantity is Quantity.ACTIVE_ENERGY and _is_own_energy(c, known)
    ]
    if powers:
        is_signed = len(powers) == 1  # one channel for both ways: no single counter can stand in
        counters = {c.direction: c.key for c in energies}
        if is_signed and len(counters) > 1:
            counters = {}
        return [_feed(powers[0], _name(POWER, powers[0], known), powers, counters)]
    energies = [c for c in energies if c.repeats is None]
    if not energies:
        return []
    return [_feed(energies[0], _name(POWER, energies[0], known), energies, {})]


def _name(what: str, first: Channel, known: Mapping[str, Channel]) -> str:
    """`what`, and the endpoint where the device has more of it; a long one is an id, which only
    an owner of two such wants to see."""
    others = {c.endpoint for c in known.values() if _same_kind(c, first)} - {first.endpoint}
    if first.endpoint in ("", "0") or (len(first.endpoint) > _NUMBER_MAX and not others):
        return what
    return f"{what} {first.endpoint}"


def _same_kind(channel: Channel, first: Channel) -> bool:
    return (channel.device_key, channel.quantity) == (first.device_key, first.quantity)


def _is_own_energy(channel: Channel, known: Mapping[str, Channel]) -> bool:
    """Whether it counts this clamp: it repeats nothing, or the power beside it."""
    beside = known.get(channel.repeats or "")
    return channel.repeats is None or (
        beside is not None
        and beside.quantity is Quantity.ACTIVE_POWER
        and (beside.device_key, beside.endpoint) == (channel.device_key, channel.endpoint)
    )


def _feed(
    first: Channel,
    name: str,
    channels: Sequence[Channel],
    counters: Mapping[Direction, str],
) -> Feed:
    ordered = sorted(channels, key=lambda c: c.direction is Direction.EXPORT)
    return Feed(
        device_key=first.device_key,
        name=name,
        unit=first.unit if first.quantity in _VOLUMES else "kW",
        event_resolution=_resolution(ordered),
        terms=tuple(
            Term(c.key, -1 if c.direction is Direction.EXPORT else 1, counters.get(c.direction))
            for c in ordered
        ),
    )


def _resolution(channels: Sequence[Channel]) -> timedelta:
    """Five minutes, or coarser where the device reports more seldom.

    Power holds for a few reports; a counter or an interval says nothing of what lies between two.
    """
    finest = max(
        c.report_interval / HOLD_INTERVALS if c.kind is Kind.INSTANTANEOUS else c.report_interval
        for c in channels
    )
    fitting = [step for step in map(_minutes, _COARSER) if step >= finest]
    return fitting[0] if fitting else _minutes(_COARSER[-1])


def _minutes(count: int) -> timedelta:
    return timedelta(minutes=count)
