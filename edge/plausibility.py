"""Which readings can be true: a pure judge per channel.

Meters lie now and then: bit flips on the radio pass an 8-bit checksum, counters overflow into huge
negatives, energy jumps by a year within a minute. Such a reading is held back until a second one
agrees with it; then both count (a meter was replaced, a counter was reset, the fuse is larger
than configured). What no installation can produce is never believed, however often it is said.

State is two readings per channel. No clock, no store: edge/intake.py keeps the states.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from edge.model import BoxTime, Channel, Kind, Quantity, Reading

JUMP_ALLOWANCE = 1.5  # a fuse carries more than its rating for a while
IMPOSSIBLE_FACTOR = 10  # beyond this many times the bound a second reading proves nothing
COUNTER_MAX = 1_000_000  # kWh or m³: home meters have six digits; overflowed ones show 21474836.48
AGREEMENT = 0.5  # two readings out of bounds agree when they differ by at most this fraction


class Reason(StrEnum):
    """Why a reading is held back, in the words shown to a person."""

    NOT_A_NUMBER = "not a number"
    IMPOSSIBLE = "no home can produce this value"
    BEYOND_RATING = "beyond the rating of the main fuse"
    OUT_OF_RANGE = "outside the range of this quantity"
    COUNTER_JUMP = "the counter jumped further than the main fuse allows"
    COUNTER_DECREASED = "the counter decreased"
    IN_THE_FUTURE = "its source says it was taken in the future"
    TOO_OLD = "its source says it was taken too long ago"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the installation can carry. 3 × 25 A is the common Dutch and Belgian connection; gas
    and water: the largest domestic meters (G16 25 m³/h; 40 mm 10 m³/h)."""

    main_fuse_a: float = 25.0
    phases: int = 3
    voltage_v: float = 230.0
    gas_m3_per_hour: float = 25.0
    water_m3_per_hour: float = 10.0

    @property
    def rating_w(self) -> float:
        return self.main_fuse_a * self.phases * self.voltage_v


@dataclass(frozen=True, slots=True)
class ChannelState:
    """What the judge remembers of a channel: the last believed and the last doubted reading."""

    believed: Reading | None = None
    doubted: Reading | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """`accepted`: readings to store now, oldest first; holds the doubted one too once confirmed.

    `reason` is set where the reading is held back. `released` says that a doubted reading was
    confirmed, `reset` that with it the counter started anew.
    """

    state: ChannelState
    accepted: tuple[Reading, ...] = ()
    reason: Reason | None = None
    released: bool = False
    reset: bool = False


def judge(channel: Channel, state: ChannelState, reading: Reading, limits: Limits) -> Judgement:
    """Believe the reading, hold it back with the reason, or believe it and the one before."""
    if not math.isfinite(reading.value):
        return Judgement(state, reason=Reason.NOT_A_NUMBER)
    if _is_impossible(channel, reading.value, limits):
        return Judgement(state, reason=Reason.IMPOSSIBLE)
    reason = _doubt(channel, state.believed, reading, limits)
    if reason is None:
        return Judgement(ChannelState(_later(state.believed, reading)), accepted=(reading,))
    if state.doubted is not None and _agree(channel, state.doubted, reading, limits):
        both = (state.doubted, reading)
        reset = reason is Reason.COUNTER_DECREASED
        return Judgement(ChannelState(reading), accepted=both, released=True, reset=reset)
    return Judgement(ChannelState(state.believed, reading), reason=reason)


def step_max(channel: Channel, elapsed: timedelta, limits: Limits) -> float:
    """The most a counter of this channel can grow in `elapsed`, in its unit.

    A report may be one report interval older than its stamp, and meters count in coarse steps, so
    one interval is granted on top.
    """
    hours = (elapsed + channel.report_interval) / timedelta(hours=1)
    return _rate_max(channel.quantity, limits) * JUMP_ALLOWANCE * hours


def _doubt(
    channel: Channel, believed: Reading | None, reading: Reading, limits: Limits
) -> Reason | None:
    """Why this reading needs a second one to confirm it; None where it does not."""
    if channel.kind is Kind.COUNTER:
        return None if believed is None else _step_doubt(channel, believed, reading, limits)
    low, high = _bounds(channel, limits)
    if low <= reading.value <= high:
        return None
    if believed is not None and not low <= believed.value <= high and _near(believed, reading):
        return None  # confirmed once, it goes on: the installation is larger than configured
    is_beyond = _depends_on_fuse(channel.quantity) and abs(reading.value) > high
    return Reason.BEYOND_RATING if is_beyond else Reason.OUT_OF_RANGE


def _step_doubt(channel: Channel, before: Reading, after: Reading, limits: Limits) -> Reason | None:
    elapsed = _elapsed(before, after)
    step = after.value - before.value
    if elapsed is not None and elapsed < timedelta(0):  # a source tells an older value late
        elapsed, step = -elapsed, -step
    if step < 0:
        return Reason.COUNTER_DECREASED
    if elapsed is not None and step > step_max(channel, elapsed, limits):
        return Reason.COUNTER_JUMP
    return None


def _agree(channel: Channel, doubted: Reading, reading: Reading, limits: Limits) -> bool:
    if channel.kind is Kind.COUNTER:
        return _step_doubt(channel, doubted, reading, limits) is None
    return _near(doubted, reading)


def _near(one: Reading, other: Reading) -> bool:
    return abs(one.value - other.value) <= AGREEMENT * max(abs(one.value), abs(other.value))


def _is_impossible(channel: Channel, value: float, limits: Limits) -> bool:
    if channel.kind is Kind.COUNTER:
        return abs(value) > COUNTER_MAX
    low, high = _bounds(channel, limits)
    return abs(value) > IMPOSSIBLE_FACTOR * max(abs(low), abs(high))


def _bounds(channel: Channel, limits: Limits) -> tuple[float, float]:
    """The range in which a value of an instantaneous or interval channel needs no second one."""
    if channel.kind is Kind.INTERVAL:
        hours = channel.report_interval / timedelta(hours=1)
        return 0.0, _rate_max(channel.quantity, limits) * JUMP_ALLOWANCE * hours
    match channel.quantity:
        case Quantity.ACTIVE_POWER | Quantity.REACTIVE_POWER:
            return -limits.rating_w, limits.rating_w
        case Quantity.CURRENT:  # HEM clamps report per phase or the sum of the phases
            return -limits.main_fuse_a * limits.phases, limits.main_fuse_a * limits.phases
        case Quantity.VOLTAGE:
            return 0.0, 500.0  # between phases 400 V + 10 %, with some room
        case Quantity.POWER_FACTOR:
            return -1.0, 1.0
        case Quantity.TEMPERATURE:
            return -60.0, 120.0
        case Quantity.HUMIDITY:
            return 0.0, 100.0
        case _:
            return -math.inf, math.inf


def _rate_max(quantity: Quantity, limits: Limits) -> float:
    """The most that can flow, in the quantity's unit per hour."""
    match quantity:
        case Quantity.ACTIVE_ENERGY | Quantity.REACTIVE_ENERGY | Quantity.APPARENT_ENERGY:
            return limits.rating_w / 1000
        case Quantity.ACTIVE_POWER | Quantity.REACTIVE_POWER:
            return limits.rating_w
        case Quantity.GAS:
            return limits.gas_m3_per_hour
        case Quantity.WATER:
            return limits.water_m3_per_hour
        case _:
            return math.inf


def _depends_on_fuse(quantity: Quantity) -> bool:
    return quantity in (
        Quantity.ACTIVE_POWER,
        Quantity.ACTIVE_ENERGY,
        Quantity.REACTIVE_POWER,
        Quantity.REACTIVE_ENERGY,
        Quantity.APPARENT_ENERGY,
        Quantity.CURRENT,
    )


def _elapsed(before: Reading, after: Reading) -> timedelta | None:
    """Time between two readings; None where a reboot or another kind of stamp lies between."""
    match before.taken_at, after.taken_at:
        case BoxTime() as one, BoxTime() as other:
            if one.boot == other.boot:
                return timedelta(milliseconds=other.boottime_ms - one.boottime_ms)
            return None
        case datetime() as start, datetime() as end:
            return end - start
        case _:
            return None


def _later(believed: Reading | None, reading: Reading) -> Reading:
    """The one to judge the next reading by: an older value told late does not turn time back."""
    if believed is None:
        return reading
    elapsed = _elapsed(believed, reading)
    return believed if elapsed is not None and elapsed < timedelta(0) else reading
