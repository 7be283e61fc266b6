"""What a person reads for a device and for one of its channels."""

import pytest

from edge.agent_api.names import clamp_name, display_names
from edge.model import Channel, Device, DeviceState, Kind, Quantity


def device(family: str, ident: str, name: str) -> Device:
    return Device(family, ident, name, "model", DeviceState.ALIVE)


def test_devices_called_the_same_are_told_apart_by_family_or_number() -> None:
    names = display_names(
        [
            device("smappee", "123.1", "Boiler"),
            device("homeassistant", "840473a8ce1f", "Boiler"),
            device("zwave", "7e570001-3", "ZW175"),
            device("zwave", "7e570001-4", "ZW175"),
            device("p1", "37", "Gas meter"),
        ]
    )
    assert list(names.values()) == [
        "Boiler (smappee)",
        "Boiler (homeassistant)",
        "ZW175 (3)",
        "ZW175 (4)",
        "Gas meter",
    ]


@pytest.mark.parametrize(
    ("endpoint", "name", "device_name", "shown"),
    [
        ("2", "ZW095", "ZW095", "2"),
        ("0", "ZW175", "ZW175 (3)", ""),
        ("L1", "", "Smart meter", "L1"),
        ("consumption", "Home consumption", "Home", "consumption"),
        ("sensor-4-1", "Gas", "Home", "Gas"),
        ("0e9c2cc74e0e", "Grid power", "Grid power", ""),
        ("0e9c2cc74e0e", "Heat pump energy", "Heat pump", "energy"),
    ],
)
def test_channel_is_told_from_the_others_of_its_device(
    endpoint: str, name: str, device_name: str, shown: str
) -> None:
    channel = Channel("any", "d", endpoint, Quantity.GAS, Kind.COUNTER, name=name)
    assert clamp_name(channel, device_name) == shown
