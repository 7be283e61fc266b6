"""The nouns of the box, and the two protocols every device family fulfils.

Pure: no clock, no network, no store. Everything here is immutable, its times are aware UTC
datetimes or BoxTime, its numbers carry their unit in the name or in a `unit` field.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Protocol


class BoxTime(NamedTuple):
    """A moment on the box's own clock: which boot, and CLOCK_BOOTTIME in it.

    Wall time follows once the clock of that boot is known (store/buffer.py resolves it).
    """

    boot: int
    boottime_ms: int


class Quantity(StrEnum):
    """What a channel measures. The unit of each is fixed: see UNITS."""

    ACTIVE_POWER = "active_power"
    ACTIVE_ENERGY = "active_energy"
    REACTIVE_POWER = "reactive_power"
    REACTIVE_ENERGY = "reactive_energy"
    APPARENT_ENERGY = "apparent_energy"
    VOLTAGE = "voltage"
    CURRENT = "current"
    POWER_FACTOR = "power_factor"
    GAS = "gas"
    WATER = "water"
    TEMPERATURE = "temperature"
    HUMIDITY = "humidity"
    PULSES = "pulses"
    HEAT = "heat"
    COLD = "cold"


UNITS = {
    Quantity.ACTIVE_POWER: "W",
    Quantity.ACTIVE_ENERGY: "kWh",
    Quantity.REACTIVE_POWER: "var",
    Quantity.REACTIVE_ENERGY: "kvarh",
    Quantity.APPARENT_ENERGY: "kVAh",
    Quantity.VOLTAGE: "V",
    Quantity.CURRENT: "A",
    Quantity.POWER_FACTOR: "",
    Quantity.GAS: "m³",
    Quantity.WATER: "m³",
    Quantity.TEMPERATURE: "°C",
    Quantity.HUMIDITY: "%",
    Quantity.PULSES: "",
    Quantity.HEAT: "kWh",
    Quantity.COLD: "kWh",
}


HOLD_INTERVALS = 3  # reports may get lost on the radio
HOLD_MIN = timedelta(minutes=3)  # older readings may be from before somebody shortened the interval


class Direction(StrEnum):
    """Which way energy flows through the meter. A signed power channel is IMPORT."""

    IMPORT = "import"
    EXPORT = "export"


class Kind(StrEnum):
    """How a value relates to time."""

    INSTANTANEOUS = "instantaneous"  # W, V: holds until the next report
    COUNTER = "counter"  # kWh, m³: only grows; differences count
    INTERVAL = "interval"  # energy of [taken_at, taken_at + Channel.report_interval)


@dataclass(frozen=True, slots=True)
class Channel:
    """One measured quantity of one device.

    `key` is stable over restarts and re-interviews. `device` names the device within its family,
    `endpoint` the clamp, phase or socket ("0" = the device as a whole). `report_interval` is how
    often a value is expected; for INTERVAL channels the exact length of each interval.
    `repeats` names the key of a channel that shows the same energy (a whole-house endpoint that
    repeats a clamp, the kWh counter beside the W of one clamp): offered once, never summed twice.
    """

    family: str
    device: str
    endpoint: str
    quantity: Quantity
    kind: Kind
    direction: Direction = Direction.IMPORT
    report_interval: timedelta = timedelta(minutes=5)
    name: str = ""
    repeats: str | None = None

    @property
    def key(self) -> str:
        return f"{self.device_key}/{self.endpoint}/{self.quantity}/{self.direction}"

    @property
    def device_key(self) -> str:
        return f"{self.family}/{self.device}"

    @property
    def unit(self) -> str:
        return UNITS[self.quantity]

    @property
    def hold(self) -> timedelta:
        """How long a value holds, and over how long a silence a counter is bridged."""
        return max(HOLD_INTERVALS * self.report_interval, HOLD_MIN)


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one channel, in its unit. `taken_at`: the box's clock or the source's UTC."""

    channel_key: str
    taken_at: BoxTime | datetime
    value: float


class Sample(NamedTuple):
    """A reading whose wall time is known: what resampling works on."""

    taken_at: datetime
    value: float


@dataclass(frozen=True, slots=True)
class Term:
    """One channel of a sensor's signed sum. `fallback_key` (the kWh counter of the same clamp)
    serves only the slots where `channel_key` has nothing."""

    channel_key: str
    sign: int = 1
    fallback_key: str | None = None


@dataclass(frozen=True, slots=True)
class Sensor:
    """A FlexMeasures sensor and what feeds it. A slot exists only where every term does.

    `unit` and `event_resolution` are the server's; values are converted to them here, never there.
    """

    sensor_id: int
    name: str
    unit: str
    event_resolution: timedelta
    terms: tuple[Term, ...]
    asset_id: int = 0
    created_by_box: bool = False


@dataclass(frozen=True, slots=True)
class Slot:
    """One interval of one sensor: [start, start + event_resolution), value in the sensor's unit."""

    sensor_id: int
    start: datetime
    event_resolution: timedelta
    value: float


class Origin(StrEnum):
    """Who asks something of a device, the strongest first. The box itself only brings back."""

    HAND = "hand"
    LIMIT = "limit"
    SCHEDULE = "schedule"
    BOX = "box"


@dataclass(frozen=True, slots=True)
class Interval:
    """[start, end) with the average power wanted in it, consumption positive."""

    start: datetime
    end: datetime
    power_w: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What one origin asks of one device, in intervals sorted by start that do not overlap."""

    origin: Origin
    intervals: tuple[Interval, ...]

    def at(self, moment: datetime) -> Interval | None:
        """The interval that holds `moment`."""
        return next((i for i in self.intervals if i.start <= moment < i.end), None)

    def next_boundary(self, moment: datetime) -> datetime | None:
        """The first start or end of an interval after `moment`."""
        edges = (edge for i in self.intervals for edge in (i.start, i.end) if edge > moment)
        return min(edges, default=None)


class DeviceState(StrEnum):
    ALIVE = "alive"
    ASLEEP = "asleep"
    DEAD = "dead"
    INTERVIEWING = "interviewing"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Device:
    """A device as its family sees it now; for the page and the status, never stored."""

    family: str
    device: str
    name: str
    model: str
    state: DeviceState
    last_seen: datetime | None = None
    is_switch: bool = False
    is_on: bool | None = None
    own_timers: tuple[timedelta, ...] = ()  # holds after which it comes back without the box
    details: dict[str, str | float | bool | None] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.family}/{self.device}"


class Intake(Protocol):
    """Where a family puts what it reads. Never blocks, never raises."""

    def offer(self, reading: Reading) -> None:
        """Take one reading; checked for plausibility, then buffered."""

    def announce(self, channels: Iterable[Channel]) -> None:
        """Tell that these channels exist (again); later announcements of a key replace earlier."""

    def now(self) -> BoxTime:
        """The stamp for a reading that carries no time of its own."""


class Meter(Protocol):
    """A family that measures."""

    family: str

    async def run(self) -> None:
        """Measure until the session ends; return or raise EdgeError, the supervisor restarts it."""

    def devices(self) -> list[Device]:
        """Every device known now. Cheap, no waiting."""


class Switch(Protocol):
    """A family that switches. `device` is Device.device; every call has its own time-out."""

    family: str

    async def turn_off(self, device: str, hold: timedelta | None) -> None:
        """Switch off; with `hold` (one of Device.own_timers) the device itself comes back after it.

        Raises Unreachable or Refused. Success of this call is not proof: see is_on.
        """

    async def turn_on(self, device: str) -> None:
        """Switch on. Raises Unreachable or Refused."""

    async def is_on(self, device: str) -> bool | None:
        """Read the state back from the device; None where the device cannot say."""
