"""What the tests of every family need: an intake that keeps, and a clock that steps."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from edge.model import BoxTime, Channel, Reading
from tests.house.fake_clock import FakeClock

PATIENCE_S = 10.0  # real seconds until a test says that nothing comes


class KeptIntake:
    """Keeps all it is offered, and wakes whoever waits for it."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._changed = asyncio.Event()
        self.channels: dict[str, Channel] = {}
        self.readings: list[Reading] = []
        self.unannounced: list[Reading] = []

    def offer(self, reading: Reading) -> None:
        if reading.channel_key not in self.channels:
            self.unannounced.append(reading)
        self.readings.append(reading)
        self._changed.set()

    def announce(self, channels: Iterable[Channel]) -> None:
        self.channels |= {channel.key: channel for channel in channels}
        self._changed.set()

    def now(self) -> BoxTime:
        return BoxTime(1, self._clock.boottime_ms())

    def of(self, key_part: str) -> list[Reading]:
        return [reading for reading in self.readings if key_part in reading.channel_key]

    def values(self, key_part: str) -> dict[Any, float]:
        """taken_at → the value offered last."""
        return {reading.taken_at: reading.value for reading in self.of(key_part)}

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something offered makes `condition` true."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class SteppedClock(FakeClock):
    """A fake clock for parts that do real input and output between their sleeps."""

    _rested: asyncio.Event | None = None

    async def sleep(self, pause: timedelta) -> None:
        if self._rested:
            self._rested.set()
        await super().sleep(pause)

    async def until_resting(self) -> None:
        """Wait until somebody sleeps on this clock, whatever they have to do before."""
        async with asyncio.timeout(PATIENCE_S):
            while not self._sleepers:
                self._rested = asyncio.Event()
                await self._rested.wait()

    async def pass_by(self, step: timedelta) -> None:
        """Let `step` pass; whoever wakes on the way finishes their work before it goes on."""
        end = self._boottime + step
        await self.until_resting()
        while (due := min(end_of_sleep for end_of_sleep, _ in self._sleepers)) <= end:
            await self.advance(due - self._boottime)
            await self.until_resting()
        await self.advance(end - self._boottime)

    async def oversleep(self, step: timedelta) -> None:
        """Let `step` pass at once: whoever would have woken on the way wakes at its end only."""
        await self.until_resting()
        await self.advance(step)
        await self.until_resting()
