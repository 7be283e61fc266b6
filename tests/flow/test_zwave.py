"""Z-Wave on the real zwave-server and the simulated stick: every failure recovers by itself."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from edge.devices.zwave.family import ZWave
from edge.errors import Refused
from edge.model import DeviceState, Quantity
from tests.house.family_bench import SteppedClock
from tests.house.family_contract import Bench, FamilyContract
from tests.house.family_contract import House as FamilyHouse
from tests.house.stick.stick import KWH, METER, PLUGS, V, Value, W
from tests.house.zwave_box import (
    CLAMP_1_W,
    HOME,
    HURRY,
    PLUG,
    House,
    HurriedClock,
    Notes,
    a_box,
    a_house,
    until,
)
from tests.house.zwave_proxy import ZwaveProxy

pytestmark = pytest.mark.asyncio(loop_scope="module")
REPORT_UNTIL_HEARD_S = 10


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with a_house(tmp_path_factory.mktemp("zwave")) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def bench(house: House) -> AsyncIterator[Bench]:
    """Each test through a line of its own to the driver, which can be cut."""
    async with ZwaveProxy(house.server.url) as proxy:

        async def measure() -> None:
            async with asyncio.timeout(REPORT_UNTIL_HEARD_S):
                while not bench.intake.readings:
                    await house.stick.report(Value(METER, 1, W, 812.5))
                    await asyncio.sleep(0.1)

        config = {"server_url": proxy.url, "report_presets": False}
        bench = Bench(
            FamilyHouse("zwave", config, {}, PLUG, measure, proxy.close, None),
            SteppedClock(datetime(2026, 3, 20, 12, tzinfo=UTC)),
        )
        yield bench


class TestContract(FamilyContract):
    """What every family keeps."""


async def test_every_meter_value_is_a_channel_and_energy_beside_power_repeats_it(
    house: House,
) -> None:
    async with a_box(house.server.url) as box:
        await until(lambda: len(box.notes.channels) == 24)
        clamp = box.notes.channels[f"zwave/{HOME}-{METER}/3/active_energy/import"]
        assert clamp.repeats == f"zwave/{HOME}-{METER}/3/active_power/import"
        assert box.zwave.status().home_id == HOME


async def test_what_the_driver_remembers_is_asked_anew_not_believed(house: House) -> None:
    await house.stick.show(Value(METER, 1, W, 4321.5))
    async with a_box(house.server.url) as box:
        await until(lambda: box.notes.values(CLAMP_1_W) != [])
        assert box.notes.values(CLAMP_1_W)[0] == 4321.5
        asked = {reading.channel_key for reading in box.notes.readings}
        assert not any(Quantity.VOLTAGE in key for key in asked)


async def test_report_that_repeats_a_value_is_a_reading_too(house: House) -> None:
    async with a_box(house.server.url) as box:
        await box.hears(house, -77.5)
        before = len(box.notes.values(CLAMP_1_W))
        await house.stick.report(Value(METER, 1, W, -77.5))
        await until(lambda: len(box.notes.values(CLAMP_1_W)) > before)
        await house.stick.report(Value(METER, 2, V, 231.5), Value(METER, 2, KWH, 77.25))
        energy = f"zwave/{HOME}-{METER}/2/active_energy/import"
        await until(lambda: 77.25 in box.notes.values(energy))


async def test_report_groups_of_the_meter_follow_the_preset(house: House) -> None:
    async with a_box(house.server.url) as box:
        await until(
            lambda: (
                box.notes.channels[CLAMP_1_W].report_interval == timedelta(seconds=30)
                if CLAMP_1_W in box.notes.channels
                else False
            )
        )
    held = (await house.stick.parameters(2, 13, 101, 111, 112))[METER]
    assert held == {2: 1, 13: 1, 101: 0x702, 111: 30, 112: 300}


async def test_plug_switches_and_tells_what_its_relay_really_does(house: House) -> None:
    async with a_box(house.server.url) as box:
        await box.zwave.turn_off(PLUG, None)
        assert await box.zwave.is_on(PLUG) is False
        assert await house.stick.is_on(PLUGS[0]) is False
        await house.stick.jam(PLUGS[0])
        await box.zwave.turn_on(PLUG)
        assert await box.zwave.is_on(PLUG) is False  # it said yes and did not obey
        await house.stick.jam(PLUGS[0], jammed=False)
        await box.zwave.turn_on(PLUG)
        assert await box.zwave.is_on(PLUG) is True
        with pytest.raises(Refused, match="no switch"):
            await box.zwave.turn_off(f"{HOME}-{METER}", None)
        with pytest.raises(Refused, match="no timer of its own"):
            await box.zwave.turn_off(PLUG, timedelta(minutes=5))


async def test_killed_driver_is_followed_by_a_new_session(house: House) -> None:
    async with a_box(house.server.url) as box:
        await box.hears(house, 1001)
        await house.server.kill()
        await until(lambda: not box.zwave.status().connected)
        assert {device.state for device in box.zwave.devices()} == {DeviceState.UNKNOWN}
        assert any("driver" in state for state in box.states if state.startswith("waiting"))
        await house.server.wait_ready()
        await box.hears(house, 1002)
        await until(lambda: box.zwave.status().sessions == 2)


async def test_stick_pulled_and_plugged_in_again_goes_on(house: House) -> None:
    async with a_box(house.server.url) as box:
        await box.hears(house, 1003)
        house.stick.unplug()
        assert await house.server.wait_ended() == 1
        await until(lambda: not box.zwave.status().connected)
        house.stick.replug()
        await house.server.wait_ready()
        await box.hears(house, 1004)


async def test_stick_that_hangs_while_nothing_is_sent_is_noticed_and_recovers(
    house: House,
) -> None:
    async with a_box(house.server.url) as box:
        await box.hears(house, 1005)
        house.stick.hang()
        await until(lambda: "does not answer" in (box.zwave.status().problem or ""), within_s=60)
        house.stick.wake()
        await until(lambda: box.zwave.status().problem is None, within_s=60)
        await box.hears(house, 1006)


async def test_dead_node_comes_back_without_being_switched(house: House) -> None:
    async with a_box(house.server.url) as box:

        def state() -> DeviceState:
            return next(d.state for d in box.zwave.devices() if d.device == PLUG)

        await house.stick.offline(PLUGS[0])
        await until(lambda: state() is DeviceState.DEAD, within_s=40)  # polled, it did not answer
        await house.stick.online(PLUGS[0])
        await until(lambda: state() is DeviceState.ALIVE, within_s=60)


POISON = {
    "type": "event",
    "event": {
        "source": "node",
        "event": "check lifeline health progress",
        "nodeId": METER,
        "round": 1,
    },
}


async def test_event_that_cannot_be_read_costs_one_session_and_no_reports(house: House) -> None:
    async with ZwaveProxy(house.server.url) as proxy, a_box(proxy.url) as box:
        await box.hears(house, 1007)
        await proxy.inject(json.dumps(POISON))
        await until(lambda: box.zwave.status().sessions == 2)
        await box.hears(house, 1008)
        await proxy.inject(json.dumps(POISON))
        await until(lambda: box.zwave.status().unreadable_events == 2)
        await box.hears(house, 1009)
        status = box.zwave.status()
        assert status.sessions == 2  # the second one was skipped
        assert "lifeline health" in (status.last_unreadable or "")


async def test_words_that_are_no_message_end_the_session_and_no_more(house: House) -> None:
    async with ZwaveProxy(house.server.url) as proxy, a_box(proxy.url) as box:
        await proxy.inject("{ this is no JSON")
        await until(lambda: box.zwave.status().sessions == 2)
        await box.hears(house, 1010)


async def test_driver_of_another_release_is_refused_with_what_to_do(house: House) -> None:
    other = {"minSchemaVersion": 51, "maxSchemaVersion": 60, "serverVersion": "9.9.9"}
    async with ZwaveProxy(house.server.url, other) as proxy:
        clock = HurriedClock(HURRY)
        zwave = ZWave(proxy.url, Notes(clock), clock)
        with pytest.raises(Refused, match=r"9\.9\.9 speaks schema 51 to 60, this box 49 to 50"):
            await zwave.run()
