"""The box and a real Home Assistant: live values, gaps, restarts, renames, tokens, switching."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from edge.clock import SystemClock
from edge.devices import homeassistant
from edge.devices.homeassistant.family import HomeAssistant as Family
from edge.errors import EdgeError, Refused, Unreachable
from edge.family import Choice, Found
from edge.model import Channel, Device, DeviceState, Kind, Quantity
from edge.overlap import seen_twice
from edge.uplink.mapping import default_mapping
from tests.house.family_bench import KeptIntake, SteppedClock
from tests.house.home_assistant import HomeAssistant, Shown
from tests.house.paper_notebook import PaperNotebook

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one Home Assistant for all

ROW = timedelta(minutes=5)
# The box's own clamp and Smappee, which this Home Assistant shows too.
CLAMP = Shown("sensor.clamp", "zwave_js", f"{0x7E570001}.2-50-1-value-66049", "Clamp")
MONITOR = Shown("sensor.monitor", "smappee", "5100000000-123-total_power", "Monitor")


class Joined:
    """A box that reads everything this Home Assistant has and uses every switch."""

    def __init__(self, house: HomeAssistant, config: Mapping[str, Any]) -> None:
        self.house, self.config = house, config
        self.clock = SteppedClock(datetime.now(UTC).replace(microsecond=0))
        self.intake = KeptIntake(self.clock)
        self.notebook = PaperNotebook()
        self.failures: list[EdgeError] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Family]:
        """Kept running as the supervisor does."""
        family = homeassistant.create(
            self.config,
            {"homeassistant.token": self.house.token}.get,
            self.intake,
            self.clock,
            self.notebook,
        )

        async def keep() -> None:
            while True:
                try:
                    await family.run()
                except EdgeError as problem:
                    self.failures.append(problem)
                    await asyncio.sleep(0.2)

        task = asyncio.create_task(keep())
        try:
            await self.clock.until_resting()
            yield family
        finally:
            task.cancel()
            await asyncio.wait([task])

    def key(self, name: str) -> str:
        """The key of the channel called `name`."""
        return next(k for k, channel in self.intake.channels.items() if channel.name == name)

    def last(self, name: str) -> float | None:
        values = [reading.value for reading in self.intake.of(self.key(name))]
        return values[-1] if values else None

    async def passes_until(self, condition: Callable[[], bool]) -> None:
        """Let the box's time pass, and real time with it, until `condition`."""
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.05)
                await self.clock.advance(timedelta(seconds=1))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[HomeAssistant]:
    folder = tmp_path_factory.mktemp("homeassistant")
    async with HomeAssistant.started(folder, shown=[CLAMP, MONITOR]) as started:
        yield started


def chosen(choices: tuple[Choice, ...], field: str, *, all_: bool = True) -> list[str]:
    return [c.value for c in choices if c.field == field and (all_ or c.preselected)]


async def check(house: HomeAssistant, config: Mapping[str, Any]) -> Found:
    clock = SystemClock(datetime(2026, 1, 1, tzinfo=UTC))
    return await homeassistant.check(config, {"homeassistant.token": house.token}.get, clock)


async def configuration(house: HomeAssistant, **more: object) -> Mapping[str, Any]:
    config: dict[str, Any] = {"address": house.url}
    found = Found(())
    async with asyncio.timeout(30):
        while not found.channels:
            try:
                found = await check(house, config)
            except Unreachable:  # it is still starting
                await asyncio.sleep(0.3)
    return (
        config
        | {
            "entities": chosen(found.choices, "entities"),
            "switches": chosen(found.choices, "switches"),
            "history": "none",
        }
        | more
    )


def named(devices: list[Device], name: str) -> Device:
    return next(device for device in devices if device.name == name)


async def test_values_arrive_in_their_unit_and_follow(house: HomeAssistant) -> None:
    joined = Joined(house, await configuration(house))
    async with joined.running():
        await joined.passes_until(lambda: len({r.channel_key for r in joined.intake.readings}) == 5)
        assert joined.last("Grid power") == 800.0
        assert joined.last("Solar power") == 1500.0
        assert joined.last("Grid import") == 1234.5
        assert joined.last("Grid export") == 99.0
        assert joined.last("Gas") == 500.25
        assert joined.intake.channels[joined.key("Gas")].unit == "m³"
        await house.set("grid_power", -321.5)
        await joined.passes_until(lambda: joined.last("Grid power") == -321.5)
        await house.set("grid_power", 800)
    assert not joined.failures
    assert not joined.intake.unannounced


async def test_value_that_does_not_change_is_held(house: HomeAssistant) -> None:
    joined = Joined(house, await configuration(house))
    async with joined.running():
        await joined.passes_until(lambda: bool(joined.intake.of(joined.key("Grid power"))))
        before = len(joined.intake.of(joined.key("Grid power")))
        await joined.clock.pass_by(timedelta(minutes=3))
    assert len(joined.intake.of(joined.key("Grid power"))) - before in (2, 3)


async def test_meter_that_is_unavailable_is_a_gap(house: HomeAssistant) -> None:
    joined = Joined(house, await configuration(house))
    async with joined.running() as family:
        await joined.passes_until(lambda: bool(joined.intake.of(joined.key("Grid power"))))
        await house.turn("input_boolean.meter_present", on=False)
        await joined.passes_until(
            lambda: named(family.devices(), "Grid power").state is DeviceState.DEAD
        )
        before = len(joined.intake.of(joined.key("Grid power")))
        await joined.clock.pass_by(timedelta(minutes=5))
        assert len(joined.intake.of(joined.key("Grid power"))) == before
        await house.turn("input_boolean.meter_present", on=True)
        await joined.passes_until(lambda: len(joined.intake.of(joined.key("Grid power"))) > before)


async def test_switching_is_proved_by_the_state(house: HomeAssistant) -> None:
    joined = Joined(house, await configuration(house))
    async with joined.running() as family:
        boiler = named(family.devices(), "Boiler").device
        await family.turn_off(boiler, None)
        assert await house.state("switch.boiler") == "off"
        assert await family.is_on(boiler) is False
        await family.turn_on(boiler)
        assert await family.is_on(boiler) is True
        with pytest.raises(Refused, match="no timer"):
            await family.turn_off(boiler, timedelta(minutes=15))
        await house.turn("switch.boiler", on=False)
        await joined.passes_until(lambda: named(family.devices(), "Boiler").is_on is False)
        await house.turn("switch.boiler", on=True)


async def test_switch_that_obeys_in_words_only_is_found_out(house: HomeAssistant) -> None:
    joined = Joined(house, await configuration(house))
    async with joined.running() as family:
        family.confirm_within_s = 0.5
        deaf = named(family.devices(), "Deaf plug").device
        with pytest.raises(Unreachable, match="does not say"):
            await family.turn_off(deaf, None)


async def test_restart_of_home_assistant_is_lived_through(house: HomeAssistant) -> None:
    joined = Joined(house, await configuration(house))
    async with joined.running() as family:
        await joined.passes_until(lambda: bool(joined.intake.of(joined.key("Grid power"))))
        await house.stop()
        await joined.passes_until(lambda: bool(joined.failures))
        assert isinstance(joined.failures[0], Unreachable)
        assert {device.state for device in family.devices()} == {DeviceState.UNKNOWN}
        with pytest.raises(Unreachable):
            await family.turn_off(family.devices()[-1].device, None)
        before = len(joined.intake.readings)
        await house.start()
        await joined.passes_until(lambda: len(joined.intake.readings) >= before + 5)
    values = {reading.value for reading in joined.intake.of(joined.key("Grid import"))}
    assert values == {1234.5}  # nothing half-started was taken for a value


async def test_entity_that_is_renamed_stays_the_same_channel(house: HomeAssistant) -> None:
    joined = Joined(house, await configuration(house))
    async with joined.running():
        key = joined.key("Grid power")
        await house.as_admin(
            "config/entity_registry/update",
            entity_id="sensor.grid_power",
            new_entity_id="sensor.the_clamp",
        )
        await house.set("grid_power", 444)
        await joined.passes_until(lambda: joined.last("Grid power") == 444.0)
        assert joined.key("Grid power") == key
        await house.as_admin(
            "config/entity_registry/update",
            entity_id="sensor.the_clamp",
            new_entity_id="sensor.grid_power",
        )
        await house.set("grid_power", 800)
        await joined.passes_until(lambda: joined.last("Grid power") == 800.0)


async def test_entity_that_is_gone_is_shown_and_the_others_go_on(house: HomeAssistant) -> None:
    config = await configuration(house)
    joined = Joined(house, {**config, "entities": [*config["entities"], "0123456789ab:import"]})
    async with joined.running() as family:
        await joined.passes_until(lambda: bool(joined.intake.of(joined.key("Grid power"))))
        assert named(family.devices(), "0123456789ab").state is DeviceState.DEAD


async def test_time_without_the_box_is_filled_from_statistics(house: HomeAssistant) -> None:
    config = await configuration(house)
    now = datetime.now(UTC)
    first = now - timedelta(hours=3) + (datetime.min.replace(tzinfo=UTC) - now) % ROW
    starts = [first + i * ROW for i in range(34)]
    seconds = [{"start_ts": start.timestamp()} for start in starts]
    await house.restart_with_statistics(
        {
            "sensor.grid_power": ("W", [s | {"mean": 100.0 + i} for i, s in enumerate(seconds)]),
            "sensor.grid_export": (
                "Wh",
                [s | {"state": 90000.0 + i, "sum": float(i)} for i, s in enumerate(seconds)],
            ),
        }
    )
    joined = Joined(house, config)
    joined.notebook.pages["homeassistant.read-until"] = (first + timedelta(hours=1)).isoformat()
    async with joined.running():
        await joined.passes_until(lambda: bool(joined.intake.channels))
        power, export = joined.key("Grid power"), joined.key("Grid export")
        last = starts[-1]

        def filled() -> set[object]:
            return {reading.taken_at for reading in joined.intake.of(power)}

        await joined.passes_until(lambda: last in filled())
        await joined.clock.pass_by(timedelta(minutes=20))
    told = joined.intake.values(power)
    missed = [start for start in starts if start >= first + timedelta(hours=1)]
    for start in missed:
        value = 100.0 + starts.index(start)
        assert [told[start + timedelta(minutes=m)] for m in range(5)] == [value] * 5
    assert starts[10] not in told  # the box saw this itself
    counted = joined.intake.values(export)
    assert counted[missed[0] + ROW] == pytest.approx(90.0 + starts.index(missed[0]) / 1000)
    noted = datetime.fromisoformat(joined.notebook.pages["homeassistant.read-until"])
    assert joined.clock.wall_now() - noted < timedelta(minutes=1)


async def test_energy_dashboard_is_preselected(house: HomeAssistant) -> None:
    await house.show_on_dashboard()
    found = await check(house, {"address": house.url})
    preselected = {c.label for c in found.choices if c.preselected}
    assert preselected == {"Grid import (sensor.grid_import)", "Grid export (sensor.grid_export)"}
    assert len(chosen(found.choices, "entities")) == 7
    assert {key.rpartition("/")[2] for key in found.preselected or ()} == {"import", "export"}


async def test_meters_the_box_reads_itself_are_known(house: HomeAssistant) -> None:
    await house.say(CLAMP, 812.5)
    await house.say(MONITOR, 620.0)
    found = await check(house, {"address": house.url})
    repeated = {c.name: c.repeats for c in found.channels if c.repeats}
    assert repeated == {
        "Clamp": "zwave/7e570001-2/1/active_power/import",
        "Monitor": "smappee/123/consumption/active_energy/import",
    }
    own = [
        Channel("zwave", "7e570001-2", "1", Quantity.ACTIVE_POWER, Kind.INSTANTANEOUS),
        Channel("smappee", "123", "consumption", Quantity.ACTIVE_ENERGY, Kind.INTERVAL),
    ]
    offered = default_mapping([*own, *found.channels])
    sent = {term.channel_key for feed in offered for term in feed.terms}
    assert {channel.key for channel in own} <= sent
    assert not sent & {c.key for c in found.channels if c.repeats}
    everything = [channel.key for channel in (*own, *found.channels)]
    assert len(seen_twice(everything, [*own, *found.channels])) == 2


async def test_token_that_was_revoked_asks_for_the_person(house: HomeAssistant) -> None:
    """Last: this Home Assistant lets the box in no more."""
    joined = Joined(house, await configuration(house))
    async with joined.running():
        await joined.passes_until(lambda: bool(joined.intake.readings))
        await house.revoke_box()
        await joined.passes_until(lambda: isinstance((joined.failures or [None])[-1], Refused))
    assert "new long-lived access token" in str(joined.failures[-1])
    with pytest.raises(Refused):
        await configuration(house)
