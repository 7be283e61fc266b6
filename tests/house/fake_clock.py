"""A clock that moves only when told: the tests' stand-in for edge.clock.SystemClock."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta


class FakeClock:
    """Starts at `wall`, CLOCK_BOOTTIME 0. `sleep` wakes when advance() has passed its end."""

    def __init__(
        self, wall: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC), *, trusted: bool = True
    ) -> None:
        self._offset = wall - datetime.fromtimestamp(0, UTC)
        self._boottime = timedelta(0)
        self._boots = itertools.count(1)
        self._boot = next(self._boots)
        self._sleepers: list[tuple[timedelta, asyncio.Event]] = []
        self.trusted = trusted

    def boottime_ms(self) -> int:
        return self._boottime // timedelta(milliseconds=1)

    def wall_now(self) -> datetime:
        return datetime.fromtimestamp(0, UTC) + self._offset + self._boottime

    def is_trusted(self) -> bool:
        return self.trusted

    def boot_id(self) -> str:
        return f"boot-{self._boot}"

    async def sleep(self, pause: timedelta) -> None:
        if pause <= timedelta(0):
            await asyncio.sleep(0)
            return
        woken = asyncio.Event()
        sleeper = (self._boottime + pause, woken)
        self._sleepers.append(sleeper)
        try:
            await woken.wait()
        finally:
            if sleeper in self._sleepers:  # cancelled: nobody is left to wake
                self._sleepers.remove(sleeper)

    async def advance(self, step: timedelta) -> None:
        """Let time pass; every sleeper due on the way wakes in its order."""
        end = self._boottime + step
        while due := [s for s in self._sleepers if s[0] <= end]:
            first = min(due, key=lambda sleeper: sleeper[0])
            self._sleepers.remove(first)
            self._boottime = max(self._boottime, first[0])
            first[1].set()
            await self.settle()
        self._boottime = end
        await self.settle()

    def pass_by(self, step: timedelta) -> None:
        """Time that somebody spends without sleeping: nobody wakes of it."""
        self._boottime += step

    async def settle(self) -> None:
        """Let every task that can run do so."""
        for _ in range(20):
            await asyncio.sleep(0)

    def step_wall(self, step: timedelta) -> None:
        """Somebody sets the wall clock; CLOCK_BOOTTIME does not notice."""
        self._offset += step

    def reboot(self, off_for: timedelta = timedelta(minutes=1), *, trusted: bool = False) -> None:
        """Power is cut and comes back: a new boot id, CLOCK_BOOTTIME from 0, sleepers gone."""
        self._offset += self._boottime + off_for
        self._boottime = timedelta(0)
        self._boot = next(self._boots)
        self._sleepers.clear()
        self.trusted = trusted
