from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.control.box import Box


@pytest.fixture
async def box(folder: Path) -> AsyncIterator[Box]:
    box = await Box.open(folder)
    yield box
    await box.crash()
