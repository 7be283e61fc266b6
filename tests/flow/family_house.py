"""One family at a time, from a fake that speaks its protocol to a real FlexMeasures.

The real family, intake, store, aggregation and sender; a clock that moves when told. A test says
what it expects by the fakes' own functions and plain sums, by no code of the box.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edge.devices import load
from edge.errors import EdgeError
from edge.family import Family
from edge.model import Channel, Sensor, Term
from tests.flow.uplink_box import FIVE, UplinkBox, read_back
from tests.house import smappee_cloud
from tests.house.family_bench import SteppedClock
from tests.house.flexmeasures import Account
from tests.house.paper_notebook import PaperNotebook
from tests.house.smappee_cloud import SmappeeCloud
from tests.house.spoken_home_assistant import TOKEN, SpokenHomeAssistant

NOON = datetime(2026, 3, 20, 12, tzinfo=UTC)
TEN_SECONDS = timedelta(seconds=10)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

type Expected = Callable[[datetime], float]
type Statistics = Callable[[Mapping[str, Any]], dict[str, list[dict[str, float]]]]


class House:
    """A box with one family, and its account."""

    def __init__(self, box: UplinkBox, clock: SteppedClock, url: str, owner: Account) -> None:
        self.box, self.clock, self.notebook = box, clock, PaperNotebook()
        self._url, self._owner = url, owner
        self._site: int | None = None

    @classmethod
    @asynccontextmanager
    async def opened(cls, folder: Path, url: str, owner: Account) -> AsyncIterator["House"]:
        """At noon, with nothing fed yet."""
        clock = SteppedClock(NOON)
        box = await UplinkBox.open(folder, url, owner, clock=clock)
        try:
            yield cls(box, clock, url, owner)
        finally:
            await box.close()

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

    def key_of(self, name: str) -> str:
        """The key of the one channel called so."""
        channels: Mapping[str, Channel] = self.box.intake.channels()
        [key] = [key for key, channel in channels.items() if channel.name == name]
        return key

    async def feeds(
        self, key: str, unit: str, resolution: timedelta = FIVE, minus: str | None = None
    ) -> Sensor:
        """A new sensor fed by the one channel whose key ends so, less another such."""

        def whole(end: str) -> str:
            [channel] = [k for k in self.box.intake.channels() if k.endswith(end)]
            return channel

        terms = [Term(whole(key))] + ([Term(whole(minus), -1)] if minus else [])
        client = self.box.client
        if self._site is None:
            types = await client.asset_types()
            account = (await client.member()).account_id
            self._site = (await client.create_asset("Home", types["building"], account)).asset_id
        name = f"{key} {minus or ''} {unit} {resolution}"
        remote = await client.create_sensor(
            self._site, name, unit, resolution, {"consumption_is_positive": True}
        )
        sensor = Sensor(remote.sensor_id, name, unit, resolution, tuple(terms))
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


def of_five_minutes(energy_wh: Callable[[int], float]) -> Expected:
    """kW of an interval whose Wh the function tells."""
    return lambda start: energy_wh(int(start.timestamp())) * 12 / 1000


@asynccontextmanager
async def smappee(
    house: House,
    history: str = "none",
    appliances: Sequence[int] = (),
    *,
    has_input_module: bool = False,
) -> AsyncIterator[SmappeeCloud]:
    """Smappee at work, its first cycle over."""
    cloud = SmappeeCloud(house.clock.wall_now)
    cloud.has_input_module = has_input_module
    more = {"history": history, "appliances": list(appliances)}
    config = {"client_id": smappee_cloud.CLIENT_ID, "username": smappee_cloud.USERNAME}
    secrets = {
        "smappee.client_secret": smappee_cloud.CLIENT_SECRET,
        "smappee.password": smappee_cloud.PASSWORD,
    }
    async with (
        cloud.serve() as base_url,
        house.running("smappee", {**config, "cloud": base_url, **more}, secrets),
    ):
        await house.clock.until_resting()
        yield cloud


@asynccontextmanager
async def home_assistant(
    house: House, history: str, statistics: Statistics
) -> AsyncIterator[tuple[SpokenHomeAssistant, Family]]:
    """Home Assistant, all of it chosen; `statistics` answers who asks for five-minute rows."""
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
