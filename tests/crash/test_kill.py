"""kill −9 in mid-write, again and again, in one life of the box."""

import asyncio
import random
import subprocess
import sys
import time
from pathlib import Path

from tests.crash.story import last_whole_commit

KILLS = 40
COMMITS_MAX = 5
MOMENT_S = 0.02  # about two commits: the kill falls anywhere in them


def test_killed_forty_times_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    chance = random.Random(0)
    last = -1
    for _ in range(KILLS):
        acked = _live_and_die(tmp_path, last + 1, chance)
        last = asyncio.run(last_whole_commit(tmp_path, max(acked, last)))
    assert last >= KILLS - 1


def _live_and_die(folder: Path, first: int, chance: random.Random) -> int:
    """Live the story until killed; return the last commit that was acknowledged."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.crash.story", str(folder), str(first)],
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout
        lines = [child.stdout.readline() for _ in range(chance.randint(1, COMMITS_MAX))]
        time.sleep(chance.uniform(0, MOMENT_S))
        child.kill()
        lines += child.stdout.readlines()
    whole = [line for line in lines if line.startswith("acked ") and line.endswith("\n")]
    return int(whole[-1].split()[1]) if whole else first - 1
