"""What the box makes of whole devices, as a real driver described them (tests/dumps/zwave)."""

import json
from typing import cast

import aiohttp
import pytest
from zwave_js_server.client import Client
from zwave_js_server.model.node import Node

from edge.devices.zwave import nodes
from edge.devices.zwave.channels import taps
from edge.devices.zwave.presets import report_intervals, settings
from edge.model import Direction, Quantity
from tests.dumps.record import FOLDER

DUMPS = sorted(FOLDER.glob("*.json"))


def node(label: str) -> Node:
    """A node of the client's own model; a client wants a running loop even to stay unconnected."""
    unconnected = Client("ws://127.0.0.1", cast("aiohttp.ClientSession", None))
    return Node(unconnected, json.loads((FOLDER / f"{label}.json").read_text()))


@pytest.mark.parametrize("label", [path.stem for path in DUMPS])
async def test_every_meter_value_of_a_recorded_device_is_a_channel(label: str) -> None:
    device = node(label)
    values = nodes.meter_values(device)
    found = taps("home-2", nodes.label(device), nodes.product(device), values, {})
    assert values
    assert len(found) == len(values)
    units = {value.metadata.unit for value in values.values()}
    assert {tap.channel.unit for tap in found} == units


async def test_energy_meter_has_the_whole_house_and_three_clamps() -> None:
    meter = node("zw095")
    assert nodes.model(meter) == "AEON Labs ZW095"
    assert {value.endpoint for value in nodes.meter_values(meter)} == {0, 1, 2, 3}
    assert nodes.switch_points(meter) == []


async def test_energy_meter_from_the_factory_is_told_to_report_its_clamps() -> None:
    parameters = nodes.configuration(node("zw095"))
    assert (1, Quantity.ACTIVE_POWER, Direction.IMPORT) not in report_intervals(parameters)
    changed = settings(nodes.product(node("zw095")), parameters, signed_power=False)
    assert {101, 111} <= {setting.number for setting in changed}


async def test_smart_switch_switches_at_one_point() -> None:
    plug = node("zw175")
    assert [point.endpoint for point in nodes.switch_points(plug)] == [0]
    assert nodes.is_on(plug, nodes.switch_points(plug)[0]) is True
