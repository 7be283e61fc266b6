"""The record of every switching act, as carry_out needs it (store/commands.py keeps it).

A command is written before its device is touched, and closed only when the device was seen in its
normal state again.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from edge.control.decide import Origin
from edge.model import BoxTime
from edge.store.commands import CommandTable

_OPEN_MAX = 1000  # one per device


class Stage(StrEnum):
    """How far a command got."""

    INTENDED = "intended"  # committed; the device may or may not have heard it
    OFF = "off"  # the device was seen off
    REVERTING = "reverting"  # its time is over; it has not been seen on yet
    DONE = "done"  # seen in its normal state again
    REFUSED = "refused"  # never switched


@dataclass(frozen=True, slots=True)
class Command:
    """One device off for a while. `command_id` only grows; a lower one never acts on its device.

    `deadline` is when it must come back, on the clock nobody sets; `off_until` the same as wall
    time, for the time after a reboot. `hold_s` > 0: the device's own timer ends it as well.
    """

    command_id: int
    device_key: str
    origin: Origin
    why: str
    issued_at: datetime
    off_until: datetime
    deadline: BoxTime
    hold_s: int
    stage: Stage
    outcome: str = ""


class Ledger:
    """The commands of one box, in store/commands.py. Durable when a call returns.

    Raises StoreBroken or sqlite3.Error where the card takes nothing: then nothing may be switched
    off.
    """

    def __init__(self, table: CommandTable) -> None:
        self._table = table

    async def intend(self, command: Command) -> Command:
        """Write a new command; returns it with its number."""
        number = await self._table.add(command.device_key, _content(command))
        return replace(command, command_id=number)

    async def update(self, command: Command) -> None:
        """Write its stage, deadline and outcome."""
        is_open = command.stage not in (Stage.DONE, Stage.REFUSED)
        await self._table.change(command.command_id, _content(command), is_open=is_open)

    async def open_commands(self) -> list[Command]:
        """Every command that is not DONE or REFUSED, oldest first."""
        rows = await self._table.rows(only_open=True, limit=_OPEN_MAX)
        return [_command(number, content) for number, content in reversed(rows)]

    async def latest(self, limit: int) -> list[Command]:
        """For the page, newest first."""
        rows = await self._table.rows(only_open=False, limit=limit)
        return [_command(number, content) for number, content in rows]


def _content(command: Command) -> dict[str, Any]:
    return {
        "device": command.device_key,
        "origin": command.origin,
        "why": command.why,
        "issued_at": command.issued_at.isoformat(),
        "off_until": command.off_until.isoformat(),
        "deadline": list(command.deadline),
        "hold_s": command.hold_s,
        "stage": command.stage,
        "outcome": command.outcome,
    }


def _command(number: int, content: dict[str, Any]) -> Command:
    return Command(
        command_id=number,
        device_key=content["device"],
        origin=Origin(content["origin"]),
        why=content["why"],
        issued_at=datetime.fromisoformat(content["issued_at"]),
        off_until=datetime.fromisoformat(content["off_until"]),
        deadline=BoxTime(*content["deadline"]),
        hold_s=content["hold_s"],
        stage=Stage(content["stage"]),
        outcome=content["outcome"],
    )
