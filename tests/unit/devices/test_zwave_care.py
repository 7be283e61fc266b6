import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from edge.devices.zwave.care import (
    REVIVE_FIRST_PAUSE,
    SOFT_RESET_EVERY,
    STICK_QUIET_FOR,
    Care,
    Patience,
    StickHealth,
)
from edge.devices.zwave.metering import Metering
from edge.devices.zwave.nodes import configuration, meter_values, product
from edge.devices.zwave.presets import Setting, settings
from edge.model import BoxTime
from tests.house.fake_clock import FakeClock
from tests.unit.devices.zwave_script import METER, PLUG, ScriptedDriver, dump, failure

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


class Deaf:
    """An intake that takes nothing."""

    def offer(self, reading: object) -> None: ...

    def announce(self, channels: object) -> None: ...

    def now(self) -> BoxTime:
        return BoxTime(1, 0)


class House:
    def __init__(self, *nodes: dict[str, Any]) -> None:
        self.clock = FakeClock()
        self.client = ScriptedDriver(*nodes)
        self.client.answers["controller.get_node_neighbors"] = {"neighbors": []}
        self.metering = Metering(Deaf(), self.clock)
        self.stick = StickHealth()
        self.is_busy = False
        self.wishes: list[Setting] = []
        self.care = Care(
            self.clock,
            self.metering,
            self.stick,
            radio=asyncio.Lock(),
            is_busy=lambda: self.is_busy,
            wishes=lambda _: self.wishes,
        )

    def meters(self, node_id: int) -> None:
        node = self.client.played.controller.nodes[node_id]
        self.metering.node_has(node_id, "d", "n", product(node), meter_values(node), {})

    @asynccontextmanager
    async def cared_for(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.care.run(self.client.played))
        await self.clock.settle()
        yield
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    def asked(self) -> list[tuple[int, int]]:
        """Node and endpoint of each meter that was asked."""
        polls = self.client.commands("node.poll_value")
        return [(poll["nodeId"], poll["valueId"]["endpoint"]) for poll in polls]


# --- silent meters --------------------------------------------------------------------------------


async def test_cached_values_are_asked_anew_one_a_second() -> None:
    house = House(dump("zw095", METER))
    house.meters(METER)
    async with house.cared_for():
        await house.clock.advance(3.5 * SECOND)
        assert house.asked() == [(METER, 0), (METER, 0), (METER, 1), (METER, 1)]
        await house.clock.advance(10 * SECOND)
        assert len(house.asked()) == 8  # power and energy of the whole and three clamps


async def test_nobody_is_asked_while_a_device_is_added_or_the_stick_is_silent() -> None:
    house = House(dump("zw095", METER))
    house.meters(METER)
    house.is_busy = True
    async with house.cared_for():
        await house.clock.advance(10 * SECOND)
        house.care.stick_heard()
        house.is_busy, house.stick.unanswered = False, 1
        await house.clock.advance(10 * SECOND)
    assert house.asked() == []


async def test_dead_or_unfinished_device_is_not_asked() -> None:
    dead = dump("zw095", METER, status=3)
    unfinished = dump("zw175", PLUG, ready=False)
    house = House(dead, unfinished)
    house.meters(METER)
    house.meters(PLUG)
    async with house.cared_for():
        await house.clock.advance(5 * SECOND)
    assert house.asked() == []


async def test_meter_that_does_not_answer_does_not_hold_up_the_others() -> None:
    house = House(dump("zw095", METER), dump("zw175", PLUG))
    house.meters(METER)
    house.meters(PLUG)
    house.client.answers["node.poll_value"] = failure(204)
    async with house.cared_for():
        await house.clock.advance(20 * SECOND)
    assert {node for node, _ in house.asked()} == {METER, PLUG}


# --- the stick ------------------------------------------------------------------------------------


def questions(house: House) -> int:
    return len(house.client.commands("controller.get_node_neighbors"))


async def test_stick_is_asked_only_after_a_silence() -> None:
    house = House()
    house.care.stick_heard()
    async with house.cared_for():
        await house.clock.advance(STICK_QUIET_FOR - SECOND)
        assert questions(house) == 0
        await house.clock.advance(MINUTE)
        assert questions(house) >= 1
    assert not house.stick.is_silent


async def test_hung_stick_is_noticed_restarted_rarely_and_noticed_when_it_is_back() -> None:
    house = House()
    house.client.answers["controller.get_node_neighbors"] = failure(200)
    async with house.cared_for():
        await house.clock.advance(10 * SECOND)
        assert house.stick.is_silent
        await house.clock.advance(10 * MINUTE)
        assert house.stick.soft_resets == 1
        await house.clock.advance(SOFT_RESET_EVERY)
        assert house.stick.soft_resets == 2
        house.client.answers["controller.get_node_neighbors"] = {"neighbors": []}
        await house.clock.advance(MINUTE)
        assert not house.stick.is_silent
    assert len(house.client.commands("driver.soft_reset")) == 2


# --- dead nodes -----------------------------------------------------------------------------------


async def test_dead_device_is_called_ever_more_rarely_until_it_answers() -> None:
    house = House(dump("zw175", PLUG, status=3))
    async with house.cared_for():
        await house.clock.advance(REVIVE_FIRST_PAUSE)
        assert len(house.client.commands("node.ping")) == 1
        await house.clock.advance(timedelta(hours=1))
        assert len(house.client.commands("node.ping")) == 6
        house.client.node_says(PLUG, "alive", oldStatus=3)
        await house.clock.advance(timedelta(hours=1))
        assert len(house.client.commands("node.ping")) == 6


async def test_failed_interview_is_tried_again() -> None:
    house = House(dump("zw175", PLUG, ready=False, interviewStage="Failed"))
    async with house.cared_for():
        await house.clock.advance(MINUTE)
    assert len(house.client.commands("node.refresh_info")) == 1


def test_patience_grows_and_is_forgotten() -> None:
    clock = FakeClock()
    patience = Patience(clock, MINUTE, 2 * MINUTE)
    assert patience.is_over(1)
    assert not patience.is_over(1)
    patience.forget(1)
    assert patience.is_over(1)


# --- presets --------------------------------------------------------------------------------------


async def test_meter_from_the_factory_is_told_the_whole_preset() -> None:
    house = House(dump("zw095", METER))
    node = house.client.played.controller.nodes[METER]
    house.wishes = settings(product(node), configuration(node), signed_power=True)
    async with house.cared_for():
        await house.clock.advance(SECOND)
    told = {m["valueId"]["property"]: m["value"] for m in house.client.commands("node.set_value")}
    besides = {2: 1, 13: 1}
    groups = {101: 0x702, 111: 30, 102: 0x3801, 112: 300, 103: 0x3F000C, 113: 600}
    assert told == besides | groups


async def test_meter_that_takes_no_preset_is_left_alone_for_a_while() -> None:
    house = House(dump("zw095", METER))
    house.wishes = [Setting(111, 30)]
    house.client.answers["node.set_value"] = failure(322)
    async with house.cared_for():
        await house.clock.advance(5 * MINUTE)
        assert len(house.client.commands("node.set_value")) == 1
        await house.clock.advance(10 * MINUTE)
        assert len(house.client.commands("node.set_value")) == 2
