"""The card in the emulator: its size, how soon it serves, what it weighs, what it writes.

Wants `make image FLAVOUR=debian` first. Beside it stands the bare base: the same Debian, kernel and
first code with the simplest web server and nothing of the box. BENCH_MINUTES (20) is how long the
card's writes are counted, with stick, five nodes, paired, nobody looking.
"""

import asyncio
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.house.flexmeasures import FlexMeasuresServer
from tests.image import watcher
from tests.image.conftest import PROJECT
from tests.image.home import (
    NODES,
    THIS_MACHINE,
    HouseOnAStick,
    Owner,
    TimeServer,
    port_of_a_web_server,
)
from tests.image.machine import Card, Machine
from tests.image.weight import told

MINUTES = float(os.environ.get("BENCH_MINUTES", "20"))
PATIENCE_S = 1200.0
SECTOR_BYTES = 512
PAIR = """
import sys
from pathlib import Path
from edge.cli.door import ask
from edge.contract import Done, PairAnswer, PairRequest
url, email, password = sys.argv[1:]
agent = Path("/run/edge/agent.sock")
asked = PairRequest(url=url, email=email, password=password, site="Home", allow_private=True)
print(ask(agent, "POST", "/flexmeasures/pair", PairAnswer, asked))
ask(agent, "POST", "/flexmeasures/map", Done)
"""


async def main() -> None:
    flavour = os.environ.get("FLAVOUR", "debian")
    work = Path(os.environ.get("WORK") or PROJECT / "build" / "image" / flavour)
    dist = Path(os.environ.get("DIST") or PROJECT / "dist")
    if not (work / "flexbox.img").exists():
        raise RuntimeError(f"build it first: make image FLAVOUR={flavour}")
    await asyncio.to_thread(measure, work, dist)


def measure(work: Path, dist: Path) -> None:
    for card in dist.glob("flexbox-*.img.zst"):
        show(f"card {card.stat().st_size / 1e6:.0f} MB compressed (must 280, goal 180)")
    with tempfile.TemporaryDirectory(dir=work) as folder:
        bare = bare_base(work, Path(folder))
        with (
            TimeServer(),
            FlexMeasuresServer(port=port_of_a_web_server()) as server,
            HouseOnAStick(Path(folder)) as house,
        ):
            card = Card.flash(work / "flexbox.img", Path(folder) / "card.img")
            with Machine(card, Path(folder) / "box", stick=house.port) as box:
                starts(box, bare)
                pair(box, server)
                weigh(box)
                count_writes(box)


def show(line: str) -> None:
    print(line, flush=True)


# --- time -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Until:
    """Power to page: by the clock, and what the emulator computed (less shaken by load)."""

    seconds: float
    processor_s: float


def page_of(box: Machine) -> Until:
    return Until(box.wait_for_page(), box.processor_s())


def bare_base(work: Path, folder: Path) -> tuple[Until, Until]:
    """Its first and a later start."""
    out = folder / "bare.img"
    command = [PROJECT / "tests/bench/bare_base", work / "root", work / "system", out]
    subprocess.run(command, check=True, cwd=PROJECT)
    with Machine(Card(out), folder / "bare") as bare:
        first = page_of(bare)
        bare.pull_the_plug()
        bare.power_on()
        return first, page_of(bare)


def starts(box: Machine, bare: tuple[Until, Until]) -> None:
    """Its own, and how they compare."""
    for which, alone in zip(("first", "later"), bare, strict=True):
        if which == "later":
            box.run("sync")
            box.pull_the_plug()
            box.power_on()
        page = page_of(box)
        reading_s = first_reading_s(box)
        times = f"{page.seconds / alone.seconds:.2f} and {reading_s / alone.seconds:.2f}"
        show(
            f"{which} start: page after {page.seconds:.0f} s, reading after {reading_s:.0f} s:"
            f" {times} times the bare base's {alone.seconds:.0f} s (must 1.3)"
        )
        show(
            f"  the emulator computed {page.processor_s:.0f} s until the page, for the bare base"
            f" {alone.processor_s:.0f} s: {page.processor_s / alone.processor_s:.2f} times that"
        )


def first_reading_s(box: Machine) -> float:
    """When the first value was in memory, told by its age."""
    watcher.begin(box)
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        ages = [channel["age_s"] for channel in watcher.status(box)["channels"]]
        if known := [age for age in ages if age is not None]:
            return time.monotonic() - max(known) - box.started_s
        time.sleep(1)
    raise RuntimeError("no reading came")


# --- weight and writes ----------------------------------------------------------------------------


def pair(box: Machine, server: FlexMeasuresServer) -> None:
    owner = Owner(server, server.make_account())
    box.run(
        "mkdir -p /run/systemd/timesyncd.conf.d && "
        f"printf '[Time]\\nNTP={THIS_MACHINE}\\n' >/run/systemd/timesyncd.conf.d/home.conf && "
        "systemctl restart systemd-timesyncd.service"
    )
    box.wait_until("test -e /run/systemd/timesync/synchronized", PATIENCE_S)
    end = time.monotonic() + PATIENCE_S
    devices = ["alive"] * (NODES - 1)
    while [each["state"] for each in watcher.status(box)["devices"]] != devices:
        if time.monotonic() > end:
            raise RuntimeError("the meters were not interviewed")
        time.sleep(5)
    url = f"http://{THIS_MACHINE}:{server.port}"
    account = owner.account
    box.run(f"cat >/run/pair.py <<'P'\n{PAIR}\nP")
    box.run(f"/opt/edge/bin/python -OO /run/pair.py {url} {account.email} {account.password}", 300)


def weigh(box: Machine) -> None:
    watcher.end(box)
    box.run("systemctl stop edge-setup.service")  # as it does by itself when idle
    time.sleep(60)
    show(told(box))
    show("  (guest: must 220, goal 180)")


def count_writes(box: Machine) -> None:
    before = written_bytes(box)
    time.sleep(MINUTES * 60)
    after = written_bytes(box)
    per_hour = (after - before) / MINUTES * 60
    show(f"card: {per_hour / 1e6:.1f} MB an hour written by the whole system ({MINUTES:g} minutes)")


def written_bytes(box: Machine) -> int:
    return int(box.run("awk '{print $7}' /sys/block/vda/stat")) * SECTOR_BYTES
