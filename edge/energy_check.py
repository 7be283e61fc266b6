"""Does the energy computed from a clamp's power agree with the clamp's own counter? Pure.

A deviation of more than a few percent means reports that are too rare, a clamp the wrong way
round or one in the wrong detection mode. Compared over stretches in which both are known
throughout, summed over one to two days.
"""

from dataclasses import dataclass, field
from datetime import timedelta

from edge.model import BoxTime, Channel, Direction, Quantity, Reading

BUCKET_SPAN = timedelta(days=1)  # the figure covers the current bucket and the one before it
ENERGY_MIN_KWH = (
    1.0  # below it the coarseness of counters (0.1 kWh on some) says more than the clamp
)

_W_MS_PER_KWH = 3.6e9


@dataclass(slots=True)
class _Bucket:
    power_kwh: float = 0.0
    counter_kwh: float = 0.0
    span_ms: float = 0.0


@dataclass(slots=True)
class EnergyCheck:
    """One counter beside the power channel of the same clamp; feed it what was believed."""

    power: Channel
    counter: Channel
    _power_at: tuple[object, float, float] | None = None  # time base, ms, W
    _anchor: tuple[object, float, float] | None = None  # time base, ms, kWh
    _since_anchor_kwh: float = 0.0
    _now: _Bucket = field(default_factory=_Bucket)
    _before: _Bucket = field(default_factory=_Bucket)

    def take(self, reading: Reading) -> None:
        """Take a believed reading of either channel, in the order of its time."""
        base, moment_ms = _moment(reading)
        if reading.channel_key == self.power.key:
            self._hold_until(base, moment_ms)
            self._power_at = (base, moment_ms, reading.value)
        elif reading.channel_key == self.counter.key:
            self._hold_until(base, moment_ms)
            self._count(base, moment_ms, reading.value)

    def deviation_percent(self) -> float | None:
        """(∫W − counter) / counter in percent; None until there is enough energy to compare."""
        counter_kwh = self._now.counter_kwh + self._before.counter_kwh
        if counter_kwh < ENERGY_MIN_KWH:
            return None
        power_kwh = self._now.power_kwh + self._before.power_kwh
        return 100 * (power_kwh - counter_kwh) / counter_kwh

    def _hold_until(self, base: object, moment_ms: float) -> None:
        """Let the last power value flow until this moment, or break the stretch."""
        if self._power_at is None:
            self._anchor = None
            return
        power_base, since_ms, power_w = self._power_at
        hold_ms = self.power.hold / timedelta(milliseconds=1)
        if power_base != base or not 0 <= moment_ms - since_ms <= hold_ms:
            self._power_at = self._anchor = None
            return
        flowing_w = max(0.0, power_w if self._is_same_way() else -power_w)
        self._since_anchor_kwh += flowing_w * (moment_ms - since_ms) / _W_MS_PER_KWH
        self._power_at = (base, moment_ms, power_w)

    def _count(self, base: object, moment_ms: float, value_kwh: float) -> None:
        if self._anchor is not None and self._anchor[0] == base:
            _, anchor_ms, anchor_kwh = self._anchor
            if value_kwh >= anchor_kwh:
                self._add(value_kwh - anchor_kwh, moment_ms - anchor_ms)
        self._anchor = (base, moment_ms, value_kwh) if self._power_at is not None else None
        self._since_anchor_kwh = 0.0

    def _add(self, counter_kwh: float, span_ms: float) -> None:
        self._now.power_kwh += self._since_anchor_kwh
        self._now.counter_kwh += counter_kwh
        self._now.span_ms += span_ms
        if self._now.span_ms >= BUCKET_SPAN / timedelta(milliseconds=1):
            self._before, self._now = self._now, _Bucket()

    def _is_same_way(self) -> bool:
        return self.power.direction == self.counter.direction


def pair(counter: Channel, clamp: dict[str, Channel]) -> EnergyCheck | None:
    """The check of this counter, where one of its clamp's channels is power.

    Export is compared with the power that is told as export, or else with negative import.
    """
    if counter.quantity is not Quantity.ACTIVE_ENERGY:
        return None
    for direction in (counter.direction, Direction.IMPORT):
        for channel in clamp.values():
            if channel.quantity is Quantity.ACTIVE_POWER and channel.direction is direction:
                return EnergyCheck(channel, counter)
    return None


def _moment(reading: Reading) -> tuple[object, float]:
    """Time base (a boot, or UTC) and milliseconds in it."""
    if isinstance(reading.taken_at, BoxTime):
        return reading.taken_at.boot, float(reading.taken_at.boottime_ms)
    return "utc", reading.taken_at.timestamp() * 1000
