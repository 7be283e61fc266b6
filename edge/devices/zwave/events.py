"""What happens in the Z-Wave network while a person adds, removes or mends devices.

Typed for the setup page, which shows them as live steps. Numbered, and the last ones kept, so that
a page that was closed and opened again goes on where it was. Texts are the page's business.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, NamedTuple

KEPT_MAX = 200  # a long inclusion with its interview makes about sixty


class SecurityProblem(StrEnum):
    """Why a device joined with less security than it could have."""

    CANCELLED = "cancelled"
    NO_KEYS = "no_keys"
    TIMED_OUT = "timed_out"
    WRONG_PIN = "wrong_pin"
    DEVICE_CANCELLED = "device_cancelled"
    MISMATCH = "mismatch"
    UNKNOWN = "unknown"


class RemovalReason(StrEnum):
    EXCLUDED = "excluded"
    FAILED = "failed"
    REPLACED = "replaced"
    RESET = "reset"
    NOT_JOINED = "not_joined"


@dataclass(frozen=True, slots=True)
class InclusionStarted:
    """The stick listens: press the button on the device. `replaces`: whose place it takes."""

    secure: bool
    replaces: str | None = None


@dataclass(frozen=True, slots=True)
class InclusionStopped:
    """The stick no longer listens for new devices."""


@dataclass(frozen=True, slots=True)
class InclusionFailed:
    """The device was heard but did not join; try again nearer to the stick."""


@dataclass(frozen=True, slots=True)
class DeviceFound:
    """A device joins; security and interview follow."""

    device: str


@dataclass(frozen=True, slots=True)
class SecurityGranted:
    """The keys the device asked for and got."""

    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PinWanted:
    """Enter the five digits that stand before `dsk` on the device's label."""

    dsk: str


@dataclass(frozen=True, slots=True)
class SecurityAborted:
    """No PIN in time, or the device gave up: what follows says with how much security it joined."""


@dataclass(frozen=True, slots=True)
class DeviceAdded:
    """The device belongs to the network now. With a `problem`: remove it and add it again."""

    device: str
    problem: SecurityProblem | None


@dataclass(frozen=True, slots=True)
class InterviewProgress:
    """The driver asks the device what it can do."""

    device: str
    stage: str
    percent: float | None = None


@dataclass(frozen=True, slots=True)
class InterviewFailed:
    """The device did not answer all questions; unless `is_final` the driver tries again."""

    device: str
    reason: str
    is_final: bool


@dataclass(frozen=True, slots=True)
class DeviceReady:
    """The device can be used."""

    device: str
    name: str
    model: str
    measures: bool
    switches: bool


@dataclass(frozen=True, slots=True)
class ExclusionStarted:
    """The stick listens: press the button on the device to remove."""


@dataclass(frozen=True, slots=True)
class ExclusionStopped:
    """The stick no longer listens for devices to remove."""


@dataclass(frozen=True, slots=True)
class ExclusionFailed:
    """The device was heard but did not leave; try again."""


@dataclass(frozen=True, slots=True)
class DeviceRemoved:
    """The device left the network."""

    device: str
    name: str
    reason: RemovalReason


@dataclass(frozen=True, slots=True)
class CodeAccepted:
    """A SmartStart device joins by itself once it is powered. `model` where the code tells it."""

    dsk: str
    model: str | None


@dataclass(frozen=True, slots=True)
class RoutesProgress:
    """Routes of `done` devices are found anew; `failed` ones did not answer."""

    done: int
    failed: int
    total: int
    finished: bool


@dataclass(frozen=True, slots=True)
class BackupStarted:
    """The stick's memory is read; the radio is silent meanwhile."""


@dataclass(frozen=True, slots=True)
class BackupProgress:
    percent: float


@dataclass(frozen=True, slots=True)
class BackupTaken:
    """The stick's memory is kept in `file`."""

    file: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class BackupImpossible:
    """This stick gives no copy of its memory, or not now; all else goes on."""

    reason: str


@dataclass(frozen=True, slots=True)
class RestoreStarted:
    """`file` is written into the stick's memory; pulling the stick now would ruin it."""

    file: str


@dataclass(frozen=True, slots=True)
class RestoreProgress:
    percent: float


@dataclass(frozen=True, slots=True)
class Restored:
    """The stick has the memory of `file` and starts anew with it."""

    file: str


type NetworkEvent = (
    InclusionStarted
    | InclusionStopped
    | InclusionFailed
    | DeviceFound
    | SecurityGranted
    | PinWanted
    | SecurityAborted
    | DeviceAdded
    | InterviewProgress
    | InterviewFailed
    | DeviceReady
    | ExclusionStarted
    | ExclusionStopped
    | ExclusionFailed
    | DeviceRemoved
    | CodeAccepted
    | RoutesProgress
    | BackupStarted
    | BackupProgress
    | BackupTaken
    | BackupImpossible
    | RestoreStarted
    | RestoreProgress
    | Restored
)


class Numbered(NamedTuple):
    """An event and its number, which only grows while the box runs."""

    number: int
    event: NetworkEvent

    def document(self) -> dict[str, Any]:
        """As JSON: number, the event's name and its fields."""
        name = type(self.event).__name__
        return {"number": self.number, "event": name, **asdict(self.event)}


class EventLog:
    """The last events, and whoever follows them. Adding never waits; too slow a follower misses."""

    def __init__(self) -> None:
        self._kept: deque[Numbered] = deque(maxlen=KEPT_MAX)
        self._news = asyncio.Event()
        self.last = 0

    def add(self, event: NetworkEvent) -> None:
        """Number the event and wake every follower."""
        self.last += 1
        self._kept.append(Numbered(self.last, event))
        self._news.set()
        self._news = asyncio.Event()

    def after(self, number: int) -> list[Numbered]:
        """The kept events that came after `number`."""
        return [numbered for numbered in self._kept if numbered.number > number]

    async def follow(self, after: int) -> AsyncIterator[Numbered]:
        """Every event after number `after`, for ever."""
        while True:
            news = self._news
            for numbered in self.after(after):
                after = numbered.number
                yield numbered
            await news.wait()
