"""The messages of the set-up: the FlexMeasures account, the families, and what feeds what."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from edge.contract import FlexMeasuresStatus, Message
from edge.contract.page import Secretive

type ShortText = Annotated[str, Field(max_length=200)]
type Identifier = Annotated[str, Field(min_length=1, max_length=200)]

MAP_ROWS_MAX = 500  # a large house has fifty
TERMS_MAX = 50


# --- FlexMeasures ---------------------------------------------------------------------------------


class AccountRequest(Secretive):
    """Log in to see what the account holds; nothing is changed there yet."""

    url: ShortText
    email: ShortText
    password: Annotated[SecretStr, Field(max_length=500)]
    allow_private: bool = False


class AssetChoice(Message):
    """An asset that can be the box's site. `was_a_box`: another box's, which this one may adopt;
    `still_heard`: that one sends still, so it is offered to stand beside it."""

    asset_id: int
    name: str
    kind: str
    was_a_box: bool = False
    still_heard: bool = False


class Account(Message):
    """A log-in that worked. `may_do_more`: this user can do more than a box needs."""

    url: str
    email: str
    server_version: str
    assets: list[AssetChoice]
    may_create: bool
    may_do_more: bool


class SiteRequest(Message):
    """Pair with this asset, or a new one called `name`; `adopt` what another box left there."""

    asset_id: int | None = None
    name: ShortText | None = None
    adopt: bool = False


class HouseholdView(Message):
    """`timezone` of the house; `is_chosen` False: the machine's own, which nobody chose."""

    timezone: str
    is_chosen: bool


class HouseholdRequest(Message):
    """`only_if_none`: what a browser says of itself gives way to what a person chose."""

    timezone: Annotated[str, Field(min_length=1, max_length=60)]
    only_if_none: bool = False


class PairingView(Message):
    """`account` is a log-in that still lacks its site: the visitor may have closed the browser."""

    status: FlexMeasuresStatus
    account: Account | None


# --- meters ---------------------------------------------------------------------------------------


class FieldView(Message):
    """One thing a family asks (edge/family.py); `value` is what it has, secrets excepted."""

    name: str
    kind: Literal["text", "password", "choice"]
    label: str
    required: bool
    choices: list[str]
    only_if: tuple[str, str] | None
    value: str
    is_kept: bool


class FamilyView(Message):
    """A device family, in use or not. `state` as the supervisor says it."""

    family: str
    in_use: bool
    state: str
    fields: list[FieldView]


class DeviceView(Message):
    """A device for the page. `may` names the doings its family offers for it."""

    key: str
    family: str
    device: str
    name: str
    model: str
    state: str
    last_seen: datetime | None
    is_switch: bool
    is_on: bool | None
    power_w: float | None
    details: dict[str, str | float | bool | None]
    may: list[str]


class StickView(Message):
    """`code` is a key of the page's texts (stick.…), `text` what the box itself says."""

    code: str
    text: str


class GoneDevice(Message):
    """A device that left its network and still has channels; another may take its place."""

    key: str
    name: str


class MetersView(Message):
    families: list[FamilyView]
    devices: list[DeviceView]
    stick: StickView | None
    gone: list[GoneDevice] = Field(default_factory=list)


class FamilyRequest(Secretive):
    """What a person entered for a family; a secret left out keeps the one the box has."""

    values: dict[Identifier, ShortText]
    secrets: dict[Identifier, Annotated[SecretStr, Field(max_length=2000)]]
    chosen: dict[Identifier, list[ShortText]] = Field(default_factory=dict)


class FoundChoice(Message):
    field: str
    value: str
    label: str
    preselected: bool


class FamilyFound(Message):
    """What a family saw with these answers, before they are kept."""

    devices: list[str]
    channels: int
    choices: list[FoundChoice]


# --- the Z-Wave network ---------------------------------------------------------------------------


class NetworkRequest(Message):
    """Something to do with the network; what else it needs depends on `doing`."""

    doing: Literal[
        "add",
        "add_code",
        "remove",
        "remove_failed",
        "replace",
        "rebuild",
        "stop",
        "pin",
        "ping",
        "interview",
        "rename",
        "interval",
        "switch_test",
        "restore_memory",
        "take_over",
    ]
    device: ShortText = ""
    text: Annotated[str, Field(max_length=500)] = ""
    seconds: Annotated[int, Field(ge=0, le=86400)] = 0


class MemoryCopy(Message):
    """A copy of a stick's memory, by the name of its file; `home_id` is its network's."""

    file: str
    home_id: str
    taken_at: datetime


class MemoriesView(Message):
    """The newest first."""

    memories: list[MemoryCopy]


class NetworkStep(Message):
    """One thing that happened: `code` is a key of the page's texts (network.step.…)."""

    code: str
    text: str = ""


class NetworkTask(Message):
    """What the network is doing or has just done. `revision` grows with every change."""

    revision: int
    doing: str
    device: str
    steps: list[NetworkStep]
    waits_for: Literal["", "button", "grant", "pin", "power"]
    asks: list[str]
    left_s: float | None
    percent: float | None
    is_over: bool
    went_well: bool | None
    outcome: str


# --- what feeds what ------------------------------------------------------------------------------


class ChannelView(Message):
    """A channel that could feed a sensor. `repeats`: it shows what another one shows."""

    key: str
    device: str
    name: str
    quantity: str
    unit: str
    direction: str
    value: float | None
    age_s: float | None
    repeats: bool


class TermView(Message):
    channel_key: Identifier
    sign: Literal[1, -1]


class SensorView(Message):
    """A sensor the account has. `refused` says why it cannot be fed, as a key (map.refused.…)."""

    sensor_id: int
    name: str
    unit: str
    resolution_s: int
    refused: str | None


class MapRow(Message):
    """One sensor of the box: what feeds it, and whether it leaves the house."""

    ident: Identifier
    name: ShortText
    send: bool
    sensor_id: int | None
    terms: Annotated[list[TermView], Field(max_length=TERMS_MAX)]
    quantity: str = ""
    unit: str = ""
    value: float | None = None


class MapView(Message):
    rows: list[MapRow]
    channels: list[ChannelView]
    sensors: list[SensorView]


class MapRequest(Message):
    """`twice`: the person wants one meter sent by two paths."""

    rows: Annotated[list[MapRow], Field(max_length=MAP_ROWS_MAX)]
    twice: bool = False
