from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.store.buffer import Buffer
from edge.store.outbox import Outbox
from tests.house.fake_clock import FakeClock
from tests.unit.uplink.sender import NOON, Box, FakeServer


@pytest.fixture
async def box(folder: Path) -> AsyncIterator[Box]:
    clock = FakeClock(NOON)
    buffer = await Buffer.open(folder / "buffer.db", clock)
    yield Box(buffer, await Outbox.open(buffer), clock)
    await buffer.close()


@pytest.fixture
def server(box: Box) -> FakeServer:
    assert box.server is not None
    return box.server
