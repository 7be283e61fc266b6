"""Home Assistant as a family, by words that a real one said."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from edge.devices import homeassistant, load
from edge.devices.homeassistant.connection import Connection, address
from edge.devices.homeassistant.family import HomeAssistant
from edge.errors import ConfigFault, EdgeError, Malformed, Refused, Unreachable
from edge.model import Device, DeviceState
from tests.house.family_bench import PATIENCE_S, KeptIntake, SteppedClock
from tests.house.paper_notebook import PaperNotebook
from tests.house.spoken_home_assistant import RELEASES, TOKEN, SpokenHomeAssistant
from tests.house.trusted_certificate import trusted_certificate


class House:
    def __init__(self, spoken: SpokenHomeAssistant) -> None:
        self.spoken = spoken
        self.clock = SteppedClock()
        self.intake = KeptIntake(self.clock)
        self.notebook = PaperNotebook()
        self.failures: list[EdgeError] = []
        self.failed = asyncio.Event()

    async def config(self) -> Mapping[str, Any]:
        found = await homeassistant.check({"address": self.spoken.url}, self.secret, self.clock)
        return {"address": self.spoken.url, "history": "none"} | {
            field: [choice.value for choice in found.choices if choice.field == field]
            for field in ("entities", "switches")
        }

    def secret(self, name: str) -> str | None:
        return TOKEN if name == "homeassistant.token" else None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[HomeAssistant]:
        family = homeassistant.create(
            await self.config(), self.secret, self.intake, self.clock, self.notebook
        )

        async def keep() -> None:
            while True:
                try:
                    await family.run()
                except EdgeError as problem:
                    self.failures.append(problem)
                    self.failed.set()
                    await self.clock.sleep(timedelta(seconds=30))

        task = asyncio.create_task(keep())
        try:
            await self.intake.until(lambda: len({r.channel_key for r in self.intake.readings}) == 5)
            await self.clock.until_resting()
            yield family
        finally:
            task.cancel()
            await asyncio.wait([task])

    def values(self, name: str) -> list[float]:
        key = next(k for k, c in self.intake.channels.items() if c.name == name)
        return [reading.value for reading in self.intake.of(key)]


@pytest.fixture(params=RELEASES)
async def house(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    spoken = SpokenHomeAssistant(request.param)
    async with spoken.serve():
        yield House(spoken)


def named(devices: list[Device], name: str) -> Device:
    return next(device for device in devices if device.name == name)


async def test_values_of_either_release_arrive(house: House) -> None:
    async with house.running():
        assert house.values("Grid power") == [800.0]
        assert house.values("Solar power") == [1500.0]
        assert house.values("Grid export") == [99.0]
        await house.clock.pass_by(timedelta(seconds=6))
        await house.spoken.set("sensor.grid_power", "-12.5")
        await house.intake.until(lambda: house.values("Grid power")[-1] == -12.5)
    assert not house.failures


async def test_messages_that_come_as_a_list_are_understood(house: House) -> None:
    house.spoken.as_list = True
    async with house.running():
        assert house.values("Grid power") == [800.0]


async def test_changes_each_second_are_said_each_five(house: House) -> None:
    async with house.running() as family:
        for value in range(10):
            await house.spoken.set("sensor.grid_power", str(value))
        await family.turn_on(named(family.devices(), "Boiler").device)  # all of it has arrived
        await house.clock.pass_by(timedelta(seconds=6))
    assert house.values("Grid power") == [800.0, 9.0]


async def test_constant_value_is_held_while_it_is_reported(house: House) -> None:
    async with house.running():
        await house.clock.pass_by(timedelta(minutes=5, seconds=1))
        assert house.values("Grid power") == [800.0] * 6
        assert house.values("Grid import") == [1234.5] * 2
        house.spoken.reported_ago = timedelta(hours=2)
        await house.clock.pass_by(timedelta(minutes=5))
    assert house.values("Grid power") == [800.0] * 6


async def test_home_assistant_is_heard_and_held_by_https_too(tmp_path: Path) -> None:
    spoken = SpokenHomeAssistant()
    with trusted_certificate(tmp_path) as certificate:
        async with spoken.serve(certificate) as url:
            assert url.startswith("https:")
            house = House(spoken)
            async with house.running():
                await house.clock.pass_by(timedelta(minutes=2, seconds=1))
    assert not house.failures
    assert house.values("Grid power") == [800.0] * 3


@pytest.mark.parametrize("gap", ["unknown", "unavailable"])
async def test_value_that_is_no_value_is_a_gap(house: House, gap: str) -> None:
    async with house.running() as family:
        await house.spoken.set("sensor.grid_power", gap)
        await house.clock.pass_by(timedelta(minutes=5))
        assert house.values("Grid power") == [800.0]
        assert named(family.devices(), "Grid power").state is DeviceState.DEAD
        await house.spoken.set("sensor.grid_power", "7")
        await house.intake.until(lambda: house.values("Grid power")[-1] == 7.0)


async def test_switch_is_proved_by_the_state_event(house: House) -> None:
    async with house.running() as family:
        boiler = named(family.devices(), "Boiler").device
        await family.turn_off(boiler, None)
        assert house.spoken.calls() == ["switch.turn_off"]
        assert await family.is_on(boiler) is False
        await family.turn_on(boiler)
        assert await family.is_on(boiler) is True


async def test_success_that_proves_nothing_is_found_out(house: House) -> None:
    house.spoken.deaf = True
    async with house.running() as family:
        family.confirm_within_s = 0.05
        with pytest.raises(Unreachable, match="does not say"):
            await family.turn_off(named(family.devices(), "Boiler").device, None)


async def test_half_an_hour_is_no_timer_of_home_assistant(house: House) -> None:
    async with house.running() as family:
        boiler = named(family.devices(), "Boiler")
        assert boiler.own_timers == ()
        with pytest.raises(Refused):
            await family.turn_off(boiler.device, timedelta(minutes=30))
        with pytest.raises(Refused):
            await family.turn_off("nothing", None)


async def test_lost_connection_is_said_and_joined_again(house: House) -> None:
    async with house.running() as family:
        boiler = named(family.devices(), "Boiler").device
        house.clock.trusted = False
        await house.spoken.hang_up()
        await house.clock.until_resting()
        async with asyncio.timeout(PATIENCE_S):
            await house.failed.wait()
        assert isinstance(house.failures[0], Unreachable)
        with pytest.raises(Unreachable):
            await family.turn_off(boiler, None)
        await house.clock.pass_by(timedelta(minutes=1))
        assert house.values("Grid power")[-1] == 800.0
        assert len(house.values("Grid power")) >= 2


async def test_start_of_home_assistant_is_waited_for(house: House) -> None:
    config = await house.config()
    house.spoken.answers["get_config"]["state"] = "STARTING"
    family = homeassistant.create(config, house.secret, house.intake, house.clock, house.notebook)
    task = asyncio.create_task(family.run())
    await house.clock.until_resting()
    assert not house.intake.readings
    house.spoken.answers["get_config"]["state"] = "RUNNING"
    await house.clock.pass_by(timedelta(seconds=2))
    assert house.intake.readings
    task.cancel()
    await asyncio.wait([task])
    house.spoken.answers["get_config"]["state"] = "STARTING"
    with pytest.raises(Unreachable, match="still starting"):
        await house.config()


async def test_token_that_is_refused_asks_for_the_person(house: House) -> None:
    house.spoken.token = "another"
    with pytest.raises(Refused, match="new long-lived access token"):
        await house.config()


@pytest.mark.parametrize("words", ["<html>", "7", '{"id": 1}', '[["x"]]', "null"])
async def test_words_without_sense_end_the_session_as_malformed(house: House, words: str) -> None:
    async with house.running():
        await house.spoken.say(words)
        async with asyncio.timeout(PATIENCE_S):
            await house.failed.wait()
    assert isinstance(house.failures[0], Malformed)


async def test_event_of_an_unknown_entity_is_passed_over(house: House) -> None:
    async with house.running():
        await house.spoken.tell({"c": {"sensor.other": {"+": {"s": "1"}}}, "r": ["sensor.gone"]})
        await house.spoken.tell({})
        await house.clock.pass_by(timedelta(seconds=10))
    assert not house.failures


async def test_entity_that_goes_is_a_gap_and_the_others_go_on(house: House) -> None:
    async with house.running() as family:
        ident = named(family.devices(), "Grid power").device
        del house.spoken.states["sensor.grid_power"]
        await house.spoken.tell({"r": ["sensor.grid_power"]})
        await house.clock.pass_by(timedelta(seconds=10))
        told = len(house.values("Grid power"))
        await house.clock.pass_by(timedelta(minutes=10))
        [gone] = [device for device in family.devices() if device.device == ident]
        assert (gone.state, gone.model) == (DeviceState.DEAD, "no longer in Home Assistant")
        assert len(house.values("Grid power")) == told
        assert len(house.values("Solar power")) > 9
    assert not house.failures


async def test_what_is_no_home_assistant_says_so(house: House) -> None:
    house.spoken.welcome = {"type": "hello"}
    with pytest.raises(Malformed, match="not Home Assistant"):
        await house.config()


@pytest.mark.parametrize("told", [7, [7], [{"id": "x"}], {"a": 1}])
async def test_entities_in_an_unknown_shape_are_malformed(house: House, told: object) -> None:
    house.spoken.answers["config/entity_registry/list"] = told
    with pytest.raises(Malformed, match="entities"):
        await house.config()


async def test_dashboard_of_tomorrow_only_preselects_nothing(house: House) -> None:
    house.spoken.answers["energy/get_prefs"] = {"energy_sources": ["solar"]}
    found = await homeassistant.check({"address": house.spoken.url}, house.secret, house.clock)
    assert found.channels
    assert found.preselected == frozenset()


async def test_waiting_command_ends_with_the_connection(house: House) -> None:
    async def ask_and_lose() -> None:
        async with Connection.opened(house.spoken.url, TOKEN) as connection:
            house.spoken.mute = True
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(house.spoken.hang_up())
                await connection.ask("get_config")

    with pytest.raises(Unreachable):
        await ask_and_lose()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("192.168.1.5", "http://192.168.1.5:8123"),
        ("homeassistant.local:80", "http://homeassistant.local:80"),
        ("https://home.example/", "https://home.example:443"),
        ("http://[fe80::1]:8123", "http://[fe80::1]:8123"),
    ],
)
def test_addresses_are_taken_as_people_type_them(given: str, expected: str) -> None:
    assert address(given) == expected


@pytest.mark.parametrize("given", ["ftp://x", "http://", "http://x:port", "http://x:99999"])
def test_address_that_is_none_is_a_fault(given: str) -> None:
    with pytest.raises(ConfigFault):
        address(given)


def test_every_fault_of_a_configuration_is_named_at_once() -> None:
    with pytest.raises(ConfigFault) as caught:
        homeassistant.create(
            {"history": "x", "entities": ["abc"], "switches": "b"},
            {}.get,
            KeptIntake(SteppedClock()),
            SteppedClock(),
            PaperNotebook(),
        )
    for name in ("address", "token", "history", "entities", "switches"):
        assert name in str(caught.value)


def test_family_is_found_by_its_name() -> None:
    assert load("homeassistant") is homeassistant
