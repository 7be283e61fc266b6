"""The box's uplink on a clock that moves when told, in front of a real FlexMeasures.

Real store, intake, aggregation, sender and client; only the devices are missing: the household's
meters are read straight from its file and offered to the intake as a family would.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp

from edge.errors import EdgeError
from edge.intake import ReadingIntake
from edge.model import Channel, Kind, Quantity, Reading, Sensor, Term
from edge.store.buffer import Buffer
from edge.store.outbox import Outbox
from edge.store.settings import Settings, open_state
from edge.uplink.address import Reach, parse_address
from edge.uplink.connection import Connection
from edge.uplink.due import DueSlots
from edge.uplink.flexmeasures import FlexMeasures
from edge.uplink.offering import Server
from edge.uplink.pacing import Pacing
from edge.uplink.shipping import Shipping
from tests.house import exact, household
from tests.house.fake_clock import FakeClock
from tests.house.flexmeasures import Account

START = datetime(2014, 3, 3, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
FIVE = timedelta(minutes=5)
COMMIT_EVERY = timedelta(seconds=30)
ANSWER_WITHIN = timedelta(seconds=30)  # of real time

type Alteration = Callable[[household.Place, datetime, float], float | None]


def power_channel(place: household.Place) -> Channel:
    return Channel(
        "zwave",
        str(place.node),
        str(place.endpoint),
        Quantity.ACTIVE_POWER,
        Kind.INSTANTANEOUS,
        report_interval=MINUTE,
    )


def energy_channel(place: household.Place) -> Channel:
    return Channel(
        "zwave",
        str(place.node),
        str(place.endpoint),
        Quantity.ACTIVE_ENERGY,
        Kind.COUNTER,
        report_interval=FIVE,
    )


class UplinkBox:
    """Open with `await UplinkBox.open(...)`; `sensors` says what is fed."""

    def __init__(self, folder: Path, client: FlexMeasures, clock: FakeClock) -> None:
        self.folder = folder
        self.clock = clock
        self.client = client
        self.server: Server | None = client
        self.sensors: list[Sensor] = []
        self.house = household.load()
        self.troubles: list[str] = []

    @classmethod
    async def open(
        cls,
        folder: Path,
        url: str,
        user: Account,
        answer_within: timedelta = ANSWER_WITHIN,
        clock: FakeClock | None = None,
    ) -> "UplinkBox":
        clock = clock or FakeClock(START)
        address = parse_address(url, Reach(loopback=True))
        connection = Connection(address, answer_within=answer_within)
        client = FlexMeasures(
            address, user.email, lambda: user.password, clock, connection=connection
        )
        box = cls(folder, client, clock)
        await box._start()
        return box

    async def _start(self) -> None:
        self.buffer = await Buffer.open(
            self.folder / "buffer.db", self.clock, commit_every=COMMIT_EVERY
        )
        self.outbox = await Outbox.open(self.buffer)
        self.state = await open_state(self.folder / "state.db")
        self.intake = ReadingIntake(self.buffer, await Settings.open(self.state), self.clock)
        await self.intake.restore()
        self.due = DueSlots(
            self.buffer,
            self.outbox,
            lambda: self.sensors,
            self.intake.channels,
            self.clock,
            commit_every=COMMIT_EVERY,
        )
        self.shipping = Shipping(
            self.outbox,
            lambda: self.server,
            lambda: self.sensors,
            self.clock,
            Pacing("box", backfill_spread_max=timedelta(0)),
        )

    async def close(self) -> None:
        await self.client.close()
        await self.buffer.close()
        await self.state.close()

    async def reboot(self, off_for: timedelta, *, trusted: bool) -> None:
        """Off and on again; CLOCK_BOOTTIME begins anew. (What a power cut costs: tests/crash.)"""
        await self.intake.save()
        await self.buffer.close()
        await self.state.close()
        self.clock.reboot(off_for, trusted=trusted)
        await self._start()

    async def step_clock(self, step: timedelta) -> None:
        """A time server sets the wall clock, and the box notices."""
        self.clock.step_wall(step)
        await self.buffer.note_time()

    async def make_sensors(
        self,
        channels: Mapping[household.Place, Channel],
        unit: str = "kW",
        resolution: timedelta = FIVE,
    ) -> dict[household.Place, Sensor]:
        """A sensor for each place, all under one new site; the user must be an account admin."""
        member = await self.client.member()
        types = await self.client.asset_types()
        name = f"Home {len(self.sensors)}"
        site = await self.client.create_asset(name, types["building"], member.account_id)
        made: dict[household.Place, Sensor] = {}
        for place, channel in channels.items():
            remote = await self.client.create_sensor(
                site.asset_id, place.name, unit, resolution, {"consumption_is_positive": True}
            )
            terms = (Term(channel.key),)
            made[place] = Sensor(remote.sensor_id, place.name, unit, resolution, terms)
        self.intake.announce(channels.values())
        self.sensors += made.values()
        return made

    async def measure(
        self,
        places: Iterable[household.Place],
        span: timedelta,
        *,
        work_every: timedelta = timedelta(minutes=30),
        altered: Alteration = lambda _place, _moment, value: value,
        real_time: Callable[[], datetime] | None = None,
    ) -> None:
        """Replay the household: power each minute, at the moment `real_time` (the box's wall clock
        unless told) says it is. `altered` may falsify a value, or swallow it."""
        told = real_time or self.clock.wall_now
        end_ms = self.clock.boottime_ms() + span // timedelta(milliseconds=1)
        minutes = 0
        while self.clock.boottime_ms() < end_ms:
            for place in places:
                value = altered(place, told(), self.house.power_w(place, told()))
                if value is not None:
                    key = power_channel(place).key
                    self.intake.offer(Reading(key, self.intake.now(), value))
            await self.clock.advance(MINUTE)
            minutes += 1
            if minutes % (work_every // MINUTE) == 0:
                await self.work()
        await self.work()

    async def work(self) -> None:
        """One round of everything, as the agent's parts would do it."""
        await self.buffer.note_time()
        await self.buffer.commit()
        await self.due.round()
        await self.buffer.commit()
        try:
            while await self.shipping.round():
                pass
        except EdgeError as problem:
            self.troubles.append(str(problem))
        await self.buffer.commit()

    async def work_until_sent(self, within: timedelta = timedelta(hours=2)) -> None:
        """Work until nothing waits any more."""
        end_ms = self.clock.boottime_ms() + within // timedelta(milliseconds=1)
        await self.clock.advance(FIVE + MINUTE)
        counts = await self.outbox.counts()
        while self.clock.boottime_ms() < end_ms:
            await self.work()
            counts = await self.outbox.counts()
            if counts.waiting + counts.in_jobs == 0:
                return
            await self.clock.advance(timedelta(seconds=20))
        raise AssertionError(f"{counts.waiting} slots still wait; {self.troubles[-1:]}")


class Reader:
    """Reads FlexMeasures as its owner would."""

    def __init__(self, url: str, owner: Account) -> None:
        self._url, self._owner = url, owner

    async def kw(self, sensor: Sensor, span: timedelta = timedelta(days=1)) -> dict[int, float]:
        """By minutes since START."""
        held = await read_back(self._url, self._owner, sensor, START, START + span)
        return {(at - START) // MINUTE: value for at, value in held.items()}


async def read_back(
    url: str, user: Account, sensor: Sensor, start: datetime, end: datetime
) -> dict[datetime, float]:
    """What FlexMeasures holds, asked for without any code of the box."""
    async with aiohttp.ClientSession(url) as session:
        body = {"email": user.email, "password": user.password}
        async with session.post("/api/requestAuthToken", json=body) as answer:
            token = (await answer.json())["auth_token"]
        query = {
            "start": start.isoformat(),
            "duration": f"PT{(end - start) // MINUTE}M",
            "unit": sensor.unit,
        }
        path = f"/api/v3_0/sensors/{sensor.sensor_id}/data"
        headers = {"Authorization": token}
        async with session.get(path, params=query, headers=headers) as answer:
            told = await answer.json()
            assert answer.status == 200, told
    return {
        datetime.fromisoformat(told["start"]).astimezone(UTC) + n * sensor.event_resolution: value
        for n, value in enumerate(told["values"])
        if value is not None
    }


def exact_kw(
    place: household.Place, span: timedelta, resolution: timedelta = FIVE
) -> dict[int, float]:
    """Slots by minutes since START; from the file alone, by a computation that shares nothing
    with the box."""
    slots: dict[int, float] = {}
    start = START
    while start + resolution <= START + span:
        watts = exact.mean_w(place.node, place.endpoint, start, start + resolution)
        slots[(start - START) // MINUTE] = watts / 1000
        start += resolution
    return slots
