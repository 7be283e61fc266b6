"""Catching up a week: the whole uplink against a bare loop, on the same FlexMeasures.

The bare loop posts ready-made bodies of the same size, one after the other, and keeps nothing. The
box takes slots from its outbox, asks the server what it holds, posts, settles and commits; "just
paired" also computes them from its readings meanwhile. Each run has an account, a site and sensors
of its own; they take turns, because the machine is never equally fast for long.
"""

import asyncio
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp

from edge.clock import SystemClock
from edge.model import Channel, Kind, Quantity, Sensor, Term
from edge.store.buffer import Buffer
from edge.store.outbox import Outbox
from edge.uplink.address import Reach, parse_address
from edge.uplink.due import DueSlots
from edge.uplink.flexmeasures import FlexMeasures
from edge.uplink.pacing import Pacing
from edge.uplink.shipping import BATCH_SLOTS_MAX, Shipping
from tests.house.flexmeasures import Account, FlexMeasuresServer

SENSORS = 6
WEEK = timedelta(days=7)
FIVE = timedelta(minutes=5)
TURNS = 5
MUST_PERCENT, GOAL_PERCENT = 90, 95
SLOTS = SENSORS * (WEEK // FIVE)


async def main() -> None:
    runs: dict[str, list[float]] = {"bare loop": [], "back on line": [], "just paired": []}
    with FlexMeasuresServer() as server:
        await bare_loop(server, days=1)  # the server's first posts are slow for everybody
        for _ in range(TURNS):
            runs["bare loop"].append(await bare_loop(server))
            runs["back on line"].append(await whole_uplink(server, is_filled=True))
            runs["just paired"].append(await whole_uplink(server, is_filled=False))
    print(f"{SENSORS} sensors, a week of 5-minute slots = {SLOTS} slots, {BATCH_SLOTS_MAX} a post")
    bare = statistics.harmonic_mean(runs["bare loop"])
    for name, rates in runs.items():
        told = "".join(f"{rate:8.0f}" for rate in rates)
        share = 100 * statistics.harmonic_mean(rates) / bare
        print(f"{name:14}{told}   slots/s   {share:4.0f} % of the bare loop")
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
        shipping = Shipping(outbox, lambda: client, lambda: sensors, clock, pacing)
        if is_filled:
            await due.round()
            await buffer.commit()
        began = time.perf_counter()
        with suppress(asyncio.CancelledError):
            async with asyncio.TaskGroup() as group:
                parts = [group.create_task(part()) for part in (buffer.run, due.run, shipping.run)]
                # what is younger than an hour waits for its moment
                while (await outbox.counts()).accepted_total < SLOTS - SENSORS * 12:  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
                took_s = time.perf_counter() - began
                for part in parts:
                    part.cancel()
        accepted = (await outbox.counts()).accepted_total
        await buffer.close()
    await client.close()
    return accepted / took_s


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
