"""From the samples of a sensor's terms to its slots. Pure: no clock, no store, no network.

A slot's value depends on the samples within `reach()` of it and on nothing else, so it is the same
however the work is cut into windows. Power is the time-weighted mean; a counter is split linearly
between two reports, never across a gap, a reset or a jump; intervals are summed. What is not known
stays a gap: nothing is invented, least of all zero.

Everything is computed here at the sensor's own resolution and in its own unit, because the
server's resampling of energy is wrong (it averages where it should add).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import fsum, inf
from typing import NamedTuple

from edge.errors import ConfigFault
from edge.model import Channel, Kind, Sample, Sensor, Slot, Term
from edge.plausibility import Limits, step_max

SETTLING = timedelta(seconds=15)  # radio retries, a clamp that reports its values one by one
MINIMUM_COVERAGE = 0.8  # of a slot must be known for its mean power to be told

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_HOUR_MS = 3_600_000

type Channels = Mapping[str, Channel]
type Samples = Mapping[str, Sequence[Sample]]


class _Unit(NamedTuple):
    """`factor` leads to the dimension's base unit; amounts are base unit × hour (W → Wh)."""

    dimension: str
    is_amount: bool
    factor: float


_UNITS = {  # every unit of model.UNITS, and those FlexMeasures sensors use for them
    "W": _Unit("active", False, 1),
    "kW": _Unit("active", False, 1e3),
    "MW": _Unit("active", False, 1e6),
    "Wh": _Unit("active", True, 1),
    "kWh": _Unit("active", True, 1e3),
    "MWh": _Unit("active", True, 1e6),
    "var": _Unit("reactive", False, 1),
    "kvar": _Unit("reactive", False, 1e3),
    "kvarh": _Unit("reactive", True, 1e3),
    "VA": _Unit("apparent", False, 1),
    "kVA": _Unit("apparent", False, 1e3),
    "kVAh": _Unit("apparent", True, 1e3),
    "V": _Unit("voltage", False, 1),
    "kV": _Unit("voltage", False, 1e3),
    "A": _Unit("current", False, 1),
    "mA": _Unit("current", False, 1e-3),
    "°C": _Unit("temperature", False, 1),
    "degC": _Unit("temperature", False, 1),
    "%": _Unit("share", False, 1),
    "": _Unit("number", False, 1),
    "dimensionless": _Unit("number", False, 1),
    "m³": _Unit("volume", True, 1),
    "m3": _Unit("volume", True, 1),
    "m³/h": _Unit("volume", False, 1),
    "m3/h": _Unit("volume", False, 1),
    "l": _Unit("volume", True, 1e-3),
    "l/h": _Unit("volume", False, 1e-3),
}


@dataclass(frozen=True, slots=True)
class Due:
    """`slots` of one sensor, in time order, and `until`: before it every gap is final."""

    slots: tuple[Slot, ...]
    until: datetime


def due_slots(
    sensor: Sensor,
    channels: Channels,
    samples: Samples,
    window: tuple[datetime, datetime],
    now: datetime,
    limits: Limits | None = None,
) -> Due:
    """The slots of `window` that are over, settled and known.

    `samples` must hold all that lie within reach() of the window, up to `now`; of two at the same
    moment the later in the sequence counts. Computing stops at the first slot that a counter
    report still to come may complete; the watermark `until` waits there. Raises ConfigFault: see
    check().
    """
    check(sensor, channels)
    grid = _Grid.of(sensor, window, now - SETTLING)
    known = [
        _Term.of(term, sensor, channels, samples, grid, limits or Limits()) for term in sensor.terms
    ]
    slots: list[Slot] = []
    for index in range(grid.first, grid.end):
        rates = [term.rate(index) for term in known]
        missing = [term for term, rate in zip(known, rates, strict=True) if rate is None]
        if not missing:
            rate = fsum(rate for rate in rates if rate is not None)
            slots.append(_slot(sensor, grid, index, rate))
        elif all(term.is_open(index) for term in missing):
            return Due(tuple(slots), grid.start_of(index))
    return Due(tuple(slots), grid.start_of(max(grid.first, grid.end)))


def check(sensor: Sensor, channels: Channels) -> None:
    """Raise ConfigFault, naming everything, where this sensor can't be fed from its terms."""
    faults = []
    resolution = sensor.event_resolution
    if resolution < timedelta(minutes=1) or resolution % timedelta(minutes=1):
        faults.append(f"its resolution {resolution} is not a whole number of minutes")
    if not sensor.terms:
        faults.append("no channel feeds it")
    unit = _UNITS.get(sensor.unit)
    if unit is None:
        faults.append(f"the box cannot compute the unit {sensor.unit!r}")
    for term in sensor.terms:
        channel = channels.get(term.channel_key)
        if channel is None:
            faults.append(f"channel {term.channel_key} is not known to the box yet")
        elif unit is not None and _UNITS[channel.unit].dimension != unit.dimension:
            faults.append(f"{channel.key} in {channel.unit!r} is no {sensor.unit!r}")
    if faults:
        raise ConfigFault(*(f"sensor {sensor.sensor_id} {sensor.name!r}: {f}" for f in faults))


def reach(sensor: Sensor, channels: Channels) -> timedelta:
    """How far before and after a slot the samples lie that its value may depend on."""
    known = [channels[key] for key in keys(sensor) if key in channels]
    return max((channel.hold for channel in known), default=timedelta(0))


def keys(sensor: Sensor) -> list[str]:
    """Every channel that feeds the sensor, fall-backs included."""
    named = [(term.channel_key, term.fallback_key) for term in sensor.terms]
    return [key for pair in named for key in pair if key is not None]


def slot_start(moment: datetime, event_resolution: timedelta) -> datetime:
    """The start of the slot that holds `moment`, on the grid from the UTC epoch.

    FlexMeasures floors a start that is off this grid, which would write the wrong slot.
    """
    return moment - (moment - _EPOCH) % event_resolution


def _slot(sensor: Sensor, grid: "_Grid", index: int, rate: float) -> Slot:
    unit = _UNITS[sensor.unit]
    value = rate * grid.hours / unit.factor if unit.is_amount else rate / unit.factor
    return Slot(sensor.sensor_id, grid.start_of(index), sensor.event_resolution, value + 0.0)


@dataclass(frozen=True, slots=True)
class _Grid:
    """The slots in question: numbered from the epoch, first ≤ index < end. Times in whole ms."""

    first: int
    end: int
    length_ms: int
    settled_ms: int

    @classmethod
    def of(cls, sensor: Sensor, window: tuple[datetime, datetime], settled: datetime) -> "_Grid":
        length_ms = sensor.event_resolution // _MS
        settled_ms = _ms(settled)
        last = min(-(-_ms(window[1]) // length_ms), settled_ms // length_ms)
        return cls(_ms(window[0]) // length_ms, last, length_ms, settled_ms)

    @property
    def hours(self) -> float:
        return self.length_ms / _HOUR_MS

    def start_of(self, index: int) -> datetime:
        return _EPOCH + index * self.length_ms * _MS


class _Term:
    """One term over the grid: the main channel where it is known, else its fall-back."""

    def __init__(self, sign: int, sources: list["_Source"]) -> None:
        self._sign = sign
        self._sources = sources

    @classmethod
    def of(
        cls,
        term: Term,
        sensor: Sensor,
        channels: Channels,
        samples: Samples,
        grid: _Grid,
        limits: Limits,
    ) -> "_Term":
        dimension = _UNITS[sensor.unit].dimension
        named = [channels.get(key) for key in (term.channel_key, term.fallback_key) if key]
        fitting = [c for c in named if c is not None and _UNITS[c.unit].dimension == dimension]
        sources = [_Source(c, samples.get(c.key, ()), grid, limits) for c in fitting]
        return cls(term.sign, sources)

    def rate(self, index: int) -> float | None:
        """The mean over the slot in base units, with its sign; None = not known."""
        for source in self._sources:
            rate = source.rate(index)
            if rate is not None:
                return self._sign * rate
        return None

    def is_open(self, index: int) -> bool:
        """Whether a report still to come may make an unknown slot known."""
        return any(source.is_open(index) for source in self._sources)


class _Span(NamedTuple):
    """A stretch of time over which a channel is known: its rate in base units per hour."""

    start_ms: int
    end_ms: int
    rate: float


class _Source:
    """One channel laid over the grid."""

    def __init__(
        self, channel: Channel, samples: Sequence[Sample], grid: _Grid, limits: Limits
    ) -> None:
        points = _points(samples)
        unit = _UNITS[channel.unit]
        self._grid = grid
        self._is_counter = channel.kind is Kind.COUNTER
        self._needed_ms = grid.length_ms
        self._bridge_ms = channel.hold // _MS
        self._last_ms = points[-1][0] if points else None
        match channel.kind:
            case Kind.INSTANTANEOUS:
                self._needed_ms = int(MINIMUM_COVERAGE * grid.length_ms)
                spans = _held(points, self._bridge_ms)
            case Kind.COUNTER:
                spans = _split(points, channel, self._bridge_ms, limits)
            case Kind.INTERVAL:
                spans = _intervals(points, channel, is_amount=unit.is_amount)
        self._totals = _lay(spans, grid)
        self._factor = unit.factor

    def rate(self, index: int) -> float | None:
        total, covered_ms = self._totals.get(index, (0.0, 0))
        if covered_ms < max(1, self._needed_ms):
            return None
        return total / covered_ms * self._factor

    def is_open(self, index: int) -> bool:
        if not self._is_counter or self._last_ms is None:
            return False
        start_ms = index * self._grid.length_ms
        known_ms = self._totals.get(index, (0.0, 0))[1]
        is_unbroken = known_ms == max(0, self._last_ms - start_ms)
        is_over = self._last_ms >= start_ms + self._grid.length_ms
        return (
            is_unbroken and not is_over and self._grid.settled_ms <= self._last_ms + self._bridge_ms
        )


def _points(samples: Sequence[Sample]) -> list[tuple[int, float]]:
    """In time order, in ms, one per moment: the later in the sequence counts."""
    moments = {_ms(taken_at): value for taken_at, value in samples}
    return sorted(moments.items())


def _held(points: list[tuple[int, float]], hold_ms: int) -> Iterable[_Span]:
    for (start_ms, value), (next_ms, _) in pairwise(points):
        yield _Span(start_ms, min(next_ms, start_ms + hold_ms), value)
    if points:
        start_ms, value = points[-1]
        yield _Span(start_ms, start_ms + hold_ms, value)


def _split(
    points: list[tuple[int, float]], channel: Channel, bridge_ms: int, limits: Limits
) -> Iterable[_Span]:
    for (start_ms, before), (end_ms, after) in pairwise(points):
        length_ms, step = end_ms - start_ms, after - before
        is_jump = step > step_max(channel, length_ms * _MS, limits)
        if length_ms <= bridge_ms and step >= 0 and not is_jump:
            yield _Span(start_ms, end_ms, step * _HOUR_MS / length_ms)


def _intervals(
    points: list[tuple[int, float]], channel: Channel, *, is_amount: bool
) -> Iterable[_Span]:
    length_ms = channel.report_interval // _MS
    per_hour = _HOUR_MS / length_ms if is_amount else 1.0
    next_ms = inf
    for start_ms, value in reversed(points):
        if next_ms - start_ms >= length_ms:  # of two that overlap only the later counts
            yield _Span(start_ms, start_ms + length_ms, value * per_hour)
        next_ms = start_ms


def _lay(spans: Iterable[_Span], grid: _Grid) -> dict[int, tuple[float, int]]:
    """Per slot: sum of rate × ms, and the ms that are known."""
    totals: dict[int, tuple[float, int]] = {}
    length_ms = grid.length_ms
    for start_ms, end_ms, rate in spans:
        first = max(start_ms // length_ms, grid.first)
        last = min((end_ms - 1) // length_ms, grid.end - 1)
        for index in range(first, last + 1):
            slot_ms = index * length_ms
            overlap_ms = min(end_ms, slot_ms + length_ms) - max(start_ms, slot_ms)
            total, covered_ms = totals.get(index, (0.0, 0))
            totals[index] = (total + rate * overlap_ms, covered_ms + overlap_ms)
    return totals


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
