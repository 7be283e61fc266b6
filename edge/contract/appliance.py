"""The messages about the box as a machine: which system it runs, how it is renewed, its Wi-Fi.

`why` and `busy` are keys of the page's texts (updates.…, wifi.…).
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from edge.contract import Message
from edge.contract.page import Secretive


class UpdateResult(Message):
    """What came of the last update. `text` is the box's own sentence; `at` when it was noted."""

    release: str
    outcome: Literal["installed", "gone_back", "refused", "trying"]
    text: str
    at: datetime | None


class UpdatesView(Message):
    """`possible` is False on a machine without two systems; `signer` the print of the one key
    whose updates are taken. `busy` is what goes on now; `held_back`: a device is away."""

    possible: bool
    release: str
    board: str
    supported_until: str
    signer: str
    is_development: bool
    busy: Literal["", "handed_in", "waiting", "copying", "formatting", "writing", "restarting"]
    coming: str
    percent: int
    held_back: bool
    nightly_offered: bool
    nightly: bool
    result: UpdateResult | None


class NightlyRequest(Message):
    """Whether newer systems are installed at night by themselves."""

    on: bool


class WifiNetwork(Message):
    """A network in reach. `signal_percent` as NetworkManager counts it."""

    network: str
    signal_percent: int
    is_open: bool
    is_joined: bool


class WifiView(Message):
    """`there` is False on a box without Wi-Fi; `why` says why no network could be listed."""

    there: bool
    networks: list[WifiNetwork]
    kept: bool
    why: str = ""


class WifiRequest(Secretive):
    """Join this network; without a password it must be an open one."""

    network: Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[^\x00-\x1f]*$")]
    password: Annotated[SecretStr, Field(max_length=63)] = SecretStr("")
    hidden: bool = False
