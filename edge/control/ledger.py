"""The record of every switching act, as carry_out needs it (store/commands.py keeps it).

A command is written before its device is touched, and closed only when the device was seen in its
normal state again.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from edge.control.decide import Origin
from edge.model import BoxTime


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


class Ledger(Protocol):
    """Durable when a call returns. Raises StoreBroken where it cannot be."""

    async def intend(self, command: Command) -> Command:
        """Write a new command; returns it with its number."""

    async def update(self, command: Command) -> None:
        """Write its stage, deadline and outcome."""

    async def open_commands(self) -> list[Command]:
        """Every command that is not DONE or REFUSED, oldest first."""

    async def latest(self, limit: int) -> list[Command]:
        """For the page, newest first."""
