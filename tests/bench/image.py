"""The card in the emulator: its size, how soon it serves, what it weighs, what it writes.

Wants `make image FLAVOUR=debian` first. Beside it stands the bare base: the same Debian, kernel and
first code with the simplest web server and nothing of the box; with a stick also the same driver
and the shortest program that reads (tests/bench/bare_base). Its page is timed without the stick,
the box's with it. BENCH_MINUTES (20) is how long the card's writes are counted, with stick, five
nodes, paired, nobody looking.
"""

import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
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
        with HouseOnAStick(Path(folder)) as house:
            bare = bare_base(work, Path(folder), house.port)
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
class Start:
    """From power on, by the clock; and what the emulator computed until the page, which depends
    less on what else this machine does."""

    page_s: float
    page_processor_s: float
    reading_s: float


def bare_base(work: Path, folder: Path, stick: Path) -> list[Start]:
    """Its first and a later start."""
    card = folder / "bare.img"
    command = [PROJECT / "tests/bench/bare_base", work / "root", work / "system", card]
    subprocess.run(command, check=True, cwd=PROJECT)
    with Machine(Card(card).copy(folder / "page.img"), folder / "page") as bare:
        pages = [(bare.wait_for_page(), bare.processor_s()) for _ in each_start(bare)]
    with Machine(Card(card), folder / "reading", stick=stick) as bare:
        readings = [bare_reading_s(bare) for _ in each_start(bare)]
    return [Start(*page, reading) for page, reading in zip(pages, readings, strict=True)]


def each_start(machine: Machine) -> Iterator[str]:
    yield "first"
    machine.run("sync")
    machine.pull_the_plug()
    machine.power_on()
    yield "later"


def bare_reading_s(bare: Machine) -> float:
    bare.wait_until("test -s /run/reading", PATIENCE_S)
    stamp, uptime, _ = bare.run("cat /run/reading; echo; cat /proc/uptime").split()
    return time.monotonic() - bare.started_s - (float(uptime) - float(stamp))


def starts(box: Machine, bare: list[Start]) -> None:
    """Its own, and how they compare."""
    for which, alone in zip(each_start(box), bare, strict=True):
        page_s, processor_s = box.wait_for_page(), box.processor_s()
        reading_s = first_reading_s(box)
        _compare(f"{which} start, page", page_s, alone.page_s, "s, must 1.3")
        _compare("  computed until then", processor_s, alone.page_processor_s, "s of processor")
        _compare(f"{which} start, reading", reading_s, alone.reading_s, "s, must 1.3")


def _compare(what: str, box: float, alone: float, unit: str) -> None:
    show(f"{what:24}{box:6.1f}, the bare base {alone:6.1f}: {box / alone:.2f} times ({unit})")


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
