"""A real Home Assistant announces itself, avahi hears it, the box finds it."""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from edge.clock import SystemClock
from edge.devices import homeassistant
from edge.devices.homeassistant.discovery import browse
from edge.errors import Refused, Unreachable
from tests.house.child import ROOT

DUMP = ROOT / "tests/dumps/homeassistant/avahi-browse.txt"
FOUND_WITHIN_S = 90.0


async def test_home_assistant_that_announces_itself_is_found(tmp_path: Path) -> None:
    """What is found is Home Assistant: it refuses a token nobody made."""
    assert os.geteuid() == 0, "only root can make a network of its own: run this test as root"
    child = await asyncio.create_subprocess_exec(
        *(ROOT / "tests/house/neighbourhood", tmp_path, sys.executable, "-m", __name__),
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(FOUND_WITHIN_S + 30):
        said, _ = await child.communicate()
    found = json.loads(said)
    assert found["choices"] == [["http://192.0.2.2:8123", "Ons huis; Café", True]]
    assert "refuses the token" in found["refusal"]
    if "DUMP" in os.environ:
        DUMP.write_text(found["printed"], encoding="utf-8")
    heard = _resolved(found["printed"])  # over IPv6 too only where that has an address by then
    assert heard
    assert heard <= _resolved(DUMP.read_text(encoding="utf-8"))


def _resolved(printed: str) -> set[tuple[str, ...]]:
    """What stands in the lines that tell an address, but for what differs from one to the next."""
    lines = [line.split(";") for line in printed.splitlines() if line.startswith("=")]
    return {(*line[1:6], *line[7:9]) for line in lines}


async def _look() -> None:
    """On the box's side of the neighbourhood: what the page would offer."""
    clock = SystemClock(datetime(2026, 1, 1, tzinfo=UTC))
    async with asyncio.timeout(FOUND_WITHIN_S):
        while True:
            try:
                found = await homeassistant.check({}, {}.get, clock)
                break
            except (Refused, Unreachable):  # it is still starting
                await asyncio.sleep(0.5)
    [choice] = found.choices
    refusal = ""
    try:
        secrets = {"homeassistant.token": "nobody made this"}
        await homeassistant.check({"address": choice.value}, secrets.get, clock)
    except Refused as problem:
        refusal = str(problem)
    name = choice.label.removesuffix(f" ({choice.value})")
    seen = {
        "choices": [[choice.value, name, choice.preselected]],
        "refusal": refusal,
        "printed": await browse(),
    }
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    asyncio.run(_look())
