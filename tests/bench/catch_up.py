"""Catching up a week: the whole uplink against a bare loop, on the same FlexMeasures.

The bare loop posts ready-made bodies of the same size, one after the other, and keeps nothing. The
box takes slots from its outbox, asks the server what it holds, posts, settles and commits; "just
paired" also computes them from its readings meanwhile. Each run has an account, a site and sensors
of its own. They take turns, because the machine is never equally fast for long, and each run of the
box is compared with the bare loops just before and after it.
"""

import asyncio
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from pathlib import Path

import aiohttp

from edge.clock import SystemClock
from edge.model import Channel, Kind, Quantity, Sensor, Term
from edge.store.buffer import Buffer
from edge.store.outbox import Outbox, OutboxSlot
from edge.uplink.address import Reach, parse_address
from edge.uplink.due import DueSlots
from edge.uplink.flexmeasures import FlexMeasures, Posted
from edge.uplink.pacing import Allowance, Pacing
from edge.uplink.shipping import BATCH_SLOTS_MAX, Shipping
from tests.house.flexmeasures import Account, FlexMeasuresServer

SENSORS = 6
WEEK = timedelta(days=7)
FIVE = timedelta(minutes=5)
TURNS = 4
MUST_PERCENT, GOAL_PERCENT = 90, 95
SLOTS = SENSORS * (WEEK // FIVE)


async def main() -> None:
    bare: list[float] = []
    runs: dict[str, list[float]] = {"back on line": [], "just paired": []}
    with FlexMeasuresServer() as server:
        await bare_loop(server, days=1)  # the server's first posts are slow for everybody
        for _ in range(TURNS):
            for name, rates in runs.items():
                bare.append(await bare_loop(server))
                rates.append(await whole_uplink(server, is_filled=name == "back on line"))
        bare.append(await bare_loop(server))
    print(f"{SENSORS} sensors, a week of 5-minute slots = {SLOTS} slots, {BATCH_SLOTS_MAX} a post")
    print(f"{'bare loop':14}{''.join(f'{rate:7.0f}' for rate in bare)}   slots/s")
    for number, (name, rates) in enumerate(runs.items()):
        neighbours = pairwise(bare)
        beside = [statistics.harmonic_mean(pair) for pair in islice(neighbours, number, None, 2)]
        shares = [100 * rate / around for rate, around in zip(rates, beside, strict=True)]
        print(
            f"{name:14}{''.join(f'{rate:7.0f}' for rate in rates)}   slots/s ="
            f"{''.join(f'{share:4.0f}' for share in shares)} % of the bare loops beside it,"
            f" median {statistics.median(shares):.0f} %"
        )
    print(f"must: {MUST_PERCENT} %, goal: {GOAL_PERCENT} %")


async def bare_loop(server: FlexMeasuresServer, days: int = 7) -> float:
    """Slots per second of a loop that does nothing but post."""
    user = server.make_account()
    client = client_of(server, user)
    sensors = await make_sensors(client)
    await client.close()
    start = whole_day() - timedelta(days=days)
    count = days * 288
    bodies = [
        (f"/api/v3_0/sensors/{sensor.sensor_id}/data", body(start, first, count))
        for first in range(0, count, BATCH_SLOTS_MAX)
        for sensor in sensors
    ]
    async with aiohttp.ClientSession(server.url) as session:
        log_in = {"email": user.email, "password": user.password}
        async with session.post("/api/requestAuthToken", json=log_in) as answer:
            headers = {"Authorization": (await answer.json())["auth_token"]}
        began = time.perf_counter()
        for path, content in bodies:
            async with session.post(path, json=content, headers=headers) as answer:
                assert answer.status == 200, await answer.text()
    return SENSORS * count / (time.perf_counter() - began)


async def whole_uplink(server: FlexMeasuresServer, *, is_filled: bool) -> float:
    """Slots per second until the last verdict; `is_filled`: the outbox holds them already."""
    client = client_of(server, server.make_account())
    remote = await make_sensors(client)
    clock = SystemClock(datetime(2026, 1, 1, tzinfo=UTC), trust_always=True)
    with tempfile.TemporaryDirectory() as folder:
        buffer = await Buffer.open(Path(folder, "buffer.db"), clock)
        outbox = await Outbox.open(buffer)
        channels = {channel.key: channel for channel in map(channel_of, range(SENSORS))}
        sensors = [
            Sensor(made.sensor_id, made.name, "kW", FIVE, (Term(key),))
            for made, key in zip(remote, channels, strict=True)
        ]
        await read_week(buffer, list(channels))
        due = DueSlots(buffer, outbox, lambda: sensors, lambda: channels, clock)
        pacing = Pacing("bench", backfill_spread_max=timedelta(0))
        arrived = Arrived(client)
        shipping = Shipping(outbox, lambda: arrived, lambda: sensors, clock, pacing)
        if is_filled:
            await due.round()
            await buffer.commit()
        began = time.perf_counter()
        with suppress(asyncio.CancelledError):
            async with asyncio.TaskGroup() as group:
                parts = [group.create_task(part()) for part in (buffer.run, due.run, shipping.run)]
                await arrived.all.wait()
                took_s = time.perf_counter() - began
                # the last verdict is being written
                while (await outbox.counts()).accepted_total < arrived.count:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
                for part in parts:
                    part.cancel()
        await buffer.close()
    await client.close()
    return arrived.count / took_s


class Arrived:
    """The client as the sender sees it; counts what FlexMeasures accepted."""

    def __init__(self, client: FlexMeasures) -> None:
        self.count = 0
        self.all = asyncio.Event()
        self._client = client
        self.job, self.stored = client.job, client.stored

    @property
    def allowance(self) -> Allowance | None:
        return self._client.allowance

    async def post_slots(self, sensor: Sensor, slots: Sequence[OutboxSlot]) -> Posted:
        posted = await self._client.post_slots(sensor, slots)
        self.count += len(posted.verdicts)
        if self.count >= SLOTS - SENSORS * 12:  # what is younger than an hour waits for its moment
            self.all.set()
        return posted


def client_of(server: FlexMeasuresServer, user: Account) -> FlexMeasures:
    clock = SystemClock(datetime(2026, 1, 1, tzinfo=UTC), trust_always=True)
    address = parse_address(server.url, Reach(loopback=True))
    return FlexMeasures(address, user.email, lambda: user.password, clock)


async def make_sensors(client: FlexMeasures, count: int = SENSORS) -> Sequence[Sensor]:
    member = await client.member()
    site = await client.create_asset(
        "Home", (await client.asset_types())["building"], member.account_id
    )
    made = []
    for number in range(count):
        remote = await client.create_sensor(
            site.asset_id, f"power {number}", "kW", FIVE, {"consumption_is_positive": True}
        )
        made.append(Sensor(remote.sensor_id, remote.name, "kW", FIVE, ()))
    return made


async def read_week(buffer: Buffer, keys: Sequence[str]) -> None:
    """A value a minute of each, as a source tells them that has its own clock."""
    end = datetime.now(UTC) - timedelta(hours=1)
    for minute in range(WEEK // timedelta(minutes=1)):
        at = end - WEEK + timedelta(minutes=minute)
        for number, key in enumerate(keys):
            buffer.put(key, at, round(500 + 400 * math.sin(minute / 90 + number), 1))
        if minute % 240 == 0:
            await buffer.commit()
    await buffer.commit()


def channel_of(number: int) -> Channel:
    quantity, kind = Quantity.ACTIVE_POWER, Kind.INSTANTANEOUS
    return Channel(
        "bench", "meter", str(number), quantity, kind, report_interval=timedelta(minutes=1)
    )


def body(start: datetime, first: int, count: int) -> dict[str, object]:
    length = min(BATCH_SLOTS_MAX, count - first)
    return {
        "values": [round(0.5 + 0.4 * math.sin((first + n) / 18), 5) for n in range(length)],
        "start": (start + first * FIVE).isoformat(),
        "duration": f"PT{5 * length}M",
        "unit": "kW",
        "horizon": "PT0H",
    }


def whole_day() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
