"""Time as the box knows it: a clock that never jumps, and wall time that may be wrong.

The box has no battery-backed clock. Durations and deadlines run on CLOCK_BOOTTIME, which no one
sets; wall time counts only once it is trusted. Tests hand in a clock of their own
(tests/house/fake_clock.py); nothing else in edge/ may call time.time() or datetime.now().
"""

import asyncio
import ctypes
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

MILLISECOND = timedelta(milliseconds=1)

_STA_UNSYNC = 0x0040
_TIME_ERROR = 5


class Clock(Protocol):
    """What every part asks the time of."""

    def boottime_ms(self) -> int:
        """Milliseconds since the kernel started, sleep included; never set, never steps back."""

    def wall_now(self) -> datetime:
        """The wall clock as it stands, in UTC. Only meaningful where is_trusted()."""

    def is_trusted(self) -> bool:
        """Whether wall_now() may be written onto readings that leave the house."""

    def boot_id(self) -> str:
        """The kernel's name for this boot."""

    async def sleep(self, pause: timedelta) -> None:
        """Wait on CLOCK_BOOTTIME."""


class SystemClock:
    """The machine's own clock. `trust_always` is for the simulated house; no image carries it."""

    def __init__(self, floor: datetime, *, trust_always: bool = False) -> None:
        self._floor = floor
        self._trust_always = trust_always
        boot_id = Path("/proc/sys/kernel/random/boot_id")
        self._boot_id = boot_id.read_text(encoding="ascii").strip()

    def boottime_ms(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    def wall_now(self) -> datetime:
        return datetime.now(UTC)

    def is_trusted(self) -> bool:
        return self._trust_always or (self.wall_now() >= self._floor and kernel_is_synchronised())

    def boot_id(self) -> str:
        return self._boot_id

    async def sleep(self, pause: timedelta) -> None:
        await asyncio.sleep(pause.total_seconds())


def own_zone() -> str:
    """The time zone of the house: as somebody chose it, else as the machine is set to."""
    _, _, machine = str(Path("/etc/localtime").resolve()).partition("/zoneinfo/")
    return os.environ.get("TZ", "").removeprefix(":") or machine or "UTC"


def use_zone(zone: str) -> None:
    """Let "local" mean this zone from now on, in this process."""
    os.environ["TZ"] = zone
    time.tzset()


def kernel_is_synchronised() -> bool:
    """Whether the kernel says that a time server disciplines its clock (adjtimex(2))."""
    timex = (ctypes.c_long * 64)()  # larger than struct timex; modes = 0 only reads
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    status_offset = 5 * ctypes.sizeof(ctypes.c_long)  # modes (padded), offset, freq, 2 errors
    status = ctypes.c_int.from_buffer(timex, status_offset).value
    return bool(state not in (-1, _TIME_ERROR) and not status & _STA_UNSYNC)
