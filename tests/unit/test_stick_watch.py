import asyncio
import json
from datetime import timedelta
from pathlib import Path

from edge.devices.stick import Absent, Busy, Deaf, Found, Known, Outcome, Port
from edge.privileged import Privileged
from edge.stick_watch import DRIVER_STARTS_WITHIN, LOOK_EVERY, StickWatch
from tests.house.fake_clock import FakeClock

BRIDGE = Port(Path("/dev/serial/by-id/bridge"), Path("/dev/ttyUSB0"), "CP2102N", Known("bridge"))
NAMED = Port(Path("/dev/serial/by-id/uzb"), Path("/dev/ttyACM0"), "UZB", Known("UZB", certain=True))
FOUND = Found(BRIDGE.path, "Z-Wave controller", "7e570001", "7.18")


class House:
    def __init__(self, tmp_path: Path, *ports: Port, chosen: Path | None = None) -> None:
        self.clock = FakeClock()
        self.connected = False
        self.ports = list(ports)
        self.answer: Outcome = Absent()
        self.asked = 0
        self.door = tmp_path / "door"
        self.driven = tmp_path / "zwave"
        self.watch = StickWatch(
            self.clock,
            lambda: self.connected,
            chosen,
            privileged=Privileged(self.door),
            driven=self.driven,
            ports=lambda: self.ports,
            find=self._find,
        )

    async def _find(self, _: Path | None) -> list[Outcome]:
        self.asked += 1
        return [self.answer]

    async def look(self, times: int = 1) -> None:
        for _ in range(times):
            await self.watch.look()
            await self.clock.advance(LOOK_EVERY)


async def test_box_without_a_stick_says_so(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.look()
    assert house.watch.code == "none"
    assert "Plug it into" in house.watch.sentence


async def test_nothing_is_opened_while_the_driver_is_connected(tmp_path: Path) -> None:
    house = House(tmp_path, BRIDGE)
    house.connected = True
    await house.look(20)
    assert house.asked == 0


async def test_bridge_is_asked_once_not_again_and_again(tmp_path: Path) -> None:
    house = House(tmp_path, BRIDGE)
    await house.look(20)
    assert house.asked == 1
    house.ports.append(Port(Path("/dev/ttyUSB1"), Path("/dev/ttyUSB1"), "", Known("bridge")))
    await house.look(20)
    assert house.asked == 2


async def test_stick_with_a_name_gets_time_to_start_before_it_is_asked(tmp_path: Path) -> None:
    house = House(tmp_path, NAMED)
    house.answer = Deaf(NAMED.path)
    await house.look()
    assert (house.asked, house.watch.code) == (0, "starting")
    await house.clock.advance(DRIVER_STARTS_WITHIN + timedelta(seconds=1))
    await house.look()
    assert (house.asked, house.watch.code) == (1, "deaf")


async def test_bridge_that_udev_gave_to_the_driver_is_not_asked_while_it_starts(
    tmp_path: Path,
) -> None:
    house = House(tmp_path, BRIDGE)
    house.driven.touch()
    await house.look(3)
    assert (house.asked, house.watch.code) == (0, "starting")
    house.driven.unlink()  # it was pulled out, and put in again where it was not chosen
    house.ports.clear()
    await house.look()
    asked = house.asked
    house.ports.append(BRIDGE)
    await house.look()
    assert house.asked == asked + 1


async def test_chosen_stick_that_is_not_there_is_named(tmp_path: Path) -> None:
    house = House(tmp_path, chosen=tmp_path / "mine")
    await house.look()
    assert str(tmp_path / "mine") in house.watch.sentence


async def test_port_in_use_is_told(tmp_path: Path) -> None:
    house = House(tmp_path, BRIDGE)
    house.answer = Busy(BRIDGE.path)
    await house.look()
    assert house.watch.code == "busy"


async def test_found_stick_is_handed_to_its_driver_once(tmp_path: Path) -> None:
    house = House(tmp_path, BRIDGE)
    house.answer = FOUND
    said: list[dict[str, str]] = []

    async def door(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said.append(json.loads(await reader.readline()))
        writer.write(b'{"ok": true}\n')
        writer.close()

    async with await asyncio.start_unix_server(door, house.door):
        await house.look(3)
        house.ports.clear()
        await house.look()
        house.ports.append(BRIDGE)
        await house.look()
    assert said == [{"act": "stick", "device": str(BRIDGE.path)}]
    assert house.watch.code == "starting"


async def test_door_that_says_no_leaves_the_stick_found(tmp_path: Path) -> None:
    house = House(tmp_path, BRIDGE)
    house.answer = FOUND

    async def door(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b'{"ok": false, "text": "not now"}\n')
        writer.close()

    async with await asyncio.start_unix_server(door, house.door):
        await house.look()
    assert house.watch.outcome == FOUND
