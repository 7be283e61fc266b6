"""A Z-stick in the board's USB port: found, driven, metered, pulled; and the power cut meanwhile.

The stick is the simulated one of the house: QEMU's USB serial adapter carries its port into the
guest. The driver, the agent and the store are those of the image.
"""

import asyncio
import json
import os
import random
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from edge.clock import SystemClock
from edge.config import CLOCK_FLOOR
from edge.store.buffer import Buffer
from tests.house.stick import METER, Stick, Value, W
from tests.image.conftest import Built
from tests.image.machine import Card, Machine

INTERVIEW_PATIENCE_S = 900.0
CUTS = int(os.environ.get("POWER_CUTS", "20"))  # a release is tried with 100
CUTS_FOLLOWED_BY_A_START = min(3, CUTS // 5)
SEED = 20261123

type Status = dict[str, Any]


class Household:
    """The box with its stick, and the meter's values."""

    def __init__(self, box: Machine, stick: Stick) -> None:
        self.box = box
        self.stick = stick
        self.reported_w = 0.0

    async def report(self) -> None:
        """The whole house's power changes by one watt, so that each value is told apart."""
        self.reported_w += 1
        await self.stick.report(Value(METER, 0, W, 1000 + self.reported_w))

    async def status(self) -> Status:
        said = await self.run("edge status --json", 240)
        status: Status = json.loads(said)
        return status

    async def run(self, command: str, patience_s: float = 240) -> str:
        return await asyncio.to_thread(self.box.run, command, patience_s)

    async def until(self, holds: Callable[[Status], bool], patience_s: float) -> Status:
        """Ask `edge status` until it holds; meters keep reporting meanwhile."""
        async with asyncio.timeout(patience_s):
            while not holds(status := await self.status()):
                await self.report()
                await asyncio.sleep(2)
            return status


@asynccontextmanager
async def household(built: Built, folder: Path) -> AsyncIterator[Household]:
    port = folder / "zstick"
    async with Stick(port) as stick:
        card = Card.flash(built.card, folder / "card.img")
        with Machine(card, folder, stick=port) as box:
            await asyncio.to_thread(
                box.wait_until, "systemctl is-active edge-agent.service", INTERVIEW_PATIENCE_S
            )
            yield Household(box, stick)


def interviewed(status: Status) -> bool:
    return len(status["devices"]) >= 3 and len(status["channels"]) >= 4


def power_of_the_house(status: Status) -> float | None:
    values = [
        channel["value"]
        for channel in status["channels"]
        if channel["unit"] == "W" and channel["value"] is not None
    ]
    return max(values, default=None)


async def test_the_stick_is_found_driven_metered_pulled_and_missed_nothing_by_a_power_cut(
    built: Built, tmp_path: Path
) -> None:
    async with household(built, tmp_path) as house:
        await house.until(interviewed, INTERVIEW_PATIENCE_S)
        print("\n  " + (await house.run("systemd-analyze | head -1")))
        listening = await house.run("ss -Hlnt sport = :3000")
        assert "127.0.0.1:3000" in listening

        await house.report()
        wanted = 1000 + house.reported_w
        await house.until(lambda now: (power_of_the_house(now) or 0) >= wanted, 300)

        await cut_the_power(house, tmp_path)

        await asyncio.to_thread(house.box.pull_the_stick)
        await asyncio.to_thread(
            house.box.wait_until, "! systemctl is-active zwave-js-server.service"
        )
        await asyncio.to_thread(house.box.plug_the_stick)
        await asyncio.to_thread(house.box.wait_until, "systemctl is-active zwave-js-server.service")


async def cut_the_power(house: Household, folder: Path) -> None:
    """At random moments: what was acknowledged as stored is on the card that is left."""
    chance = random.Random(SEED)
    for cut in range(CUTS):
        stored = (await house.status())["buffer"]["readings"]
        for _ in range(chance.randint(1, 4)):
            await house.report()
        await asyncio.sleep(chance.uniform(0, 10))
        with house.box.frozen():
            left = await asyncio.to_thread(house.box.card.copy, folder / "cut.img")
        found = await asyncio.to_thread(examine, left, folder / "cut")
        assert found >= stored, f"cut {cut}: {stored} readings were stored, {found} are left"
        if cut < CUTS_FOLLOWED_BY_A_START:
            house.box.pull_the_plug()
            house.box.power_on()
            await asyncio.to_thread(
                house.box.wait_until, "systemctl is-active edge-agent.service", 900
            )
            await house.until(interviewed, INTERVIEW_PATIENCE_S)


def examine(card: Card, folder: Path) -> int:
    """Repair a copy as the first code does, find it sound, and count the readings in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    data = folder / "data.ext4"
    with card.path.open("rb") as whole, data.open("wb") as part:
        whole.seek(card.start_of(4))
        left = card.size_of(4)
        while left:
            chunk = whole.read(min(left, 4 * 1024 * 1024))
            left -= len(chunk)
            if chunk.count(0) == len(chunk):
                part.seek(len(chunk), 1)
            else:
                part.write(chunk)
        part.truncate(card.size_of(4))
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
