"""A Z-stick in the board's USB port: found, driven, metered, pulled; power cuts and time meanwhile.

The stick is the simulated one of the house: QEMU's USB serial adapter carries its port into the
guest. The driver, the agent and the store are those of the image. The board has no battery clock
and time servers are out of reach, so its first readings have no time yet.

What is simulated of a power cut: most freeze the emulated board at a random moment and copy its
card, which is what a cut then leaves on a card that keeps what it took; the board goes on after it.
Three kill the emulator instead, and the board starts again from what is left. Cards that lose or
mix up what they took are tried in tests/crash.
"""

import asyncio
import json
import os
import random
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from edge.clock import SystemClock
from edge.config import CLOCK_FLOOR
from edge.store.buffer import Buffer
from tests.house.stick import METER, Stick, Value, W
from tests.image import watcher
from tests.image.conftest import Built
from tests.image.machine import Card, Machine
from tests.image.shelf import put, shelf_server, trust
from tests.image.watcher import Status

pytestmark = pytest.mark.asyncio(loop_scope="module")

INTERVIEW_PATIENCE_S = 1800.0
CUTS = int(os.environ.get("POWER_CUTS", "20"))  # a release is tried with 100
CUTS_FOLLOWED_BY_A_START = 3
SEED = 20261123
PASSWORD = "kept on a full card"


class Household:
    """The box with its stick, and the meter's values."""

    def __init__(self, box: Machine, stick: Stick) -> None:
        self.box = box
        self.stick = stick
        self.reported_w = 0.0

    async def begin(self) -> None:
        """Once after each start: wait for the agent, and watch it."""
        await self.do(self.box.wait_until, "systemctl is-active edge-agent.service", 1800)
        await self.do(watcher.begin, self.box)

    async def report(self) -> None:
        """The whole house's power changes by one watt, so that each value is told apart."""
        self.reported_w += 1
        await self.stick.report(Value(METER, 0, W, 1000 + self.reported_w))

    async def status(self) -> Status:
        """What the agent said a moment ago."""
        return await self.do(watcher.status, self.box)

    async def run(self, command: str, patience_s: float = 240) -> str:
        return await self.do(self.box.run, command, patience_s)

    async def do[**P, T](self, blocking: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        """The stick goes on answering while the machine's shell is waited for."""
        return await asyncio.to_thread(blocking, *args, **more)

    async def until(self, holds: Callable[[Status], bool], patience_s: float) -> Status:
        """Ask until it holds; meters keep reporting meanwhile."""
        async with asyncio.timeout(patience_s):
            while not holds(status := await self.status()):
                await self.report()
                await asyncio.sleep(2)
            return status


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(built: Built, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Household]:
    folder = tmp_path_factory.mktemp("stick")
    port = folder / "zstick"
    async with Stick(port) as stick:
        card = Card.flash(built.card, folder / "card.img")
        with Machine(card, folder, stick=port, clock="1970-01-01", names=False) as box:
            house = Household(box, stick)
            await house.begin()
            yield house


def interviewed(status: Status) -> bool:
    return len(status["devices"]) >= 3 and len(status["channels"]) >= 4


def power_of_the_house(status: Status) -> float:
    values = [
        channel["value"]
        for channel in status["channels"]
        if channel["unit"] == "W" and channel["value"] is not None
    ]
    return max(values, default=0.0)


async def metered(house: Household) -> Status:
    """A value that was measured from now on has arrived."""
    await house.report()
    wanted = 1000 + house.reported_w
    return await house.until(lambda now: power_of_the_house(now) >= wanted, 600)


async def test_the_stick_is_found_driven_and_metered(house: Household) -> None:
    await house.until(interviewed, INTERVIEW_PATIENCE_S)
    print("\n  " + (await house.run("systemd-analyze | head -1")))
    listening = await house.run("ss -Hlnt sport = :3000")
    assert "127.0.0.1:3000" in listening
    await metered(house)


async def test_a_pulled_stick_stops_its_driver_and_comes_back(house: Household) -> None:
    driver = "zwave-js-server.service"
    await house.do(house.box.pull_the_stick)
    await house.do(house.box.wait_until, f"! systemctl is-active {driver}")
    await house.do(house.box.plug_the_stick)
    await house.do(house.box.wait_until, f"systemctl is-active {driver}")
    await metered(house)


async def test_power_cuts_lose_nothing_that_was_stored(house: Household, tmp_path: Path) -> None:
    """At random moments: what was acknowledged as stored is on the card that is left."""
    chance = random.Random(SEED)
    started_after = set(chance.sample(range(CUTS), min(CUTS_FOLLOWED_BY_A_START, CUTS)))
    assert (await house.status())["clock"]["trusted"] is False
    for cut in range(CUTS):
        for _ in range(chance.randint(1, 4)):
            await house.report()
        await asyncio.sleep(chance.uniform(0, 5))
        stored = (await house.status())["buffer"]["readings"]
        await asyncio.sleep(chance.uniform(0, 3))
        if cut in started_after:
            house.box.pull_the_plug()
            left = await house.do(house.box.card.part, 4, tmp_path / "cut")
            house.box.power_on()
        else:
            with house.box.frozen():
                left = await house.do(house.box.card.part, 4, tmp_path / "cut")
        found = await house.do(examine, left)
        how = "started again" if cut in started_after else "went on"
        print(f"  cut {cut + 1:3}: {stored} were stored, {found} are there; {how}")
        assert found >= stored
        if cut in started_after:
            await house.begin()
            await metered(house)
    assert (await house.status())["buffer"]["unresolved"] > 0, "no time is made up"


async def test_readings_get_their_time_once_the_clock_is_trusted(
    house: Household, tmp_path: Path
) -> None:
    before = await metered(house)
    assert before["clock"]["trusted"] is False
    certificate = tmp_path / "shelf.pem"
    with shelf_server(tmp_path, certificate) as address:
        await house.do(trust, house.box, certificate, "edge-clock.service")
        await house.do(put, house.box, address, "/usr/lib/edge/release-address")
        await house.run("systemctl start edge-clock.service", 300)
    await house.until(lambda now: now["clock"]["trusted"], 300)
    status = await house.until(lambda now: now["buffer"]["oldest"] is not None, 300)
    # Readings of this start have their time now; those of starts that never knew it are kept.
    print(f"\n  {status['buffer']}")
    assert 0 < status["buffer"]["unresolved"] < status["buffer"]["readings"]


async def test_a_full_card_stops_neither_the_start_nor_the_meters_and_is_said(
    house: Household,
) -> None:
    def is_full(status: Status) -> bool:
        return "the card is full" in json.dumps(status["alarms"])

    def is_free(status: Status) -> bool:
        return not is_full(status)

    # Each reading by itself: else it would take an hour until the file wants more room.
    house.box.add_settings("[buffer]\ncommit_every_s = 0\n")
    await house.run("systemctl restart edge-agent.service")
    await metered(house)
    await house.run("fallocate -l $(df --output=avail -B1 /data | tail -1) /data/fill; sync")
    await house.until(is_full, 1200)
    await metered(house)
    # What a person sets now is kept all the same.
    assert (await house.do(house.box.post, "/claim", password=PASSWORD))[0] == 303
    house.box.pull_the_plug()
    house.box.power_on()
    await house.begin()
    await metered(house)
    # A restart does not make it forget; the lamp asks for a person, too.
    await house.until(is_full, 300)
    await house.do(house.box.wait_until, "grep -qx person /run/edge/lamp", 300)
    await house.do(house.box.wait_for_page)
    assert (await house.do(house.box.post, "/log-in", password=PASSWORD))[0] == 303
    assert not await house.run("systemctl list-units --failed --no-legend --plain --no-pager")
    await house.run("rm /data/fill; sync")
    await house.until(is_free, 600)


def examine(data: Path) -> int:
    """Repair a copy as the first code does, find it sound, and count the readings in it."""
    folder = data.parent / "found"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    repaired = subprocess.run(["e2fsck", "-p", data], check=False, capture_output=True, text=True)
    assert repaired.returncode <= 1, repaired.stdout
    sound = subprocess.run(["e2fsck", "-fn", data], check=False, capture_output=True, text=True)
    assert sound.returncode == 0, sound.stdout
    dump = ["debugfs", "-R", f"rdump /edge {folder}", data]
    subprocess.run(dump, check=True, capture_output=True)
    data.unlink()
    for name in ("buffer.db", "state.db"):
        database = sqlite3.connect(folder / "edge" / name)
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
        database.close()
    return asyncio.run(count(folder / "edge" / "buffer.db"))


async def count(path: Path) -> int:
    buffer = await Buffer.open(path, SystemClock(CLOCK_FLOOR))
    stats = await buffer.stats()
    await buffer.close()
    return stats.stored + stats.dropped_full
