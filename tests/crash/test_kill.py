"""kill −9 in mid-write, again and again, in one life of the box."""

import asyncio
import random
import subprocess
import sys
import time
from pathlib import Path

from tests.crash.story import last_whole_commit

KILLS = 40
LONGEST_LIFE_S = 0.12


def test_killed_forty_times_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    chance = random.Random(0)
    last = -1
    for _ in range(KILLS):
        acked = _live_and_die(tmp_path, last + 1, chance.uniform(0, LONGEST_LIFE_S))
        last = asyncio.run(last_whole_commit(tmp_path, max(acked, last)))
    assert last > KILLS  # it lived long enough to be worth killing


def _live_and_die(folder: Path, first: int, life_s: float) -> int:
    """Live the story until killed; return the last commit that was acknowledged."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.crash.story", str(folder), str(first)],
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout
        lines = [child.stdout.readline()]
        time.sleep(life_s)
        child.kill()
        lines += child.stdout.readlines()
    whole = [line for line in lines if line.startswith("acked ") and line.endswith("\n")]
    return int(whole[-1].split()[1]) if whole else first - 1
