"""From meters to FlexMeasures through everything that can go wrong; values against the file."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.flow.uplink_box import (
    FIVE,
    START,
    Reader,
    UplinkBox,
    energy_channel,
    exact_kw,
    power_channel,
)
from tests.house.flexmeasures import Account, FlexMeasuresServer
from tests.house.household import DISHWASHER, EVERYTHING_ELSE, KETTLE, WHOLE_HOUSE, Place

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ONE_WATT = 0.001  # kW


@pytest.fixture
async def box(
    tmp_path: Path, flexmeasures_server: FlexMeasuresServer, owner: Account
) -> AsyncIterator[UplinkBox]:
    box = await UplinkBox.open(tmp_path, flexmeasures_server.url, owner)
    yield box
    await box.close()


@pytest.fixture
def reader(flexmeasures_server: FlexMeasuresServer, owner: Account) -> Reader:
    return Reader(flexmeasures_server.url, owner)


async def test_week_offline_is_caught_up_to_the_watt(box: UplinkBox, reader: Reader) -> None:
    week = 7 * DAY
    places = (WHOLE_HOUSE, EVERYTHING_ELSE, KETTLE)
    sensors = await box.make_sensors({place: power_channel(place) for place in places})
    box.server = None
    await box.measure(places, week, work_every=3 * HOUR)
    box.server = box.client
    await box.work_until_sent()
    for place, sensor in sensors.items():
        held = await reader.kw(sensor, week)
        assert held == pytest.approx(exact_kw(place, week), abs=ONE_WATT), place.name
    counts = await box.outbox.counts()
    assert (counts.accepted_total, counts.rejected_total) == (3 * 7 * 288, 0)


async def test_energy_counter_arrives_as_average_power(box: UplinkBox, reader: Reader) -> None:
    channel = energy_channel(WHOLE_HOUSE)
    (sensor,) = (await box.make_sensors({WHOLE_HOUSE: channel})).values()
    for number in range(13):
        moment = START + number * FIVE
        box.buffer.put(channel.key, moment, box.house.energy_kwh(WHOLE_HOUSE, moment))
    await box.clock.advance(HOUR)
    await box.work_until_sent()
    assert await reader.kw(sensor) == pytest.approx(exact_kw(WHOLE_HOUSE, HOUR), abs=ONE_WATT)


async def test_poison_readings_harm_nobody(box: UplinkBox, reader: Reader) -> None:
    sensors = await box.make_sensors({p: power_channel(p) for p in (WHOLE_HOUSE, KETTLE)})
    poison = {3: float("nan"), 17: -21474435.18, 31: 99_000.0, 44: float("inf")}

    def altered(place: Place, moment: object, value: float) -> float:
        minute = (box.clock.wall_now() - START) // timedelta(minutes=1)
        return poison.get(minute, value) if place is KETTLE else value

    await box.measure((WHOLE_HOUSE, KETTLE), HOUR, altered=altered)
    await box.work_until_sent()
    held = await reader.kw(sensors[WHOLE_HOUSE])
    assert held == pytest.approx(exact_kw(WHOLE_HOUSE, HOUR), abs=ONE_WATT)
    kettle = exact_kw(KETTLE, HOUR)
    sound = {minute: kw for minute, kw in kettle.items() if minute not in (0, 15, 30, 40)}
    held = await reader.kw(sensors[KETTLE])
    assert {minute: held[minute] for minute in sound} == pytest.approx(sound, abs=ONE_WATT)
    assert box.intake.set_aside_total() == len(poison)
    assert (await box.outbox.counts()).rejected_total == 0


async def test_slot_that_the_server_refuses_is_set_aside_alone(
    box: UplinkBox, reader: Reader
) -> None:
    """Somebody has posted another value for one moment with the same belief time."""
    (sensor,) = (await box.make_sensors({WHOLE_HOUSE: power_channel(WHOLE_HOUSE)})).values()
    box.server = None
    await box.measure([WHOLE_HOUSE], 4 * HOUR)
    first = (await box.outbox.next_batch(1, box.clock.wall_now()))[0]
    at = START + HOUR
    stranger = type(first)(
        first.row_id,
        type(first.slot)(sensor.sensor_id, at, FIVE, 77.0),
        None,
        first.state,
        0,
        None,
        None,
        None,
    )
    await box.client.post_slots(sensor, [stranger])
    box.server = box.client
    await box.work_until_sent()
    expected = exact_kw(WHOLE_HOUSE, 4 * HOUR) | {60: 77.0}
    assert await reader.kw(sensor) == pytest.approx(expected, abs=ONE_WATT)
    (rejected,) = await box.outbox.rejected(10)
    assert rejected.slot.start == at
    assert rejected.reason == "FlexMeasures holds another value for this moment"


async def test_reboot_without_a_clock_loses_and_invents_nothing(
    box: UplinkBox, reader: Reader
) -> None:
    (sensor,) = (await box.make_sensors({WHOLE_HOUSE: power_channel(WHOLE_HOUSE)})).values()
    await box.measure([WHOLE_HOUSE], HOUR)
    await box.reboot(10 * timedelta(minutes=1), trusted=False)
    await box.measure([WHOLE_HOUSE], HOUR)
    assert len(await reader.kw(sensor)) <= 12
    box.clock.trusted = True
    await box.measure([WHOLE_HOUSE], HOUR)
    await box.work_until_sent()
    expected = exact_kw(WHOLE_HOUSE, 3 * HOUR + timedelta(minutes=10))
    for off in (65, 60):  # nothing was measured from 1:00 to 1:10; what was last read held on
        del expected[off]
    assert await reader.kw(sensor) == pytest.approx(expected, abs=ONE_WATT)


async def test_boot_that_never_had_a_clock_is_held_and_sent_nowhere(
    box: UplinkBox, reader: Reader
) -> None:
    (sensor,) = (await box.make_sensors({WHOLE_HOUSE: power_channel(WHOLE_HOUSE)})).values()
    await box.measure([WHOLE_HOUSE], HOUR)
    await box.reboot(timedelta(0), trusted=False)
    await box.measure([WHOLE_HOUSE], HOUR)
    await box.reboot(timedelta(0), trusted=True)
    await box.measure([WHOLE_HOUSE], HOUR)
    await box.work_until_sent()
    assert (await box.buffer.stats()).held_without_time == 60
    assert {minute // 60 for minute in await reader.kw(sensor)} == {0, 2}


async def test_clock_that_was_ahead_is_corrected(box: UplinkBox, reader: Reader) -> None:
    """It was trusted and three hours ahead. What went out for the future is put right as soon as
    the future has come; only the hour with the wrong clock is not there."""
    (sensor,) = (await box.make_sensors({WHOLE_HOUSE: power_channel(WHOLE_HOUSE)})).values()
    real = box.clock.wall_now
    await box.measure([WHOLE_HOUSE], HOUR)
    await box.step_clock(3 * HOUR)
    await box.measure([WHOLE_HOUSE], HOUR, real_time=lambda: real() - 3 * HOUR)
    await box.step_clock(-3 * HOUR)
    assert {minute // 60 for minute in await reader.kw(sensor)} == {0, 4}
    await box.measure([WHOLE_HOUSE], 4 * HOUR)
    await box.work_until_sent()
    true = exact_kw(WHOLE_HOUSE, 6 * HOUR)
    right = {m: kw for m, kw in true.items() if not 60 <= m < 120}
    assert await reader.kw(sensor) == pytest.approx(right, abs=ONE_WATT)


async def test_clock_that_was_behind_leaves_a_gap(box: UplinkBox, reader: Reader) -> None:
    (sensor,) = (await box.make_sensors({WHOLE_HOUSE: power_channel(WHOLE_HOUSE)})).values()
    await box.measure([WHOLE_HOUSE], HOUR)
    await box.step_clock(2 * HOUR)
    await box.measure([WHOLE_HOUSE], HOUR)
    await box.work_until_sent()
    held = await reader.kw(sensor)
    assert {minute // 60 for minute in held} == {0, 3}
    true = exact_kw(WHOLE_HOUSE, 4 * HOUR)
    assert held == pytest.approx({m: true[m] for m in held}, abs=ONE_WATT)


async def test_server_that_stores_by_jobs_gets_every_slot_once(
    box: UplinkBox, reader: Reader, flexmeasures_server: FlexMeasuresServer
) -> None:
    sensors = await box.make_sensors({p: power_channel(p) for p in (WHOLE_HOUSE, DISHWASHER)})
    with flexmeasures_server.ingesting("worker"):
        await box.measure(sensors, 6 * HOUR)
        await box.work_until_sent()
    for place, sensor in sensors.items():
        expected = exact_kw(place, 6 * HOUR)
        assert await reader.kw(sensor) == pytest.approx(expected, abs=ONE_WATT)


async def test_jobs_that_the_server_loses_are_offered_again(
    box: UplinkBox, reader: Reader, flexmeasures_server: FlexMeasuresServer
) -> None:
    (sensor,) = (await box.make_sensors({WHOLE_HOUSE: power_channel(WHOLE_HOUSE)})).values()
    with flexmeasures_server.ingesting("stalled"):
        await box.measure([WHOLE_HOUSE], HOUR)
        assert (await box.outbox.counts()).in_jobs > 0
    with flexmeasures_server.ingesting("lost"):
        await asyncio.sleep(0)
    await box.work_until_sent()
    assert await reader.kw(sensor) == pytest.approx(exact_kw(WHOLE_HOUSE, HOUR), abs=ONE_WATT)
