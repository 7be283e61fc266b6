"""A Smappee monitor in the house."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from edge.devices import smappee
from edge.devices.smappee.local import SmappeeInHouse, powers_w
from edge.errors import EdgeError, Malformed, Refused
from edge.model import BoxTime, Direction, Kind
from tests.house.family_bench import KeptIntake, SteppedClock
from tests.house.local_smappee import LocalSmappeeMonitor
from tests.house.paper_notebook import PaperNotebook


class House:
    def __init__(self, monitor: LocalSmappeeMonitor, address: str) -> None:
        self.monitor, self.address = monitor, address
        self.clock = SteppedClock()
        self.intake = KeptIntake(self.clock)
        self.failures: list[EdgeError] = []

    def family(self, password: str | None = None) -> SmappeeInHouse:
        secrets = {"smappee.local_password": password} if password else {}
        made = smappee.create(
            {"way": "local", "address": self.address},
            secrets.get,
            self.intake,
            self.clock,
            PaperNotebook(),
        )
        assert isinstance(made, SmappeeInHouse)
        return made

    @asynccontextmanager
    async def running(self, password: str | None = None) -> AsyncIterator[SmappeeInHouse]:
        family = self.family(password)

        async def keep() -> None:
            while True:
                try:
                    await family.run()
                except EdgeError as problem:
                    self.failures.append(problem)
                    await self.clock.sleep(timedelta(seconds=30))

        task = asyncio.create_task(keep())
        try:
            await self.clock.until_resting()
            yield family
        finally:
            task.cancel()
            await asyncio.wait([task])


@pytest.fixture
async def house() -> AsyncIterator[House]:
    monitor = LocalSmappeeMonitor()
    async with monitor.serve() as address:
        yield House(monitor, address)


async def test_each_phase_is_a_channel_in_watt(house: House) -> None:
    async with house.running():
        await house.clock.pass_by(timedelta(seconds=10))
    assert [r.value for r in house.intake.of("phase0")] == [63.292, 63.292]
    assert house.intake.of("phase0")[1].taken_at == BoxTime(1, 10_000)
    solar = house.intake.channels["smappee/local/phase3/active_power/export"]
    assert (solar.direction, solar.kind) == (Direction.EXPORT, Kind.INSTANTANEOUS)
    assert not house.intake.unannounced


async def test_forgotten_session_is_renewed_without_a_word(house: House) -> None:
    async with house.running():
        house.monitor.logged_on = False
        await house.clock.pass_by(timedelta(seconds=10))
    assert not house.failures
    assert len(house.intake.of("phase0")) == 2


async def test_wrong_password_asks_for_the_person(house: House) -> None:
    async with house.running("other"):
        [problem] = house.failures
    assert isinstance(problem, Refused)


async def test_plugs_switch_and_say_that_they_cannot_say(house: House) -> None:
    async with house.running() as family:
        assert [d.device for d in family.devices() if d.is_switch] == ["local.1"]
        house.monitor.logged_on = False
        await family.turn_off("local.1", None)
        assert house.monitor.plug_on == {"1": False}
        await family.turn_on("local.1")
        assert house.monitor.plug_on == {"1": True}
        assert await family.is_on("local.1") is None
        with pytest.raises(Refused, match="no timer"):
            await family.turn_off("local.1", timedelta(minutes=15))
        with pytest.raises(Refused):
            await family.turn_on("local.7")


async def test_check_shows_phases_and_plugs(house: House) -> None:
    found = await smappee.check({"way": "local", "address": house.address}, {}.get, house.clock)
    assert len(found.channels) == 4
    assert [device.name for device in found.devices] == ["Smappee", "Boiler"]


@pytest.mark.parametrize("told", [{}, [], [{"key": "phase0ActivePower", "value": "?"}], "x", None])
def test_answer_without_a_power_is_malformed(told: object) -> None:
    with pytest.raises(Malformed):
        powers_w(told)
