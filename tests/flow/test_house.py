"""The Z-Wave half of the simulated house: a real driver and client on the simulated stick."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from zwave_js_server.client import Client
from zwave_js_server.exceptions import FailedZWaveCommand
from zwave_js_server.model.controller import Controller
from zwave_js_server.model.node import Node

from tests.house.stick import KWH, METER, PLUGS, Stick, Value, W
from tests.house.zwave_server import ZwaveServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLUG, OTHER_PLUG = PLUGS
SOON_S = 15.0
NVM_BYTES = 49_152  # of the 700 series stick whose memory the simulated one has
CLAMP_W = "2-50-1-value-66049"  # node, Meter, endpoint, consumed watts
SWITCH = "3-37-0-targetValue"


async def until(true: Callable[[], bool], patience_s: float = SOON_S) -> None:
    async with asyncio.timeout(patience_s):
        while not true():  # noqa: ASYNC110 — the client tells of some changes by no event
            await asyncio.sleep(0.02)


@dataclass
class Connected:
    controller: Controller
    listening: asyncio.Task[None]
    updates: list[tuple[str, object]] = field(default_factory=list)

    def node(self, number: int) -> Node:
        return self.controller.nodes[number]

    def value(self, value_id: str) -> object:
        return self.node(int(value_id.split("-")[0])).values[value_id].value


@asynccontextmanager
async def connected(server: ZwaveServer) -> AsyncIterator[Connected]:
    async with aiohttp.ClientSession() as session:
        client = Client(server.url, session)
        await client.connect()
        ready = asyncio.Event()
        listening = asyncio.create_task(client.listen(ready))
        async with asyncio.timeout(SOON_S):
            await ready.wait()
        assert client.driver is not None
        seen = Connected(client.driver.controller, listening)
        await until(lambda: all(node.ready for node in seen.controller.nodes.values()))
        for node in seen.controller.nodes.values():
            node.on(
                "value updated",
                lambda event: seen.updates.append((event["value"].value_id, event["value"].value)),
            )
        yield seen
        await client.disconnect()
        await listening


@dataclass
class House:
    stick: Stick
    server: ZwaveServer


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder: Path = tmp_path_factory.mktemp("house")
    server = ZwaveServer(folder / "stick", folder / "driver", respawn=True)
    async with Stick(folder / "stick", server.keys) as stick:
        await stick.show(
            Value(METER, 0, W, 1510.5), Value(METER, 1, W, 250), Value(PLUG, 0, KWH, 12.345)
        )
        async with server:
            yield House(stick, server)


async def test_driver_knows_every_device_by_name_and_reads_its_meters(house: House) -> None:
    async with connected(house.server) as seen:
        labels = {n: seen.node(n).device_config.label for n in (METER, *PLUGS)}
        assert labels == {METER: "ZW095", PLUG: "ZW175", OTHER_PLUG: "ZW175"}
        assert seen.value("2-50-0-value-66049") == 1510.5
        assert seen.value(CLAMP_W) == 250
        assert seen.value("3-50-0-value-65537") == 12.345


async def test_report_arrives_also_when_it_repeats_itself(house: House) -> None:
    async with connected(house.server) as seen:
        for _ in range(2):
            await house.stick.report(Value(METER, 1, W, -77.5))
        await until(lambda: seen.updates.count((CLAMP_W, -77.5)) == 2)


async def test_plug_obeys_and_the_witness_saw_it(house: House) -> None:
    await house.stick.report(Value(PLUG, 0, W, 2000))
    async with connected(house.server) as seen:
        for on in (False, True):
            await seen.node(PLUG).async_set_value(SWITCH, on)
            assert await house.stick.is_on(PLUG) is on
            await until(lambda on=on: ("3-50-0-value-66049", 2000 * on) in seen.updates)
        assert (await house.stick.switched(PLUG))[-2:] == [False, True]


async def test_hand_on_the_plug_is_reported_and_is_no_radio_command(house: House) -> None:
    before = await house.stick.switched(PLUG)
    async with connected(house.server) as seen:
        await house.stick.press(PLUG, on=False)
        await until(lambda: seen.value("3-37-0-currentValue") is False)
        await house.stick.press(PLUG, on=True)
        await until(lambda: seen.value("3-37-0-currentValue") is True)
    assert await house.stick.switched(PLUG) == before


async def test_jammed_plug_confirms_and_stays_as_it_was(house: House) -> None:
    await house.stick.jam(PLUG)
    async with connected(house.server) as seen:
        await seen.node(PLUG).async_set_value(SWITCH, False)
    assert await house.stick.is_on(PLUG)
    await house.stick.jam(PLUG, jammed=False)


async def test_plug_out_of_reach_is_dead_until_it_reports(house: House) -> None:
    await house.stick.offline(PLUG)
    async with connected(house.server) as seen:
        with pytest.raises(FailedZWaveCommand, match=r"ZW020[24]"):
            await seen.node(PLUG).async_set_value(SWITCH, False)
        await until(lambda: seen.node(PLUG).status.name == "DEAD")
        await house.stick.online(PLUG)
        await house.stick.report(Value(PLUG, 0, W, 5))
        await until(lambda: seen.node(PLUG).status.name == "ALIVE")


async def test_memory_of_the_stick_can_be_backed_up(house: House) -> None:
    async with connected(house.server) as seen:
        async with asyncio.timeout(SOON_S):
            assert len(await seen.controller.async_backup_nvm_raw()) == NVM_BYTES
        await house.stick.report(Value(METER, 1, W, 88))
        await until(lambda: (CLAMP_W, 88) in seen.updates)


async def test_deaf_stick_is_noticed_by_a_command_and_recovers(house: House) -> None:
    async with connected(house.server) as seen:
        house.stick.hang()
        setting = asyncio.create_task(seen.node(PLUG).async_set_value(SWITCH, True))
        await until(lambda: seen.controller.status.name == "UNRESPONSIVE")
        house.stick.wake()
        await until(lambda: seen.controller.status.name == "READY", 30)
        await asyncio.wait([setting])
        setting.exception()
        await seen.node(PLUG).async_set_value(SWITCH, True)
        assert await house.stick.is_on(PLUG)
