"""A buffer and an outbox, and ways to restart them."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from edge.store.buffer import Buffer
from edge.store.outbox import Outbox
from tests.house.fake_clock import FakeClock


class Box:
    """The store of one box, its clock, and what can happen to both."""

    def __init__(self, folder: Path, clock: FakeClock, bytes_max: int = 64 << 20) -> None:
        self.path = folder / "buffer.db"
        self.clock = clock
        self._bytes_max = bytes_max

    async def start(self, commit_every: timedelta = timedelta(seconds=30)) -> "Box":
        self.buffer = await Buffer.open(
            self.path, self.clock, commit_every=commit_every, bytes_max=self._bytes_max
        )
        self.outbox = await Outbox.open(self.buffer)
        return self

    async def crash(self) -> None:
        """The process ends here and now; what was not committed is gone."""
        await self.buffer.transaction.database.close()

    async def restart(self) -> None:
        await self.crash()
        await self.start()

    async def reboot(self, *, trusted: bool = False) -> None:
        await self.crash()
        self.clock.reboot(trusted=trusted)
        await self.start()


@pytest.fixture
async def box(folder: Path) -> AsyncIterator[Box]:
    box = await Box(folder, FakeClock()).start()
    yield box
    await box.crash()
