import copy
from datetime import timedelta
from typing import Any

import pytest

from edge.devices.zwave import switching
from edge.devices.zwave.nodes import devices, switch_points
from edge.errors import Refused
from tests.unit.devices.zwave_script import PLUG, ScriptedDriver, dump, failure

AUTO_ON = 12


def qubino_plug(auto_on_s: int = 0) -> dict[str, Any]:
    """The recorded plug as if it were one with a timer of its own."""
    node = dump("zw175", PLUG, manufacturerId=0x0159, productType=0x0002, productId=0x0054)
    parameter = copy.deepcopy(
        next(v for v in node["values"] if v["commandClass"] == 112 and v["property"] == 111)
    )
    parameter |= {"property": AUTO_ON, "propertyName": "Auto-On Timer", "value": auto_on_s}
    node["values"].append(parameter)
    return node


def socket_strip() -> dict[str, Any]:
    """The recorded plug with two more sockets."""
    node = dump("zw175", PLUG)
    switched = [v for v in node["values"] if v["commandClass"] == 37]
    for endpoint in (1, 2):
        node["values"] += [{**value, "endpoint": endpoint} for value in switched]
        node["endpoints"].append({**node["endpoints"][0], "index": endpoint})
    return node


async def test_switch_is_told_and_asked_by_radio() -> None:
    driver = ScriptedDriver(dump("zw175", PLUG))
    driver.answers |= {
        "node.set_value": {"result": {"status": 254}},
        "node.poll_value": {"value": False},
    }
    node = driver.played.controller.nodes[PLUG]
    (point,) = switch_points(node)
    await switching.switch(node, point, on=False)
    assert driver.sent[-1]["value"] is False
    assert await switching.read(node, point) is False


async def test_switch_that_says_no_is_an_error() -> None:
    driver = ScriptedDriver(dump("zw175", PLUG))
    driver.answers["node.set_value"] = {"result": {"status": 2}}
    node = driver.played.controller.nodes[PLUG]
    with pytest.raises(Refused, match="said no"):
        await switching.switch(node, switch_points(node)[0], on=True)


async def test_device_with_a_timer_is_told_when_to_come_back() -> None:
    driver = ScriptedDriver(qubino_plug())
    driver.answers["node.set_value"] = {"result": {"status": 255}}
    node = driver.played.controller.nodes[PLUG]
    await switching.hold(node, timedelta(minutes=15))
    assert driver.sent[-1]["valueId"]["property"] == AUTO_ON
    assert driver.sent[-1]["value"] == 900
    (device,) = devices(node, "home-3", switching.timer(node).holds)  # type: ignore[union-attr]
    assert timedelta(minutes=15) in device.own_timers


async def test_timer_is_cleared_only_where_it_is_set() -> None:
    unset, is_set = ScriptedDriver(qubino_plug()), ScriptedDriver(qubino_plug(900))
    for driver in (unset, is_set):
        driver.answers["node.set_value"] = {"result": {"status": 255}}
        await switching.hold(driver.played.controller.nodes[PLUG], None)
    assert unset.sent == []
    assert is_set.sent[-1]["value"] == 0


async def test_hold_that_the_device_cannot_keep_is_refused_before_anything_is_switched() -> None:
    driver = ScriptedDriver(qubino_plug())
    with pytest.raises(Refused, match="cannot hold"):
        await switching.hold(driver.played.controller.nodes[PLUG], timedelta(minutes=7))
    assert driver.sent == []


async def test_parameter_that_the_device_refuses_is_an_error() -> None:
    driver = ScriptedDriver(dump("zw175", PLUG))
    node = driver.played.controller.nodes[PLUG]
    driver.answers["node.set_value"] = {"result": {"status": 5}}
    with pytest.raises(Refused, match="parameter 91"):
        await switching.set_parameter(node, 91, 5)
    driver.answers["node.set_value"] = failure(322)
    with pytest.raises(Refused):
        await switching.set_parameter(node, 91, 5)


async def test_each_socket_of_a_strip_is_a_switch_of_its_own() -> None:
    driver = ScriptedDriver(socket_strip())
    node = driver.played.controller.nodes[PLUG]
    assert [point.endpoint for point in switch_points(node)] == [1, 2]
    found = {d.device: d.is_switch for d in devices(node, "home-3", ())}
    assert found == {"home-3": False, "home-3:1": True, "home-3:2": True}
