"""Power goes at any moment, on a card that reorders and tears what was not flushed."""

import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash.power_cut import cuts, mounted, record
from tests.crash.story import last_whole_commit, live, living_in

CUTS = 120
COMMITS = 150
MEMORY = Path("/dev/shm")


@pytest.fixture
def work() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


async def test_nothing_acknowledged_is_lost_when_power_is_cut(work: Path) -> None:
    async def story(folder: Path, mark: Callable[[int], None]) -> None:
        async with living_in(folder, 0) as box:
            for number in range(COMMITS):
                await live(box, number)
                mark(number)

    writes = await record(work, story)
    kinds: Counter[str] = Counter()
    found: set[int] = set()
    for cut in cuts(writes, CUTS, random.Random(0)):
        with mounted(cut.disk, work) as folder:
            found.add(await last_whole_commit(folder, cut.acked))
        kinds[cut.kind] += 1
    assert len(kinds) == 4
    assert len(found) > CUTS / 3  # the cuts were spread over the story
