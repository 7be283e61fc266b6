"""Says why there is no Z-Wave network while there is none, and hands a found stick to its driver.

udev starts the driver for sticks whose name leaves no doubt, and for the one that was chosen. A
generic serial bridge is asked here whether a Z-Wave controller is behind it; if so it becomes the
chosen one, through the agent's door. While the driver is connected nothing is opened, nor while it
starts for a stick that udev gave it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path

from edge.clock import MILLISECOND, Clock
from edge.devices import stick
from edge.errors import Refused, Unreachable
from edge.privileged import Privileged

log = logging.getLogger(__name__)

DRIVEN = Path("/dev/zwave")  # the driver's stick, as udev names it
LOOK_EVERY = timedelta(seconds=10)
# The driver needs some seconds on a fast machine and a minute on a Pi; before, opening the port
# would only be in its way.
DRIVER_STARTS_WITHIN = timedelta(seconds=90)

type Finder = Callable[[Path | None], Awaitable[list[stick.Outcome]]]


class StickWatch:
    """A part of the agent. `is_connected`: whether the driver is."""

    def __init__(
        self,
        clock: Clock,
        is_connected: Callable[[], bool],
        chosen: Path | None,
        *,
        privileged: Privileged | None = None,
        driven: Path = DRIVEN,
        ports: Callable[[], Sequence[stick.Port]] = stick.ports,
        find: Finder = stick.find,
    ) -> None:
        self._clock = clock
        self._is_connected = is_connected
        self._chosen = chosen
        self._privileged = privileged or Privileged()
        self._driven = driven
        self._ports = ports
        self._find = find
        self._seen: tuple[Path, ...] | None = None
        self._since_ms = 0  # the ports are these, or the driver is gone, since then
        self._handed_over: set[Path] = set()
        self.outcome: stick.Outcome | None = None

    @property
    def code(self) -> str:
        """In a word, for the page: none, starting, busy, deaf, closed or bootloader."""
        match self.outcome:
            case stick.Absent():
                return "none"
            case stick.Busy():
                return "busy"
            case stick.Deaf():
                return "deaf"
            case stick.NoPermission():
                return "closed"
            case stick.Bootloader():
                return "bootloader"
        return "starting"

    @property
    def sentence(self) -> str:
        """What to do, for people; says that it starts where nothing is wrong yet."""
        if self.outcome is None or isinstance(self.outcome, stick.Found):
            return "the Z-Wave driver is starting"
        return self.outcome.sentence

    async def run(self) -> None:
        """Look again and again."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK_EVERY)

    async def look(self) -> None:
        """Look once, and open ports only where that tells something new."""
        if self._is_connected():
            self._seen, self.outcome = None, None
            return
        ports = await asyncio.to_thread(self._ports)
        paths = tuple(port.path for port in ports if port.known is not None)
        if paths != self._seen:
            self._seen, self._since_ms = paths, self._clock.boottime_ms()
            await self._judge_new(ports)
        elif self.outcome is None and self._has_waited():
            self._take(await self._find(self._chosen))

    def _has_waited(self) -> bool:
        waited_ms = self._clock.boottime_ms() - self._since_ms
        return waited_ms > DRIVER_STARTS_WITHIN / MILLISECOND

    async def _judge_new(self, ports: Sequence[stick.Port]) -> None:
        """A stick known by name or choice gets time to start; of others ask those that may be."""
        self.outcome = None
        if self._chosen is not None:
            if not self._chosen.exists():
                self.outcome = stick.Absent(self._chosen)
        elif not self._driven.exists() and not any(port.is_stick_by_name for port in ports):
            self._take(await self._find(None))
            if isinstance(self.outcome, stick.Found):
                await self._hand_over(self.outcome)

    def _take(self, outcomes: Sequence[stick.Outcome]) -> None:
        found = (outcome for outcome in outcomes if isinstance(outcome, stick.Found))
        self.outcome = next(found, outcomes[0])

    async def _hand_over(self, found: stick.Found) -> None:
        """Make it the chosen stick, so that udev starts the driver for it. Once per stick."""
        if found.path in self._handed_over or not self._privileged.is_there():
            return
        self._handed_over.add(found.path)
        log.info("%s", found.sentence)
        try:
            await self._privileged.act("stick", device=str(found.path))
        except (Refused, Unreachable) as problem:
            log.warning("the stick cannot be handed to its driver: %s", problem)
