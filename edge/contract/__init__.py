"""The messages between the agent and those who ask it: the setup page and the command line.

Typed once, used by both sides (HTTP + JSON on a Unix socket). Times are UTC; whatever a number
measures stands in its name. A message never holds a secret on its way out of the agent.
"""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Message(BaseModel):
    """Base of every message: unknown fields are refused, so that both sides speak the same."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Problem(Message):
    """An answer that says no: `code` for programs, `text` for people."""

    code: str
    text: str


class PartStatus(Message):
    name: str
    state: str
    since_s: float


class DeviceStatus(Message):
    key: str
    name: str
    model: str
    state: str
    last_seen: datetime | None
    is_switch: bool
    is_on: bool | None
    details: dict[str, str | float | bool | None]


class ChannelStatus(Message):
    """`value` in `unit`; `age_s` since it was taken; `sensor_id` where it feeds FlexMeasures."""

    key: str
    name: str
    unit: str
    value: float | None
    age_s: float | None
    sensor_id: int | None
    set_aside: int
    energy_deviation_percent: float | None


class SetAsideStatus(Message):
    """A reading that was not believed, and why."""

    channel: str
    value: float
    reason: str
    at: datetime | None


class ReadingsStatus(Message):
    """What became of the readings since the start. `believed` at once or because a second one
    agreed (`confirmed`); `unknown`: of channels that nobody announced."""

    believed: int
    confirmed: int
    counter_resets: int
    unknown: int


class BufferStatus(Message):
    """`readings` are committed; `uncommitted` are in memory still."""

    readings: int
    stored_since_start: int
    bytes_used: int
    bytes_max: int
    oldest: datetime | None
    uncommitted: int
    oldest_uncommitted_s: float
    dropped: int
    damaged_groups: int
    unresolved: int


class ClockStatus(Message):
    trusted: bool
    wall: datetime
    uptime_s: float


class FlexMeasuresStatus(Message):
    """`advice` says what a person should do about `last_error`."""

    paired: bool
    url: str | None
    paired_as: str | None
    server_version: str | None
    site: str | None
    sensors: int
    last_accepted: datetime | None
    slots_accepted: int
    slots_waiting: int
    slots_rejected: int
    slots_dropped: int
    slots_per_minute: float
    oldest_waiting: datetime | None
    catching_up_percent: float | None
    done_by: datetime | None
    last_error: str | None
    advice: str | None


class RejectedSlotStatus(Message):
    sensor_id: int
    name: str = ""
    unit: str = ""
    start: datetime
    value: float
    reason: str


class SteeredStatus(Message):
    """A controllable device now. `state`: normal, leaving (told, not yet seen there), away,
    returning (told, not yet seen back). `by`: hand, limit, schedule or nobody. `why` is a key,
    `why_text` the sentence. `next_away`: whether it then leaves its normal state."""

    key: str
    name: str
    state: Literal["normal", "leaving", "away", "returning"]
    normal_on: bool
    by: str | None
    why: str
    why_text: str
    until: datetime | None
    next_at: datetime | None
    next_away: bool | None
    next_by: str | None
    hand_until: datetime | None
    hand_at_device: bool
    is_box_timed: bool
    away_longest_minutes: float
    trouble: str


class SwitchedStatus(Message):
    """One act of late: by whose wish, from when to when (`until` is what was planned while it is
    away), and in words what came of it."""

    key: str
    name: str
    by: str
    at: datetime
    until: datetime
    outcome: str


class ControlStatus(Message):
    """`flexmeasures_silent_s` against `lease_s`: where it is longer, plans count no more.
    `switched`: the newest acts, the newest first."""

    devices: list[SteeredStatus]
    switched: list[SwitchedStatus] = Field(default_factory=list)
    flexmeasures_silent_s: float
    lease_s: float
    notes: list[str]


class Status(Message):
    """Everything `edge status --json` prints."""

    name: str
    version: str
    release: str
    parts: list[PartStatus]
    alarms: dict[str, str]
    stick: str | None
    devices: list[DeviceStatus]
    channels: list[ChannelStatus]
    set_aside: list[SetAsideStatus]
    readings: ReadingsStatus
    buffer: BufferStatus
    clock: ClockStatus
    flexmeasures: FlexMeasuresStatus
    rejected: list[RejectedSlotStatus]
    counts: dict[str, int]
    control: ControlStatus | None = None


class PairRequest(Message):
    """Pair the box with a FlexMeasures account. `site` names the site asset to find or create."""

    url: str
    email: str
    password: str
    site: str | None = None
    site_asset_id: int | None = None
    allow_private: bool = False


class PairAnswer(Message):
    server_version: str
    site_asset_id: int
    sensors: int


class Done(Message):
    """It was done. `text` says what, for people."""

    text: str = ""
