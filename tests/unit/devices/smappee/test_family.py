"""The Smappee cloud as a family: windows, gaps, corrections, switching."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from edge.devices import load, smappee
from edge.devices.smappee.family import CloudSmappee
from edge.errors import ConfigFault, EdgeError, Malformed, Refused, Unreachable
from edge.model import DeviceState
from tests.house.family_bench import KeptIntake, SteppedClock
from tests.house.paper_notebook import PaperNotebook
from tests.house.smappee_cloud import (
    CLIENT_ID,
    CLIENT_SECRET,
    GAS_PULSES_PER_M3,
    LOCATION,
    PASSWORD,
    USERNAME,
    Fault,
    SmappeeCloud,
    consumption_wh,
    gas_pulses,
    solar_wh,
)

FIVE_MINUTES = timedelta(minutes=5)
CONSUMPTION = "smappee/123/consumption/active_energy/import"
SECRETS = {"smappee.client_secret": CLIENT_SECRET, "smappee.password": PASSWORD}


class House:
    """A cloud, a box's clock, and the family between them."""

    def __init__(self, cloud: SmappeeCloud, base_url: str, clock: SteppedClock) -> None:
        self.cloud, self.base_url, self.clock = cloud, base_url, clock
        self.intake = KeptIntake(clock)
        self.notebook = PaperNotebook()
        self.failures: list[EdgeError] = []

    def config(self, **more: object) -> Mapping[str, Any]:
        return {
            "cloud": self.base_url,
            "client_id": CLIENT_ID,
            "username": USERNAME,
            "history": "none",
        } | more

    def family(self, **more: object) -> CloudSmappee:
        made = smappee.create(
            self.config(**more), SECRETS.get, self.intake, self.clock, self.notebook
        )
        assert isinstance(made, CloudSmappee)
        return made

    @asynccontextmanager
    async def running(self, **more: object) -> AsyncIterator[CloudSmappee]:
        """The family at work, kept running as the supervisor does; rests after its first cycle."""
        family = self.family(**more)

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

    def starts(self, start: datetime, end: datetime) -> list[datetime]:
        """Every five-minute start in [start, end)."""
        first = start + (datetime.min.replace(tzinfo=UTC) - start) % FIVE_MINUTES
        return [first + i * FIVE_MINUTES for i in range(-((first - end) // FIVE_MINUTES))]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    clock = SteppedClock(datetime(2026, 3, 20, 12, tzinfo=UTC))
    cloud = SmappeeCloud(clock.wall_now)
    async with cloud.serve() as base_url:
        yield House(cloud, base_url, clock)


def seconds(moment: datetime) -> int:
    return int(moment.timestamp())


async def test_offers_each_interval_as_the_cloud_measured_it(house: House) -> None:
    async with house.running():
        await house.clock.pass_by(timedelta(hours=1))
    now = house.clock.wall_now()
    used = house.intake.values(CONSUMPTION)
    assert set(house.starts(now - timedelta(hours=3), now - timedelta(minutes=20))) <= set(used)
    assert used == {start: consumption_wh(seconds(start)) / 1000 for start in used}
    made = house.intake.values("solar")
    assert made == {start: solar_wh(seconds(start)) / 1000 for start in used}
    gas = house.intake.values("/gas/")
    assert gas == {start: gas_pulses(seconds(start)) / GAS_PULSES_PER_M3 for start in used}
    assert not house.intake.unannounced


async def test_reading_the_same_window_again_offers_nothing_twice(house: House) -> None:
    async with house.running():
        await house.clock.pass_by(timedelta(hours=2))
    offered = [(reading.channel_key, reading.taken_at) for reading in house.intake.readings]
    assert len(offered) == len(set(offered))


async def test_only_five_minute_values_are_asked_for(house: House) -> None:
    async with house.running():
        pass
    assert {asked.query["aggregation"] for asked in house.cloud.asked("consumption")} == {"1"}


async def test_whole_gap_after_an_outage_of_the_line_is_read(house: House) -> None:
    async with house.running():
        house.cloud.faults += [Fault(503) for _ in range(60)]
        await house.clock.pass_by(timedelta(minutes=30))
        assert all(isinstance(problem, Unreachable) for problem in house.failures)
        assert house.failures
        house.cloud.faults.clear()
        house.clock.step_wall(timedelta(days=2))  # as if the outage had lasted
        await house.clock.pass_by(timedelta(minutes=10))
    now = house.clock.wall_now()
    wanted = house.starts(now - timedelta(days=2), now - timedelta(minutes=30))
    assert set(wanted) <= set(house.intake.values(CONSUMPTION))


async def test_restart_asks_for_no_more_than_it_missed(house: House) -> None:
    async with house.running():
        pass
    house.cloud.log.clear()
    house.intake.readings.clear()
    house.clock.step_wall(timedelta(days=3))
    async with house.running():
        await house.clock.pass_by(timedelta(seconds=5))
    taken = house.intake.values(CONSUMPTION)
    now = house.clock.wall_now()
    wanted = house.starts(now - timedelta(days=3), now - timedelta(minutes=15))
    assert set(wanted) <= set(taken)
    day = now - timedelta(days=3)
    assert min(taken) >= day.replace(hour=0)  # whole days


async def test_late_and_corrected_records_are_offered_when_they_come(house: House) -> None:
    now = house.clock.wall_now()
    gap = (now - timedelta(hours=20), now - timedelta(hours=10))
    house.cloud.off_line.append(gap)
    async with house.running(history="all"):
        await house.clock.pass_by(timedelta(minutes=1))
        assert not set(house.starts(*gap)) & set(house.intake.values(CONSUMPTION))
        house.cloud.off_line.clear()
        corrected = now - timedelta(hours=30)
        house.cloud.corrections[seconds(corrected)] = 999.0
        await house.clock.pass_by(timedelta(hours=1, minutes=6))
    used = house.intake.values(CONSUMPTION)
    assert set(house.starts(*gap)) <= set(used)
    assert used[corrected] == 0.999


async def test_interval_that_never_came_stays_a_gap(house: House) -> None:
    now = house.clock.wall_now()
    gap = (now - timedelta(hours=1), now - timedelta(minutes=30))
    house.cloud.off_line.append(gap)
    async with house.running():
        await house.clock.pass_by(timedelta(hours=2))
    assert not set(house.starts(*gap)) & set(house.intake.values(CONSUMPTION))


async def test_first_start_offers_the_fourteen_days_and_shows_progress(house: House) -> None:
    async with house.running(history="all") as family:
        assert 0 < float(family.devices()[0].details["history_percent"] or 0) < 100
        await house.clock.pass_by(timedelta(seconds=20))
        assert family.devices()[0].details["history_percent"] == 100
        now = house.clock.wall_now()
        wanted = set(house.starts(now - timedelta(days=13, hours=23), now - timedelta(minutes=15)))
        assert wanted <= set(house.intake.values(CONSUMPTION))
        first = house.intake.of(CONSUMPTION)[0].taken_at
        assert isinstance(first, datetime)
        assert first > now - timedelta(days=1, minutes=10)  # what happens now does not wait


async def test_only_from_now_on_means_never_what_was_before(house: House) -> None:
    """Neither the windows that are read again nor a restart bring it in."""
    joined = house.clock.wall_now()
    for _ in range(2):
        async with house.running(history="none"):
            await house.clock.pass_by(timedelta(minutes=65))  # two days are read again
            await house.clock.oversleep(timedelta(days=1))  # and all that the cloud keeps
            await house.clock.pass_by(timedelta(minutes=10))
    assert min(house.intake.values("smappee/")) >= joined - timedelta(hours=2)


@pytest.mark.parametrize(("late", "read_again_after"), [(74, 24), (46, 1)], ids=["days", "hours"])
async def test_what_comes_days_late_comes_with_its_whole_day(
    house: House, late: int, read_again_after: int
) -> None:
    """By then the box has let go of the rest of the hour, or of the day, it belongs to."""
    missed = house.clock.wall_now() - timedelta(hours=late)
    house.cloud.off_line.append((missed, missed + FIVE_MINUTES))
    async with house.running(history="all"):
        await house.clock.pass_by(timedelta(minutes=1))
        house.intake.readings.clear()
        house.cloud.off_line.clear()
        await house.clock.oversleep(timedelta(hours=read_again_after))
        await house.clock.pass_by(timedelta(minutes=10))
    day = missed.replace(hour=0)
    offered = house.intake.values(CONSUMPTION)
    old = max(day + timedelta(days=1), house.clock.wall_now() - timedelta(days=2))
    assert {at for at in offered if at < old} == set(house.starts(day, day + timedelta(days=1)))
    assert day in house.intake.values("solar")  # the other side of a difference


async def test_nothing_is_asked_while_the_clock_is_not_trusted(house: House) -> None:
    house.clock.trusted = False
    async with house.running():
        await house.clock.pass_by(timedelta(minutes=5))
        assert not house.cloud.log
        house.clock.trusted = True
        await house.clock.pass_by(timedelta(seconds=10))
    assert house.intake.readings


@pytest.mark.parametrize("body", ["<html>", '{"error": 1}', '{"consumptions": 7}', "[]"])
async def test_body_of_another_shape_is_counted_and_asked_again(house: House, body: str) -> None:
    house.cloud.faults.append(Fault(200, body, where="consumption"))
    async with house.running() as family:
        [problem] = house.failures
        assert isinstance(problem, Malformed)
        assert family.devices()[0].details["malformed"] == 1
        await house.clock.pass_by(timedelta(minutes=1))
    assert house.intake.of(CONSUMPTION)


@pytest.mark.parametrize(
    "told",
    [
        '{"serviceLocationId": 123, "sensors": null, "actuators": [7, {"name": "x"}]}',
        '{"serviceLocationId": 123, "actuators": [{"id": 1, "states": [null]}, {"id": "x"}]}',
        '{"serviceLocationId": 123, "sensors": [{"id": 4, "channels": [1]}], "appliances": [{}]}',
    ],
)
async def test_description_with_holes_leaves_out_what_has_none(house: House, told: str) -> None:
    house.cloud.faults.append(Fault(200, told, where="info"))
    async with house.running() as family:
        assert [device.device for device in family.devices()] == ["123"]
    assert not house.failures
    assert house.intake.of(CONSUMPTION)


async def test_appliance_events_come_only_where_wanted(house: House) -> None:
    async with house.running():
        pass
    assert not house.cloud.asked("events")
    async with house.running(appliances=[1]):
        await house.clock.pass_by(timedelta(minutes=11))
    events = house.intake.of("appliance-1")
    assert len({event.taken_at for event in events}) == len(events)
    assert {reading.value for reading in house.intake.of("appliance-1")} == {340.0, 0.0}


async def test_location_that_is_gone_asks_for_the_person(house: House) -> None:
    async with house.running(locations=[LOCATION, 999]):
        [problem] = house.failures
    assert isinstance(problem, Refused)
    assert "999" in str(problem)


async def test_silent_monitor_shows_as_dead(house: House) -> None:
    now = house.clock.wall_now()
    async with house.running() as family:
        assert family.devices()[0].state is DeviceState.ALIVE
        house.cloud.off_line.append((now - timedelta(minutes=5), now + timedelta(days=1)))
        await house.clock.pass_by(timedelta(hours=1))
        assert family.devices()[0].state is DeviceState.DEAD


async def test_history_is_offered_again_for_channels_mapped_later(house: House) -> None:
    async with house.running(history="all") as family:
        await house.clock.pass_by(timedelta(seconds=20))
        house.intake.readings.clear()
        await family.offer_history({CONSUMPTION: None, "zwave/1/0/active_power/import": None})
        await house.clock.pass_by(timedelta(minutes=6))
        assert len(house.intake.values(CONSUMPTION)) > 14 * 280
        assert len(house.intake.values("solar")) < 5
        house.intake.readings.clear()
        await family.offer_history({"smappee/999/consumption/active_energy/import": None})
        await house.clock.pass_by(timedelta(minutes=6))
    assert len(house.intake.values(CONSUMPTION)) < 5


# --- switching ---------------------------------------------------------------------------------


async def test_half_hour_off_is_the_devices_own_timer(house: House) -> None:
    async with house.running() as family:
        await family.turn_off("123.1", timedelta(minutes=30))
        assert house.cloud.log[-1].path.endswith("/actuator/1/off")
        assert house.cloud.log[-1].body == '{"duration": 1800}'
        assert await family.is_on("123.1") is False
        assert await family.is_on("123.2") is True
        house.clock.step_wall(timedelta(minutes=31))
        assert await family.is_on("123.1") is True


async def test_no_hold_means_until_told_otherwise(house: House) -> None:
    async with house.running() as family:
        await family.turn_off("123.1", None)
        assert house.cloud.log[-1].body == "{}"
        await family.turn_on("123.1")
        assert await family.is_on("123.1") is True


@pytest.mark.parametrize("hold_s", [0, 1200, 600.5, 7200])
async def test_duration_that_would_mean_for_ever_is_never_sent(house: House, hold_s: float) -> None:
    async with house.running() as family:
        with pytest.raises(Refused, match="for ever"):
            await family.turn_off("123.1", timedelta(seconds=hold_s))
    assert not house.cloud.asked("/actuator/")


async def test_version_two_cannot_say_what_is_on(house: House) -> None:
    async with house.running(api="v2") as family:
        await family.turn_off("123.1", timedelta(minutes=5))
        assert await family.is_on("123.1") is None


@pytest.mark.parametrize("device", ["123", "123.9", "999.1", "", "a.b"])
async def test_switching_what_is_no_actuator_is_refused(house: House, device: str) -> None:
    async with house.running() as family:
        with pytest.raises(Refused):
            await family.turn_off(device, None)
        with pytest.raises(Refused):
            await family.is_on(device)


# --- the page's side ---------------------------------------------------------------------------


async def test_check_shows_locations_channels_and_actuators(house: House) -> None:
    found = await smappee.check(house.config(), SECRETS.get, house.clock)
    assert [(c.field, c.value, c.preselected) for c in found.choices] == [
        ("locations", "123", True),
        ("appliances", "1", False),
    ]
    assert CONSUMPTION in {channel.key for channel in found.channels}
    assert {device.device for device in found.devices if device.is_switch} == {"123.1", "123.2"}


async def test_check_says_that_the_password_is_wrong(house: House) -> None:
    with pytest.raises(Refused, match="password"):
        await smappee.check(house.config(), (SECRETS | {"smappee.password": "x"}).get, house.clock)


def test_every_fault_of_a_configuration_is_named_at_once(house: House) -> None:
    with pytest.raises(ConfigFault) as caught:
        smappee.create(
            {"history": "some", "locations": ["here"], "username": 7},
            {}.get,
            house.intake,
            house.clock,
            house.notebook,
        )
    said = str(caught.value)
    for name in ("history", "locations", "username", "client_id", "client_secret", "password"):
        assert name in said


def test_family_is_found_by_its_name() -> None:
    assert load("smappee") is smappee
    with pytest.raises(ConfigFault, match="no device family"):
        load("toaster")
