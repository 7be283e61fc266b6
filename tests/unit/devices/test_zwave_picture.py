"""From the driver's events to readings and steps, by the recorded devices."""

from typing import Any

import pytest

from edge.devices.zwave import events
from edge.devices.zwave.choices import Choices
from edge.devices.zwave.events import EventLog, RemovalReason
from edge.devices.zwave.metering import Metering
from edge.devices.zwave.picture import Picture
from edge.devices.zwave.steps import Steps
from edge.errors import Refused, Unreachable
from edge.model import BoxTime, Channel, DeviceState, Reading
from tests.house.fake_clock import FakeClock
from tests.unit.devices.zwave_script import METER, PLUG, ScriptedDriver, dump

W = 1 << 16 | 2 << 8 | 1
HOME = "7e570001"
CLAMP = f"zwave/{HOME}-{METER}/2/active_power/import"


class Notes:
    def __init__(self) -> None:
        self.channels: dict[str, Channel] = {}
        self.readings: list[Reading] = []

    def offer(self, reading: Reading) -> None:
        self.readings.append(reading)

    def announce(self, channels: Any) -> None:
        self.channels.update({channel.key: channel for channel in channels})

    def now(self) -> BoxTime:
        return BoxTime(1, 0)


class House:
    def __init__(self, *nodes: dict[str, Any]) -> None:
        self.notes = Notes()
        self.metering = Metering(self.notes, FakeClock())
        self.choices = Choices(None)
        self.picture = Picture(self.metering, self.choices)
        self.log = EventLog()
        self.steps = Steps(self.picture, self.log)
        self.driver = ScriptedDriver(*nodes)
        self.picture.begin(self.driver.played)

    def hear(self) -> bool:
        """Take in what the driver said; whether any of it came from the radio."""
        heard = False
        for event in self.driver.events:
            if event["source"] == "controller":
                self.picture.on_controller_event(event)
                self.steps.on_controller_event(event)
            else:
                node = self.driver.played.controller.nodes[event["nodeId"]]
                heard |= self.picture.on_node_event(node, event)
                self.steps.on_node_event(node, event)
        self.driver.events.clear()
        return heard


async def test_cached_values_are_channels_but_no_readings() -> None:
    house = House(dump("zw095", METER), dump("zw175", PLUG))
    assert len(house.notes.channels) == 20
    assert house.notes.readings == []


async def test_report_is_a_reading_and_so_is_its_repetition() -> None:
    house = House(dump("zw095", METER))
    for value in (-77.5, -77.5):
        house.driver.reports(METER, 2, W, value)
    assert house.hear()
    assert [(r.channel_key, r.value) for r in house.notes.readings] == [(CLAMP, -77.5)] * 2


async def test_what_is_no_number_is_no_reading() -> None:
    house = House(dump("zw095", METER))
    for value in (None, True, "12", [1]):
        house.driver.reports(METER, 2, W, value)
    house.hear()
    assert house.notes.readings == []


async def test_value_that_was_not_announced_before_becomes_a_channel() -> None:
    house = House(dump("zw095", METER))
    house.driver.reports(METER, 2, 1 << 16 | 0 << 8 | 2, 12.5)
    house.hear()
    assert f"zwave/{HOME}-{METER}/2/active_energy/export" in house.notes.channels
    assert house.notes.readings[0].value == 12.5


async def test_what_a_hung_stick_causes_too_is_no_sign_of_life() -> None:
    house = House(dump("zw095", METER))
    house.driver.node_says(METER, "dead", oldStatus=4)
    assert not house.hear()
    assert house.picture.devices()[0].state is DeviceState.DEAD


async def test_without_a_connection_the_last_devices_stay_known() -> None:
    house = House(dump("zw175", PLUG))
    house.picture.end()
    (plug,) = house.picture.devices()
    assert (plug.state, plug.is_on) == (DeviceState.UNKNOWN, None)
    with pytest.raises(Unreachable):
        house.picture.node(f"{HOME}-{PLUG}")


async def test_other_network_brings_its_own_channels() -> None:
    house = House(dump("zw175", PLUG))
    house.picture.end()
    other = ScriptedDriver(dump("zw175", PLUG))
    other.played.controller.data["homeId"] = 0x11111111
    house.picture.begin(other.played)
    assert f"zwave/11111111-{PLUG}/0/active_power/import" in house.notes.channels
    assert house.metering.silent()[0].node_id == PLUG


async def test_device_that_took_another_s_place_has_its_name() -> None:
    house = House(dump("zw175", PLUG))
    house.choices.aliases[f"{HOME}-{PLUG}"] = f"{HOME}-9"
    house.picture.take_in(house.picture.driver().controller.nodes[PLUG])
    assert f"zwave/{HOME}-9/0/active_power/import" in house.notes.channels
    assert house.picture.switch_of(f"{HOME}-9")[0].node_id == PLUG


async def test_meter_is_no_switch() -> None:
    house = House(dump("zw095", METER))
    with pytest.raises(Refused, match="no switch"):
        house.picture.switch_of(f"{HOME}-{METER}")


async def test_name_from_the_radio_is_shown_as_harmless_text() -> None:
    house = House(dump("zw175", PLUG, name="a\x00b\u202e\n<script>" + "x" * 200))
    (plug,) = house.picture.devices()
    assert plug.name.isprintable()
    assert len(plug.name) == 64
    assert plug.name.startswith("ab")


async def test_device_that_was_replaced_or_reset_says_so() -> None:
    house = House(dump("zw175", PLUG))
    house.driver.says("controller", "node removed", node={"nodeId": PLUG}, reason=5)
    house.hear()
    (removed,) = house.log.after(0)
    assert removed.event == events.DeviceRemoved(f"{HOME}-{PLUG}", "ZW175", RemovalReason.RESET)


async def test_interview_of_a_device_that_nobody_waits_for_is_not_told() -> None:
    house = House(dump("zw175", PLUG))
    progress = {"stage": "CommandClasses", "progress": 40.0}
    house.driver.node_says(PLUG, "interview progress", **progress)
    house.hear()
    assert house.log.after(0) == []
    house.steps.interviewed.add(f"{HOME}-{PLUG}")
    house.driver.node_says(PLUG, "interview progress", **progress)
    failed = {"errorMessage": "timed out", "isFinal": True, "attempt": 5, "maxAttempts": 5}
    house.driver.node_says(PLUG, "interview failed", args=failed)
    house.hear()
    assert [each.event for each in house.log.after(0)] == [
        events.InterviewProgress(f"{HOME}-{PLUG}", "CommandClasses", 40.0),
        events.InterviewFailed(f"{HOME}-{PLUG}", "timed out", is_final=True),
    ]


async def test_routes_and_copies_show_their_progress() -> None:
    house = House(dump("zw095", METER), dump("zw175", PLUG))
    first, last = {"2": "done", "3": "pending"}, {"2": "done", "3": "failed"}
    house.driver.says("controller", "rebuild routes progress", progress=first)
    house.driver.says("controller", "rebuild routes done", result=last)
    house.driver.says("controller", "nvm backup progress", bytesRead=50, total=200)
    house.hear()
    assert [each.event for each in house.log.after(0)] == [
        events.RoutesProgress(1, 0, 2, finished=False),
        events.RoutesProgress(1, 1, 2, finished=True),
        events.BackupProgress(25),
    ]
