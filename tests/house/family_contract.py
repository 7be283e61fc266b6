"""What every family keeps: one suite for every Meter and Switch.

Each family brings a house of its own: a fake that speaks the real protocol, how to break it and how
to mend it. The suite runs in tests/unit/devices/test_contract.py for families with a fake, and in
tests/flow/test_zwave.py for Z-Wave on the real driver.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any, cast

import pytest

from edge.devices import load
from edge.errors import ConfigFault, EdgeError, Refused
from edge.family import Family, FieldKind
from edge.model import BoxTime, DeviceState, Kind, Switch
from tests.house.family_bench import KeptIntake, SteppedClock
from tests.house.paper_notebook import PaperNotebook


@dataclass
class House:
    """One family's other side. `config` and `secrets` reach it; `lose` takes it away."""

    family: str
    config: dict[str, Any]
    secrets: dict[str, str]
    switch: str | None  # Device.device of something that switches
    measure: Callable[[], Awaitable[None] | None]  # whatever makes a reading come
    lose: Callable[[], Awaitable[None] | None]
    wrong_secret: str | None  # the secret whose wrongness is Refused
    rests: bool = True  # whether it sleeps between two looks; no: it only listens


class Bench:
    """The family under test, at work in its house."""

    def __init__(self, house: House, clock: SteppedClock) -> None:
        self.house, self.clock = house, clock
        self.intake = KeptIntake(clock)
        self.notebook = PaperNotebook()
        self.ended: list[EdgeError] = []
        self.has_ended = asyncio.Event()

    def make(self, secrets: Mapping[str, str] | None = None) -> Family:
        return load(self.house.family).create(
            self.house.config,
            (self.house.secrets if secrets is None else secrets).get,
            self.intake,
            self.clock,
            self.notebook,
        )

    @asynccontextmanager
    async def running(self, family: Family) -> AsyncIterator[Family]:
        async def session() -> None:
            while True:  # as the supervisor does
                try:
                    await family.run()
                except EdgeError as problem:
                    self.ended.append(problem)
                self.has_ended.set()
                await self.clock.sleep(timedelta(seconds=30))

        task = asyncio.create_task(session())
        await asyncio.sleep(0)
        try:
            yield family
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()  # a bug, if it ended so

    @asynccontextmanager
    async def measuring(self) -> AsyncIterator[Family]:
        """At work, and a first reading came."""
        async with self.running(self.make()) as family:
            await _done(self.house.measure())
            await self.intake.until(lambda: bool(self.intake.readings))
            if self.house.rests:
                await self.clock.until_resting()
            yield family


class FamilyContract:
    """The promises. A module that collects it has a fixture `bench`."""

    async def test_every_reading_belongs_to_a_channel_announced_before(self, bench: Bench) -> None:
        async with bench.measuring():
            pass
        assert bench.intake.readings
        assert not bench.intake.unannounced
        assert all(key == channel.key for key, channel in bench.intake.channels.items())

    async def test_keys_are_those_of_the_family_and_stay_the_same_after_a_restart(
        self, bench: Bench
    ) -> None:
        async with bench.measuring() as family:
            assert family.family == bench.house.family
        before = set(bench.intake.channels)
        assert all(key.split("/")[0] == bench.house.family for key in before)
        assert all(len(key.split("/")) == 5 for key in before)
        bench.intake.readings.clear()
        await bench.clock.advance(timedelta(minutes=6))
        async with bench.measuring():
            pass
        assert set(bench.intake.channels) == before

    async def test_readings_bear_the_boxs_time_or_the_sources_utc(self, bench: Bench) -> None:
        async with bench.measuring():
            pass
        for reading in bench.intake.readings:
            channel = bench.intake.channels[reading.channel_key]
            if isinstance(reading.taken_at, BoxTime):
                assert channel.kind is not Kind.INTERVAL
            else:
                assert reading.taken_at.tzinfo is UTC
            assert reading.value == reading.value  # not a NaN

    async def test_making_a_family_asks_nothing_of_the_world(self, bench: Bench) -> None:
        family = bench.make()
        assert family.devices() == []
        assert not bench.intake.readings

    async def test_every_fault_is_named_before_anything_is_asked(self, bench: Bench) -> None:
        module = load(bench.house.family)
        way = {"way": bench.house.config["way"]} if "way" in bench.house.config else {}
        wanted = [
            field
            for field in module.fields
            if field.required
            and not field.default
            and (field.only_if is None or field.only_if[1] == way.get("way", "cloud"))
        ]
        with pytest.raises(ConfigFault) as caught:
            module.create(way, {}.get, bench.intake, bench.clock, bench.notebook)
        assert all(field.name in str(caught.value) for field in wanted)

    async def test_secrets_are_asked_for_as_passwords_and_shown_nowhere(self, bench: Bench) -> None:
        module = load(bench.house.family)
        passwords = {
            f"{bench.house.family}.{f.name}" for f in module.fields if f.kind is FieldKind.PASSWORD
        }
        assert set(bench.house.secrets) <= passwords
        async with bench.measuring() as family:
            shown = repr([family.devices(), bench.intake.channels, bench.notebook.pages])
        assert not [s for s in bench.house.secrets.values() if len(s) > 5 and s in shown]

    async def test_check_finds_what_running_announces(self, bench: Bench) -> None:
        async def check() -> set[str]:
            found = await load(bench.house.family).check(
                bench.house.config, bench.house.secrets.get, bench.clock
            )
            return {channel.key for channel in found.channels}

        if not load(bench.house.family).fields:  # nothing is asked, so nothing is tried
            assert await check() == set()
            return
        checking = asyncio.create_task(check())
        await asyncio.sleep(0)
        await _done(bench.house.measure())
        offered = await checking
        async with bench.measuring():
            pass
        assert set(bench.intake.channels) <= offered

    async def test_other_side_that_goes_ends_the_session_with_an_error_in_words(
        self, bench: Bench
    ) -> None:
        async with bench.measuring():
            await _done(bench.house.lose())
            if bench.house.rests:
                await bench.clock.pass_by(timedelta(minutes=5))
            async with asyncio.timeout(10):
                await bench.has_ended.wait()
        assert len(str(bench.ended[0])) > 10

    async def test_wrong_secret_is_refused_and_says_what_to_do(self, bench: Bench) -> None:
        if bench.house.wrong_secret is None:
            return
        wrong = bench.house.secrets | {bench.house.wrong_secret: "certainly not this"}
        async with bench.running(bench.make(wrong)):
            async with asyncio.timeout(10):
                await bench.has_ended.wait()
        assert isinstance(bench.ended[0], Refused)
        assert "certainly not this" not in str(bench.ended[0])

    async def test_devices_are_named_and_alive_while_measuring(self, bench: Bench) -> None:
        async with bench.measuring() as family:
            devices = family.devices()
        assert devices
        assert all(device.family == bench.house.family and device.name for device in devices)
        measured = {channel.device_key for channel in bench.intake.channels.values()}
        alive = {device.key for device in devices if device.state is DeviceState.ALIVE}
        assert measured & alive

    async def test_switch_goes_off_and_on_and_says_so_where_it_can(self, bench: Bench) -> None:
        if bench.house.switch is None:
            assert not hasattr(load(bench.house.family), "turn_off")
            return
        async with bench.measuring() as family:
            switch = cast("Switch", family)
            await switch.turn_off(bench.house.switch, None)
            assert await switch.is_on(bench.house.switch) in (False, None)
            await switch.turn_on(bench.house.switch)
            assert await switch.is_on(bench.house.switch) in (True, None)

    async def test_hold_is_kept_exactly_or_refused(self, bench: Bench) -> None:
        if bench.house.switch is None:
            return
        async with bench.measuring() as family:
            switch = cast("Switch", family)
            [device] = [d for d in family.devices() if d.device == bench.house.switch]
            for minutes in (5, 7, 15, 20, 30, 60, 90):
                hold = timedelta(minutes=minutes)
                if hold in device.own_timers:
                    await switch.turn_off(bench.house.switch, hold)
                else:
                    with pytest.raises(EdgeError):
                        await switch.turn_off(bench.house.switch, hold)

    async def test_switch_that_is_not_there_is_an_error_in_words(self, bench: Bench) -> None:
        if bench.house.switch is None:
            return
        async with bench.measuring() as family:
            switch = cast("Switch", family)
            for act in (switch.turn_on, switch.is_on):
                with pytest.raises(EdgeError):
                    await act("no such device")


async def _done(act: Awaitable[None] | None) -> None:
    if act is not None:
        await act
