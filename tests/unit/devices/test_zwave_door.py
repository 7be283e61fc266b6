import asyncio

import pytest

from edge.devices.zwave.door import NodeSilent, StickSilent, answered
from edge.errors import EdgeError, Refused, Unreachable
from tests.unit.devices.zwave_script import METER, SILENCE, ScriptedDriver, dump, failure


async def ping(driver: ScriptedDriver, within_s: float = 5) -> bool:
    async with answered("calling", within_s):
        return await driver.played.controller.nodes[METER].async_ping()


def a_driver() -> ScriptedDriver:
    return ScriptedDriver(dump("zw095", METER))


async def test_answer_passes() -> None:
    driver = a_driver()
    driver.answers["node.ping"] = {"responded": True}
    assert await ping(driver)


@pytest.mark.parametrize(
    ("code", "error"),
    [(200, StickSilent), (112, StickSilent), (202, NodeSilent), (204, NodeSilent), (361, Refused)],
)
async def test_each_no_of_the_driver_says_who_is_to_blame(
    code: int, error: type[EdgeError]
) -> None:
    driver = a_driver()
    driver.answers["node.ping"] = failure(code, "the reason")
    with pytest.raises(error, match="calling: the reason"):
        await ping(driver)


async def test_driver_that_never_answers_is_unreachable() -> None:
    driver = a_driver()
    driver.answers["node.ping"] = SILENCE
    with pytest.raises(Unreachable, match="no answer"):
        await ping(driver, within_s=0)


async def test_lost_connection_is_no_cancellation_of_whoever_waited() -> None:
    driver = a_driver()
    driver.answers["node.ping"] = SILENCE
    waiting = asyncio.create_task(ping(driver))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    driver.lose_connection()
    with pytest.raises(Unreachable, match="connection"):
        await waiting


async def test_real_cancellation_stays_one() -> None:
    driver = a_driver()
    driver.answers["node.ping"] = SILENCE
    waiting = asyncio.create_task(ping(driver))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_event_that_cannot_be_read_is_set_aside_with_a_sample() -> None:
    driver = a_driver()
    driver.node_says(METER, "check lifeline health progress", round=1)
    (problem,) = driver.unreadable
    assert "check lifeline health progress" in problem.sample
    driver.node_says(METER, "dead", oldStatus=4)
    assert [event["event"] for event in driver.events] == ["dead"]


async def test_device_that_takes_another_s_place_is_found_without_a_class() -> None:
    driver = a_driver()
    driver.says("controller", "node found", node={"nodeId": 9, "deviceClass": None})
    assert driver.unreadable == []
    assert driver.events[0]["node"]["nodeId"] == 9


async def test_unknown_event_is_passed_over() -> None:
    driver = a_driver()
    driver.node_says(METER, "something new")
    assert driver.unreadable == []
