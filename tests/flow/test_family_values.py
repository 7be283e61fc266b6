"""Every quantity of every family arrives in FlexMeasures as it was measured.

Fakes that speak the real protocols, the real family, intake, store, aggregation and sender, a real
FlexMeasures; a clock that moves when told. What is expected comes from the fakes' own functions
and plain sums, by no code of the box.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from edge.devices import load
from edge.errors import EdgeError
from edge.family import Family
from edge.model import Channel, Sensor, Term
from tests.flow.uplink_box import FIVE, MINUTE, UplinkBox, read_back
from tests.house import smappee_cloud
from tests.house.family_bench import SteppedClock
from tests.house.flexmeasures import Account, FlexMeasuresServer
from tests.house.p1_meter import P1Meter
from tests.house.paper_notebook import PaperNotebook
from tests.house.smappee_cloud import Fault, SmappeeCloud
from tests.house.spoken_home_assistant import TOKEN, SpokenHomeAssistant

NOON = datetime(2026, 3, 20, 12, tzinfo=UTC)
TEN_SECONDS = timedelta(seconds=10)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

type Expected = Callable[[datetime], float]


class House:
    """A box with one family, and its account."""

    def __init__(self, box: UplinkBox, clock: SteppedClock, url: str, owner: Account) -> None:
        self.box, self.clock, self.notebook = box, clock, PaperNotebook()
        self._url, self._owner = url, owner
        self._site: int | None = None

    @asynccontextmanager
    async def running(
        self, name: str, config: Mapping[str, Any], secrets: Mapping[str, str]
    ) -> AsyncIterator[Family]:
        family = load(name).create(config, secrets.get, self.box.intake, self.clock, self.notebook)

        async def keep() -> None:
            while True:
                try:
                    await family.run()
                except EdgeError:
                    await self.clock.sleep(timedelta(seconds=30))

        task = asyncio.create_task(keep())
        await asyncio.sleep(0)
        try:
            yield family
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def feeds(self, key: str, unit: str, resolution: timedelta = FIVE) -> Sensor:
        """A new sensor fed by the one channel whose key ends so."""
        [channel] = [k for k in self.box.intake.channels() if k.endswith(key)]
        client = self.box.client
        if self._site is None:
            types = await client.asset_types()
            account = (await client.member()).account_id
            self._site = (await client.create_asset("Home", types["building"], account)).asset_id
        name = f"{key} {unit} {resolution}"
        remote = await client.create_sensor(
            self._site, name, unit, resolution, {"consumption_is_positive": True}
        )
        sensor = Sensor(remote.sensor_id, name, unit, resolution, (Term(channel),))
        self.box.sensors.append(sensor)
        return sensor

    async def held(self, sensor: Sensor, start: datetime, end: datetime) -> dict[datetime, float]:
        return await read_back(self._url, self._owner, sensor, start, end)

    async def agrees(
        self, sensor: Sensor, expected: Expected, start: datetime, end: datetime
    ) -> None:
        """Every slot of [start, end) is there, with the value expected."""
        slots = range((end - start) // sensor.event_resolution)
        told = await self.held(sensor, start, end)
        wanted = {at: expected(at) for at in (start + n * sensor.event_resolution for n in slots)}
        assert told == pytest.approx(wanted, abs=1e-6), sensor.name

    async def sent(self) -> None:
        await self.box.work_until_sent()
        counts = await self.box.outbox.counts()
        assert counts.rejected_total == 0
        assert self.box.intake.set_aside_total() == 0


@pytest.fixture
async def house(
    tmp_path: Path, flexmeasures_server: FlexMeasuresServer, owner: Account
) -> AsyncIterator[House]:
    clock = SteppedClock(NOON)
    box = await UplinkBox.open(tmp_path, flexmeasures_server.url, owner, clock=clock)
    yield House(box, clock, flexmeasures_server.url, owner)
    await box.close()


# --- Smappee -------------------------------------------------------------------------------------


def of_five_minutes(energy_wh: Callable[[int], float]) -> Expected:
    """kW of an interval whose Wh the function tells."""
    return lambda start: energy_wh(int(start.timestamp())) * 12 / 1000


def net_wh(start_s: int) -> float:
    return round(smappee_cloud.consumption_wh(start_s) - smappee_cloud.solar_wh(start_s), 2)


@asynccontextmanager
async def smappee(house: House, history: str = "none") -> AsyncIterator[SmappeeCloud]:
    cloud = SmappeeCloud(house.clock.wall_now)
    config = {"client_id": smappee_cloud.CLIENT_ID, "username": smappee_cloud.USERNAME}
    secrets = {
        "smappee.client_secret": smappee_cloud.CLIENT_SECRET,
        "smappee.password": smappee_cloud.PASSWORD,
    }
    async with (
        cloud.serve() as base_url,
        house.running("smappee", {**config, "cloud": base_url, "history": history}, secrets),
    ):
        await house.clock.until_resting()
        yield cloud


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
    bought_wh = 0.0
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
            await house.clock.advance(TEN_SECONDS)
    fed: dict[Sensor, Expected] = {}
    for way, sign in (("import", 1), ("export", -1)):
        for endpoint, phases in (("0", (1, 2, 3)), ("L1", (1,)), ("L2", (2,)), ("L3", (3,))):
            sensor = await house.feeds(f"/{endpoint}/active_power/{way}", "kW")
            fed[sensor] = mean_kw(phases, sign)
    counter = await house.feeds("/0/active_energy/import", "kW")
    fed[counter] = mean_kw((1, 2, 3), 1)
    gas = await house.feeds("/0/gas/import", "m³")
    await house.sent()
    for sensor, expected in fed.items():
        if sensor is counter:  # the meter counts whole Wh
            told = await house.held(sensor, NOON, NOON + HOUR)
            assert all(abs(told[at] - expected(at)) <= 0.025 for at in told)
            assert len(told) == 12
        else:
            await house.agrees(sensor, expected, NOON, NOON + HOUR)
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


@asynccontextmanager
async def home_assistant(
    house: House, history: str
) -> AsyncIterator[tuple[SpokenHomeAssistant, Family]]:
    spoken = SpokenHomeAssistant()
    spoken.answers["recorder/statistics_during_period"] = statistics
    async with spoken.serve() as address:
        secrets = {"homeassistant.token": TOKEN}
        found = await load("homeassistant").check({"address": address}, secrets.get, house.clock)
        chosen = [choice.value for choice in found.choices if choice.field == "entities"]
        config = {"address": address, "history": history, "entities": chosen}
        async with house.running("homeassistant", config, secrets) as family:
            await house.clock.until_resting()
            yield spoken, family


def key_of(house: House, name: str) -> str:
    channels: Mapping[str, Channel] = house.box.intake.channels()
    [key] = [key for key, channel in channels.items() if channel.name == name]
    return key


async def test_home_assistants_power_and_counters_arrive_exactly(house: House) -> None:
    async with home_assistant(house, "none") as (spoken, _):
        await house.clock.pass_by(HALF_MINUTE)
        counted = 1234.5
        told: dict[datetime, float] = {}
        for _ in range(50 * MINUTE // HALF_MINUTE):  # each hour it takes stock anew
            now = house.clock.wall_now()
            told[now] = counted
            before = house.box.intake.accepted_total
            await spoken.set("sensor.grid_power", str(grid_w(now)))
            await spoken.set("sensor.grid_import", str(round(counted, 6)))
            async with asyncio.timeout(10):
                while house.box.intake.accepted_total < before + 2:  # noqa: ASYNC110  # a socket
                    await asyncio.sleep(0.001)
            counted += grid_w(now) / 1000 * HALF_MINUTE / HOUR
            await house.clock.pass_by(HALF_MINUTE)
        power = await house.feeds(key_of(house, "Grid power"), "kW")
        energy = await house.feeds(key_of(house, "Grid import"), "kWh")
        await house.sent()
    first = NOON + FIVE
    await house.agrees(
        power,
        lambda start: fmean(grid_w(start + n * HALF_MINUTE) for n in range(10)) / 1000,
        first,
        NOON + 9 * FIVE,
    )
    await house.agrees(energy, lambda s: told[s + FIVE] - told[s], first, NOON + 9 * FIVE)


async def test_home_assistants_history_of_a_sensor_mapped_late_arrives(house: House) -> None:
    """Days after it was joined, when the box has long let its first readings go."""
    async with home_assistant(house, "none"):
        await house.clock.pass_by(10 * MINUTE)
    await house.feeds(key_of(house, "Solar power"), "kW")
    for away in (HOUR, 60 * HOUR, 2 * HOUR, 2 * HOUR):  # slots leave, then readings do
        await house.sent()
        await house.clock.advance(away)
    house.notebook.pages["homeassistant.read-until"] = house.clock.wall_now().isoformat()
    async with home_assistant(house, "all") as (_, family):
        await house.clock.pass_by(10 * MINUTE)
        await house.box.buffer.commit()
        power = await house.feeds(key_of(house, "Grid power"), "kW")
        held_since = await house.box.buffer.oldest([key_of(house, "Grid power")])
        assert held_since is not None
        assert held_since > NOON + DAY
        await house.box.due.round()
        await family.offer_history({key_of(house, "Grid power"): held_since})  # type: ignore[attr-defined]
        for _ in range(20):
            await house.clock.pass_by(TEN_SECONDS / 2)
            await house.box.buffer.commit()  # as it does by itself when many readings wait
        await house.sent()
        begins = house.clock.wall_now() - 10 * DAY + HOUR
    begins -= (begins - NOON) % FIVE
    ends = held_since - (held_since - NOON) % FIVE
    await house.agrees(power, lambda start: row_w(start) / 1000, begins, ends)
