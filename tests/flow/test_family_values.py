"""Every quantity of every family arrives in FlexMeasures as it was measured.

What is expected comes from the fakes' own functions and plain sums, by no code of the box.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from edge.model import Sensor
from tests.flow.family_house import (
    DAY,
    HOUR,
    NOON,
    TEN_SECONDS,
    Expected,
    House,
    home_assistant,
    of_five_minutes,
    smappee,
)
from tests.flow.uplink_box import FIVE, MINUTE
from tests.house import smappee_cloud
from tests.house.flexmeasures import Account, FlexMeasuresServer
from tests.house.local_smappee import LocalSmappeeMonitor
from tests.house.p1_meter import P1Meter
from tests.house.smappee_cloud import Fault


@pytest.fixture
async def house(
    tmp_path: Path, flexmeasures_server: FlexMeasuresServer, owner: Account
) -> AsyncIterator[House]:
    async with House.opened(tmp_path, flexmeasures_server.url, owner) as opened:
        yield opened


# --- Smappee -------------------------------------------------------------------------------------


def net_wh(start_s: int) -> float:
    return round(smappee_cloud.consumption_wh(start_s) - smappee_cloud.solar_wh(start_s), 2)


async def test_smappees_electricity_gas_and_water_arrive_exactly(house: House) -> None:
    async with smappee(house):
        await house.clock.pass_by(HOUR)
        sensors = {
            "consumption/active_energy/import": of_five_minutes(smappee_cloud.consumption_wh),
            "solar/active_energy/export": of_five_minutes(smappee_cloud.solar_wh),
            "always-on/active_energy/import": lambda _: 120 / 12 * 12 / 1000,
            "grid/active_energy/import": of_five_minutes(lambda s: max(net_wh(s), 0.0)),
            "grid/active_energy/export": of_five_minutes(lambda s: max(-net_wh(s), 0.0)),
        }
        fed = {await house.feeds(key, "kW"): expected for key, expected in sensors.items()}
        gas = await house.feeds("sensor-4-1/gas/import", "m³")
        fed[gas] = lambda at: smappee_cloud.gas_pulses(int(at.timestamp())) / 100
        water = await house.feeds("sensor-4-2/water/import", "m³")
        fed[water] = lambda at: smappee_cloud.water_pulses(int(at.timestamp())) / 1000
        await house.sent()
    for sensor, expected in fed.items():
        await house.agrees(sensor, expected, NOON - HOUR, NOON + HOUR - 4 * FIVE)


async def test_smappees_input_modules_and_appliances_arrive_exactly(house: House) -> None:
    async with smappee(house, appliances=[1], has_input_module=True):
        await house.clock.pass_by(HOUR)
        heat_pump = await house.feeds("sensor-5-1/active_energy/import", "kW")
        bottles = await house.feeds("sensor-5-2/pulses/import", "dimensionless")
        air = await house.feeds("sensor-5/temperature/import", "°C")
        coffee = await house.feeds("appliance-1/active_power/import", "kW")
        await house.sent()
    begins, ends = NOON - HOUR, NOON + HOUR - 4 * FIVE
    energy = of_five_minutes(
        lambda s: smappee_cloud.heat_pump_pulses(s) / smappee_cloud.PULSES_PER_KWH * 1000
    )
    await house.agrees(heat_pump, energy, begins, ends)
    counted: Expected = lambda at: smappee_cloud.bottles(int(at.timestamp())) / 4  # noqa: E731
    await house.agrees(bottles, counted, begins, ends)
    await house.agrees(air, lambda _: 22.6, begins, ends)
    drawn: Expected = lambda at: (  # noqa: E731
        max(smappee_cloud.event_w(int(at.timestamp())), 0.0) / 1000
    )
    await house.agrees(coffee, drawn, begins, ends)


async def test_smappees_monitor_in_the_house_arrives_phase_by_phase(house: House) -> None:
    monitor = LocalSmappeeMonitor()

    def power_mw(phase: int, at: datetime) -> int:
        return int(at.timestamp()) // 10 * (7919 + phase) % 2_000_000

    def mean_kw_of(phase: int) -> Expected:
        return lambda start: (
            fmean(power_mw(phase, start + n * TEN_SECONDS) for n in range(30)) / 1e6
        )

    secrets = {"smappee.local_password": monitor.password}
    monitor.powers_mw = [power_mw(phase, NOON) for phase in range(4)]
    async with (
        monitor.serve() as address,
        house.running("smappee", {"way": "local", "address": address}, secrets),
    ):
        await house.clock.until_resting()
        for _ in range(HOUR // TEN_SECONDS):
            at = house.clock.wall_now() + TEN_SECONDS
            monitor.powers_mw = [power_mw(phase, at) for phase in range(4)]
            await house.clock.pass_by(TEN_SECONDS)
        fed = {
            await house.feeds(f"phase{phase}/active_power/{way}", "kW"): mean_kw_of(phase)
            for phase, way in enumerate(("import", "import", "import", "export"))
        }
        await house.sent()
    for sensor, expected in fed.items():
        await house.agrees(sensor, expected, NOON, NOON + HOUR)


async def test_smappees_intervals_fill_any_multiple_of_five_minutes(house: House) -> None:
    def energy_kwh(length: timedelta) -> Expected:
        return lambda start: (
            sum(
                smappee_cloud.consumption_wh(int((start + n * FIVE).timestamp()))
                for n in range(length // FIVE)
            )
            / 1000
        )

    async with smappee(house):
        await house.clock.pass_by(HOUR)
        quarter = await house.feeds("consumption/active_energy/import", "kWh", 3 * FIVE)
        hour = await house.feeds("consumption/active_energy/import", "kWh", HOUR)
        await house.sent()
    await house.agrees(quarter, energy_kwh(3 * FIVE), NOON - HOUR, NOON + 6 * FIVE)
    await house.agrees(hour, energy_kwh(HOUR), NOON - HOUR, NOON)


async def test_what_smappee_tells_late_or_corrects_is_no_loss(house: House) -> None:
    missing = (NOON, NOON + 4 * FIVE)
    corrected = NOON + 6 * FIVE
    used = of_five_minutes(smappee_cloud.consumption_wh)
    async with smappee(house) as cloud:
        cloud.off_line.append(missing)
        await house.clock.pass_by(HOUR)
        sensor = await house.feeds("consumption/active_energy/import", "kW")
        await house.sent()
        told = await house.held(sensor, NOON, NOON + 8 * FIVE)
        assert set(told) == {NOON + n * FIVE for n in range(4, 8)}  # a gap is a gap
        cloud.off_line.clear()
        cloud.corrections[int(corrected.timestamp())] = 50.0
        await house.clock.pass_by(HOUR)
        await house.sent()
    await house.agrees(
        sensor,
        lambda start: 0.6 if start == corrected else used(start),
        NOON,
        NOON + 16 * FIVE,
    )


async def test_what_smappee_tells_days_late_is_no_loss_of_an_hour(house: House) -> None:
    """The box has long let go of the rest of that hour, and of the other side of a difference."""
    gone = NOON + 3 * FIVE
    corrected = NOON + HOUR + 5 * FIVE

    def used_wh(start_s: int) -> float:
        return (
            50.0 if start_s == int(corrected.timestamp()) else smappee_cloud.consumption_wh(start_s)
        )

    def net_kwh_of(length: timedelta) -> Expected:
        def expected(start: datetime) -> float:
            starts = [int((start + n * FIVE).timestamp()) for n in range(length // FIVE)]
            return sum(used_wh(s) - smappee_cloud.solar_wh(s) for s in starts) / 1000

        return expected

    keys = "consumption/active_energy/import", "solar/active_energy/export"
    async with smappee(house, history="all") as cloud:
        cloud.off_line.append((gone, gone + FIVE))
        await house.clock.pass_by(10 * MINUTE)
        fed = [await house.feeds(keys[0], "kWh", each, keys[1]) for each in (FIVE, HOUR)]
        for away in (3 * HOUR, 60 * HOUR, 2 * HOUR):  # slots leave, then readings do
            await house.clock.advance(away)
            await house.clock.pass_by(10 * MINUTE)
            await house.sent()
        told = await house.held(fed[1], NOON, NOON + 2 * HOUR)
        assert set(told) == {NOON + HOUR}
        cloud.off_line.clear()
        cloud.corrections[int(corrected.timestamp())] = 50.0
        await house.clock.advance(DAY)
        for _ in range(6):
            await house.clock.pass_by(5 * MINUTE)
            await house.box.buffer.commit()
        await house.sent()
    for sensor in fed:
        expected = net_kwh_of(sensor.event_resolution)
        await house.agrees(sensor, expected, NOON, NOON + 2 * HOUR)


async def test_fortnight_without_smappee_is_read_again_whole(house: House) -> None:
    async with smappee(house) as cloud:
        await house.clock.pass_by(HOUR)
        sensor = await house.feeds("consumption/active_energy/import", "kW")
        await house.sent()
        cloud.faults.extend(Fault(503) for _ in range(10_000))
        await house.clock.advance(13 * DAY)
        await house.clock.pass_by(HOUR)
        cloud.faults.clear()
        for _ in range(90):  # it is tried again within half a minute
            await house.clock.pass_by(TEN_SECONDS / 10)
            await house.box.buffer.commit()  # as it does by itself when many readings wait
        await house.clock.pass_by(2 * HOUR)
        await house.sent()
    used = of_five_minutes(smappee_cloud.consumption_wh)
    await house.agrees(sensor, used, NOON, NOON + 13 * DAY + 2 * HOUR)


# --- P1 ------------------------------------------------------------------------------------------


def phase_w(phase: int, at: datetime) -> int:
    """What flows through a phase in the ten seconds from `at`; below zero it is given back."""
    tens = int(at.timestamp()) // 10
    return (tens * (37 + phase) % 2000) - 700


def gas_m3(at: datetime) -> float:
    """What the gas meter shows at each five minutes: more and more."""
    n = (at - NOON + DAY) // FIVE
    return 900 + n * (n + 1) / 2 * 0.001


async def test_p1_import_and_export_per_phase_and_gas_arrive_exactly(house: House) -> None:
    meter = P1Meter("dsmr42")
    bought_wh = sold_wh = 0.0
    async with house.running("p1", {"port": meter.path}, {}):
        for _ in range(HOUR // TEN_SECONDS + 6):
            now = house.clock.wall_now()
            flows = {phase: phase_w(phase, now) for phase in (1, 2, 3)}
            into = sum(max(w, 0) for w in flows.values())
            back = sum(max(-w, 0) for w in flows.values())
            five = now - (now - NOON) % FIVE
            words = [
                ("1-0:1.7.0(02.027*kW)", f"1-0:1.7.0({into / 1000:06.3f}*kW)"),
                ("1-0:2.7.0(00.000*kW)", f"1-0:2.7.0({back / 1000:06.3f}*kW)"),
                ("001581.123*kWh", f"{1581 + bought_wh / 1000:.6f}*kWh"),
                ("2.8.1(000000.000", f"2.8.1({7 + sold_wh / 1000:.6f}"),
                ("161129200000W", f"{five + HOUR:%y%m%d%H%M%S}W"),
                ("00981.443*m3", f"{gas_m3(five):09.3f}*m3"),
            ]
            for code, old, phase in ((21, "00.170", 1), (41, "01.247", 2), (61, "00.209", 3)):
                imported, exported = max(flows[phase], 0), max(-flows[phase], 0)
                words += [
                    (f"-0:{code}.7.0({old}*kW)", f"-0:{code}.7.0({imported / 1000:06.3f}*kW)"),
                    (
                        f"-0:{code + 1}.7.0(00.000*kW)",
                        f"-0:{code + 1}.7.0({exported / 1000:06.3f}*kW)",
                    ),
                ]
            before = house.box.intake.accepted_total
            meter.say(*words)
            async with asyncio.timeout(10):
                while house.box.intake.accepted_total == before:  # noqa: ASYNC110  # a serial line
                    await asyncio.sleep(0.001)
            bought_wh += into / 360
            sold_wh += back / 360
            await house.clock.advance(TEN_SECONDS)
    fed: dict[Sensor, Expected] = {}
    for way, sign in (("import", 1), ("export", -1)):
        for endpoint, phases in (("0", (1, 2, 3)), ("L1", (1,)), ("L2", (2,)), ("L3", (3,))):
            sensor = await house.feeds(f"/{endpoint}/active_power/{way}", "kW")
            fed[sensor] = mean_kw(phases, sign)
    counters = {
        await house.feeds(f"/0/active_energy/{way}", "kW"): mean_kw((1, 2, 3), sign)
        for way, sign in (("import", 1), ("export", -1))
    }
    gas = await house.feeds("/0/gas/import", "m³")
    await house.sent()
    for sensor, expected in fed.items():
        await house.agrees(sensor, expected, NOON, NOON + HOUR)
    for sensor, expected in counters.items():  # the box reads them to the whole Wh
        told = await house.held(sensor, NOON, NOON + HOUR)
        assert all(abs(told[at] - expected(at)) <= 0.025 for at in told)
        assert len(told) == 12
    burnt = await house.held(gas, NOON, NOON + 10 * FIVE)
    wanted = {at: gas_m3(at + FIVE) - gas_m3(at) for at in burnt}
    assert len(burnt) == 10
    assert burnt == pytest.approx(wanted, abs=1e-6)


def mean_kw(phases: tuple[int, ...], sign: int) -> Expected:
    def expected(start: datetime) -> float:
        tens = [start + n * TEN_SECONDS for n in range(30)]
        return fmean(sum(max(sign * phase_w(p, at), 0) for p in phases) for at in tens) / 1000

    return expected


# --- Home Assistant ------------------------------------------------------------------------------

HALF_MINUTE = timedelta(seconds=30)


def grid_w(at: datetime) -> float:
    return float(int(at.timestamp()) // 30 * 71 % 3000)


def row_w(at: datetime) -> float:
    """The mean of a five-minute row of Home Assistant's statistics."""
    return float(int(at.timestamp()) // 300 * 53 % 2000)


def statistics(asked: Mapping[str, Any]) -> dict[str, list[dict[str, float]]]:
    """Rows for whatever is asked, as recorder/statistics_during_period tells them."""
    start, end = (datetime.fromisoformat(asked[name]) for name in ("start_time", "end_time"))
    rows = []
    while start < end:
        rows.append(
            {
                "start": start.timestamp() * 1000,
                "end": (start + FIVE).timestamp() * 1000,
                "mean": row_w(start),
            }
        )
        start += FIVE
    return {name: rows for name in asked["statistic_ids"] if name == "sensor.grid_power"}


async def test_home_assistants_power_and_counters_arrive_exactly(house: House) -> None:
    async with home_assistant(house, "none", statistics) as (spoken, _):
        await house.clock.pass_by(HALF_MINUTE)
        counted = 1234.5
        told: dict[datetime, float] = {}
        for _ in range(50 * MINUTE // HALF_MINUTE):  # each hour it takes stock anew
            now = house.clock.wall_now()
            told[now] = counted
            before = house.box.intake.accepted_total
            await spoken.set("sensor.grid_power", str(grid_w(now)))
            await spoken.set("sensor.solar_power", str(grid_w(now) / 2000))  # told in kW
            await spoken.set("sensor.grid_import", str(round(counted, 6)))
            grown = counted - 1234.5
            await spoken.set("sensor.grid_export", str(round(99000 + 3000 * grown, 3)))  # in Wh
            await spoken.set("sensor.gas", str(round(500.25 + grown / 10, 6)))
            async with asyncio.timeout(10):
                while house.box.intake.accepted_total < before + 5:  # noqa: ASYNC110  # a socket
                    await asyncio.sleep(0.001)
            counted += grid_w(now) / 1000 * HALF_MINUTE / HOUR
            await house.clock.pass_by(HALF_MINUTE)
        power = await house.feeds(house.key_of("Grid power"), "kW")
        solar = await house.feeds(house.key_of("Solar power"), "kW")
        energy = await house.feeds(house.key_of("Grid import"), "kWh")
        given = await house.feeds(house.key_of("Grid export"), "kWh")
        gas = await house.feeds(house.key_of("Gas"), "m³")
        await house.sent()
    first = NOON + FIVE
    await house.agrees(
        power,
        lambda start: fmean(grid_w(start + n * HALF_MINUTE) for n in range(10)) / 1000,
        first,
        NOON + 9 * FIVE,
    )
    for sensor, share in ((energy, 1.0), (given, 3.0), (gas, 0.1)):
        counts: Expected = lambda s, share=share: (told[s + FIVE] - told[s]) * share  # noqa: E731
        await house.agrees(sensor, counts, first, NOON + 9 * FIVE)
    await house.agrees(
        solar,
        lambda start: fmean(grid_w(start + n * HALF_MINUTE) for n in range(10)) / 2000,
        first,
        NOON + 9 * FIVE,
    )


async def test_home_assistants_history_of_a_sensor_mapped_late_arrives(house: House) -> None:
    """Days after it was joined, when the box has long let its first readings go."""
    async with home_assistant(house, "none", statistics):
        await house.clock.pass_by(10 * MINUTE)
    await house.feeds(house.key_of("Solar power"), "kW")
    for away in (HOUR, 60 * HOUR, 2 * HOUR, 2 * HOUR):  # slots leave, then readings do
        await house.sent()
        await house.clock.advance(away)
    house.notebook.pages["homeassistant.read-until"] = house.clock.wall_now().isoformat()
    async with home_assistant(house, "all", statistics) as (_, family):
        await house.clock.pass_by(10 * MINUTE)
        await house.box.buffer.commit()
        power = await house.feeds(house.key_of("Grid power"), "kW")
        held_since = await house.box.buffer.oldest([house.key_of("Grid power")])
        assert held_since is not None
        assert held_since > NOON + DAY
        await house.box.due.round()
        await family.offer_history({house.key_of("Grid power"): held_since})  # type: ignore[attr-defined]
        for _ in range(20):
            await house.clock.pass_by(TEN_SECONDS / 2)
            await house.box.buffer.commit()  # as it does by itself when many readings wait
        await house.sent()
        begins = house.clock.wall_now() - 10 * DAY + HOUR
    begins -= (begins - NOON) % FIVE
    ends = held_since - (held_since - NOON) % FIVE
    await house.agrees(power, lambda start: row_w(start) / 1000, begins, ends)
