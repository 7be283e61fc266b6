"""The messages about switching: what each device does now and why, and what a hand may do.

`why` and `outcome` are keys of the page's texts (control.why.…), as decide() says them.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from edge.contract import Message

type Name = Annotated[str, Field(min_length=1, max_length=200)]
type LocalTime = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]

LEFT_ALONE_MAX = 4  # stretches a day; a household needs one or two
LEASE_MIN_USUAL = 120
LEASE_MIN_SHORTEST = 15
LEASE_MIN_LONGEST = 24 * 60


class Stretch(Message):
    """Local hours [start, end) in which neither limit nor schedule touches a device."""

    start: LocalTime
    end: LocalTime


class ControlledDevice(Message):
    """A switch, and what is happening to it. Without `is_used` the box never touches it.

    `origin` (hand, limit, schedule) and `why` say by whom and why it is as it is; `until` when that
    ends. `next_at` is when the answer may be another, `next_off` whether it then goes off.
    `is_box_timed`: only the box can bring it back, which needs `consent`. `hand_left_s`: for how
    long a hand's wish still counts. `note`: why FlexMeasures' wishes cannot be followed here.
    """

    key: str
    name: str
    is_used: bool
    is_on: bool | None
    power_w: float | None
    is_away: bool
    origin: str
    why: str
    until: datetime | None
    next_at: datetime | None
    next_off: bool | None
    trouble: str
    is_box_timed: bool
    consent: bool
    nominal_power_w: float
    away_longest_min: int
    rest_shortest_min: int
    left_alone: list[Stretch]
    normal_on: bool = True
    off_power_w: float = 0.0
    hand_left_s: float | None = None
    hand_at_device: bool = False
    note: str = ""


class TriggerView(Message):
    """How the box asks for schedules itself; None in its place: others make them."""

    price_sensor_id: int
    worth_per_kwh: float
    every_minutes: float
    horizon_hours: float


class ControlView(Message):
    """`schedule_age_s`: since FlexMeasures was last heard on schedules; None where unused.
    `lease_min`: for so many minutes a plan counts after FlexMeasures was last heard on it; then
    devices return to their normal state (LeaseRequest changes it).
    `notes` are sentences a person should know: a schedule that cannot be, a sensor refused."""

    devices: list[ControlledDevice]
    schedule_age_s: float | None
    lease_min: int = LEASE_MIN_USUAL
    notes: list[str] = Field(default_factory=list)
    triggers: TriggerView | None = None


class LeaseRequest(Message):
    """PUT /control/lease: for how many minutes plans count after FlexMeasures was last heard.

    Answered with Done. It holds for every device; a shorter one takes effect at once.
    """

    minutes: Annotated[int, Field(ge=LEASE_MIN_SHORTEST, le=LEASE_MIN_LONGEST)]


class HandRequest(Message):
    """Somebody at the page: out of its normal state for so many minutes, or (0) give it back;
    `away` false: in its normal state for so long, whatever limit and schedule say."""

    device: Name
    minutes: Literal[0, 5, 15, 30, 60]
    away: bool = True


class ControlRequest(Message):
    """How far the box may go with one switch."""

    device: Name
    is_used: bool
    consent: bool
    nominal_power_w: Annotated[float, Field(gt=0, le=50_000)]
    away_longest_min: Annotated[int, Field(ge=1, le=24 * 60)]
    rest_shortest_min: Annotated[int, Field(ge=0, le=24 * 60)]
    left_alone: Annotated[list[Stretch], Field(max_length=LEFT_ALONE_MAX)]
    normal_on: bool = True
    off_power_w: Annotated[float, Field(ge=0, le=50_000)] = 0.0
    timezone: Annotated[str, Field(max_length=60)] = ""  # of left_alone; empty: the box's own


class CurtailRequest(Message):
    """`edge curtail`: `device` is a key or a name; `away` false: its normal state for so long."""

    device: Name
    minutes: Annotated[float, Field(gt=0, le=720)]
    away: bool = True


class CurtailAnswer(Message):
    """`until` may be sooner than asked: the device's own limits hold for a hand too."""

    device: str
    name: str
    until: datetime


class DeviceRequest(Message):
    """`edge give-back`: `device` is a key or a name."""

    device: Name


class TriggerRequest(Message):
    """Have the box ask FlexMeasures for schedules itself: by the prices of this sensor, a kWh being
    worth so much (in its currency) to the household."""

    price_sensor_id: int
    worth_per_kwh: Annotated[float, Field(gt=0, lt=1)]
    every_minutes: Annotated[float, Field(ge=15, le=1440)] = 60.0
    horizon_hours: Annotated[float, Field(ge=1, le=48)] = 24.0


class PriceSensor(Message):
    """A sensor of prices that the account sees; `unit` as FlexMeasures writes it (EUR/MWh)."""

    sensor_id: int
    name: str
    unit: str


class PricesView(Message):
    sensors: list[PriceSensor]


class CommandView(Message):
    """One act: who wanted it, from when to when, and what came of it."""

    device: str
    name: str
    origin: str
    why: str
    at: datetime
    until: datetime | None
    outcome: str


class ControlHistory(Message):
    """The newest first."""

    commands: list[CommandView]


class PlanSeries(Message):
    """What FlexMeasures planned beside what was measured, in `unit`; None where there is none."""

    start: datetime
    resolution_s: int
    unit: str
    planned: list[float | None]
    measured: list[float | None]
