"""The messages of every day after: what is live, what happened, and looking after the box."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, SecretStr

from edge.contract import Message
from edge.contract.page import AnyPassword, Secretive


class LiveRow(Message):
    """One row of the map now. `today_kwh` since local midnight; None where it cannot be said."""

    ident: str
    name: str
    quantity: str
    unit: str
    value: float | None
    age_s: float | None
    today_kwh: float | None
    sends: bool


class LiveView(Message):
    """`last_accepted` is FlexMeasures' word, not ours: the set-up is done once it is there."""

    rows: list[LiveRow]
    waiting: int
    oldest_waiting: datetime | None
    last_accepted: datetime | None
    accepted: int
    rejected: int
    catching_up_percent: float | None
    done_by: datetime | None = None
    problem: str | None
    advice: str | None


class Series(Message):
    """Values at equal distances from `start`, in `unit`; None where there is none."""

    start: datetime
    resolution_s: int
    unit: str
    values: list[float | None]


class EventView(Message):
    at: datetime
    kind: str
    text: str
    detail: dict[str, str]


class EventsView(Message):
    events: list[EventView]


class LogLines(Message):
    """The newest lines of the agent's log, oldest first."""

    lines: list[str]


class BackupRequest(Secretive):
    """With a passphrase the backup holds the secrets too, sealed; without one it holds none."""

    passphrase: Annotated[SecretStr, Field(max_length=200)] = SecretStr("")


class RestoreAnswer(Message):
    """What a backup brought back."""

    documents: int
    secrets: int
    taken_at: datetime


class ConfirmRequest(Secretive):
    """The password once more, before something that cannot be undone."""

    password: AnyPassword
