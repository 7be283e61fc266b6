"""What the image tests share: the built tree, card and bundle of one flavour."""

import fcntl
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.image.machine import Card, Machine, Moment

PROJECT = Path(__file__).parents[2]
SHARED_START = "IMAGE_TESTS_SHARED_START"  # a folder: modules run at a time share one first start


@dataclass(frozen=True)
class Built:
    """What `make image` left."""

    flavour: str
    work: Path
    dist: Path

    @property
    def root(self) -> Path:
        """The tree that became root.squashfs."""
        return self.work / "root"

    @property
    def system(self) -> Path:
        """The files of one system partition."""
        return self.work / "system"

    @property
    def card(self) -> Path:
        return self.work / "flexbox.img"

    def handed_out(self, ending: str) -> Path:
        found = list(self.dist.glob(f"flexbox-{self.flavour}-*.{ending}"))
        assert len(found) == 1, f"dist/ holds {len(found)} files that end in .{ending}"
        return found[0]

    def step(self, name: str, *arguments: str | Path, **more: str) -> subprocess.CompletedProcess:
        """Run one step of image/step/ as the build does."""
        return subprocess.run(
            [PROJECT / "image" / "step" / name, *arguments],
            env={
                **os.environ,
                "FLAVOUR": self.flavour,
                "WORK": str(self.work),
                "DIST": str(self.dist),
                **more,
            },
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.hookimpl(trylast=True)
def pytest_runtest_logstart() -> None:
    """Ends the line with the test's name: what runs is to be seen while it runs."""
    print(flush=True)


@pytest.fixture(scope="session")
def built() -> Built:
    flavour = os.environ.get("FLAVOUR", "debian")
    work = Path(os.environ.get("WORK") or PROJECT / "build" / "image" / flavour)
    dist = Path(os.environ.get("DIST") or PROJECT / "dist")
    assert (work / "flexbox.img").exists(), f"build it first: make image FLAVOUR={flavour}"
    return Built(flavour, work, dist)


@pytest.fixture(scope="session")
def started(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Moment:
    """A fresh card's first start, kept at the moment when all of it runs: others go on from it."""
    shared = os.environ.get(SHARED_START)
    folder = Path(shared) if shared else tmp_path_factory.mktemp("started")
    folder.mkdir(exist_ok=True)
    kept = folder / "moment"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if kept.exists():
            return Moment(kept)
        with Machine(Card.flash(built.card, folder / "card.img"), folder) as machine:
            print(f"\n  first start: page after {machine.wait_for_page():.0f} s")
            machine.settle()
            machine.moment(folder / "new").folder.rename(kept)
        return Moment(kept)
