"""The time zone of the house: chosen by a person, else as a browser says."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, UnixConnector

from edge.agent_api.door import Application, serve
from edge.agent_api.household_room import HouseholdRoom, restore_zone
from edge.clock import own_zone
from tests.house.paper_notebook import PaperNotebook


@pytest.fixture(autouse=True)
def back_to_the_machines_zone() -> Iterator[None]:
    before = os.environ.get("TZ")
    yield
    if before is None:
        os.environ.pop("TZ", None)
    else:
        os.environ["TZ"] = before
    time.tzset()


class House:
    def __init__(self, folder: Path) -> None:
        self.documents = PaperNotebook()
        self.moved: list[str] = []
        self._socket = folder / "agent.sock"

    async def choose(self, zone: str, *, only_if_none: bool = False) -> int:
        async def move(timezone: str) -> None:
            self.moved.append(timezone)

        room = HouseholdRoom(self.documents, move)
        runner = await serve(self._socket, Application(room.routes()), mode=0o600)
        wanted = json.dumps({"timezone": zone, "only_if_none": only_if_none})
        try:
            async with (
                ClientSession(connector=UnixConnector(str(self._socket))) as session,
                session.put("http://agent/household", data=wanted) as answer,
            ):
                return answer.status
        finally:
            await runner.close()


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def test_a_chosen_zone_holds_for_the_clock_and_the_devices(house: House) -> None:
    assert await house.choose("Europe/Amsterdam") == 204
    assert own_zone() == "Europe/Amsterdam"
    assert house.moved == ["Europe/Amsterdam"]
    assert time.tzname == ("CET", "CEST")


async def test_a_chosen_zone_outlives_the_agent(house: House) -> None:
    await house.choose("Europe/Berlin")
    os.environ.pop("TZ")
    await restore_zone(house.documents)
    assert own_zone() == "Europe/Berlin"


async def test_a_browser_does_not_overrule_a_person(house: House) -> None:
    assert await house.choose("America/New_York", only_if_none=True) == 204
    await house.choose("Europe/Amsterdam")
    await house.choose("America/New_York", only_if_none=True)
    assert own_zone() == "Europe/Amsterdam"


@pytest.mark.parametrize("zone", ["Middle/Earth", "../../etc/passwd", "x" * 60, "Europe"])
async def test_what_is_no_zone_is_refused(house: House, zone: str) -> None:
    assert await house.choose(zone) == 422
    assert house.moved == []
