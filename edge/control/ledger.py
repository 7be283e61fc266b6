"""The record of every switching act, as carry_out needs it (store/commands.py keeps it).

A command is written before its device is touched, and closed only when the device was seen in its
normal state again.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from edge.model import Origin
from edge.store.commands import CommandTable, Row

_OPEN_MAX = 1000  # one per device


class Deadline(NamedTuple):
    """A moment on CLOCK_BOOTTIME of the boot with that id; in another boot it means nothing."""

    boot_id: str
    boottime_ms: int


class Stage(StrEnum):
    """How far a command got."""

    INTENDED = "intended"  # committed; the device may or may not have heard it
    AWAY = "away"  # the device was seen away from its normal state
    RETURNING = "returning"  # its time is over; it has not been seen back yet
    DONE = "done"  # seen in its normal state again
    REFUSED = "refused"  # never switched


@dataclass(frozen=True, slots=True)
class Command:
    """One device away from its normal state for a while. `command_id` only grows.

    `deadline` is when it must come back, on the clock nobody sets; `away_until` the same as wall
    time, for the time after a reboot. `hold_s` > 0: the device's own timer ends it as well.
    `issued` and `issued_at` say when it began, on both clocks. `why` and `outcome` are keys of the
    page's texts or sentences of the device.
    """

    command_id: int
    device_key: str
    origin: Origin
    normal_on: bool
    issued: Deadline
    issued_at: datetime
    deadline: Deadline
    away_until: datetime
    hold_s: int
    stage: Stage
    outcome: str = ""
    closed_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        return self.stage not in (Stage.DONE, Stage.REFUSED)


class Ledger:
    """The commands of one box, in store/commands.py. Raises NotKept."""

    def __init__(self, table: CommandTable) -> None:
        self._table = table

    async def intend(self, command: Command) -> Command:
        """Write a new command; returns it with its number. It is on the card then."""
        number = await self._table.add(command.device_key, _content(command))
        return replace(command, command_id=number)

    def numbered(self, command: Command) -> Command:
        """A command that is written behind, with update(): one that only brings back."""
        return replace(command, command_id=self._table.next_number())

    @property
    def is_set_back(self) -> bool:
        """Whether the file was damaged and its last good copy knows older commands only; until
        the first update()."""
        return self._table.is_set_back

    async def update(self, *commands: Command) -> None:
        """Write stage, deadline and outcome of each, together."""
        await self._table.change(*(_row(command) for command in commands))

    async def open_commands(self) -> list[Command]:
        """Every command that is not DONE or REFUSED, oldest first."""
        rows = await self._table.rows(only_open=True, limit=_OPEN_MAX)
        return [_command(number, content) for number, content in reversed(rows)]

    async def latest(self, limit: int) -> list[Command]:
        """For the page, newest first."""
        rows = await self._table.rows(only_open=False, limit=limit)
        return [_command(number, content) for number, content in rows]


def _row(command: Command) -> Row:
    return Row.of(
        command.command_id, command.device_key, _content(command), is_open=command.is_open
    )


def _content(command: Command) -> dict[str, Any]:
    return {
        "device": command.device_key,
        "origin": command.origin,
        "normal_on": command.normal_on,
        "issued": list(command.issued),
        "issued_at": command.issued_at.isoformat(),
        "deadline": list(command.deadline),
        "away_until": command.away_until.isoformat(),
        "hold_s": command.hold_s,
        "stage": command.stage,
        "outcome": command.outcome,
        "closed_at": command.closed_at.isoformat() if command.closed_at else None,
    }


def _command(number: int, content: dict[str, Any]) -> Command:
    closed_at = content["closed_at"]
    return Command(
        command_id=number,
        device_key=content["device"],
        origin=Origin(content["origin"]),
        normal_on=content["normal_on"],
        issued=Deadline(*content["issued"]),
        issued_at=datetime.fromisoformat(content["issued_at"]),
        deadline=Deadline(*content["deadline"]),
        away_until=datetime.fromisoformat(content["away_until"]),
        hold_s=content["hold_s"],
        stage=Stage(content["stage"]),
        outcome=content["outcome"],
        closed_at=datetime.fromisoformat(closed_at) if closed_at else None,
    )
