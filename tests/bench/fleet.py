"""300 box uplinks that share one FlexMeasures user: in normal running, and after a day away.

Real senders, outboxes and clients, a real server with its real limit of 500 requests a minute. To
keep it short every period is five times shorter than in the field (uploads once a minute, backfill
spread over three), which is five times harder on the server. All boxes start at the same moment.
"""

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from edge.clock import SystemClock
from edge.model import Sensor, Slot
from edge.store.buffer import Buffer
from edge.store.outbox import Outbox
from edge.supervise import keep_running
from edge.uplink.address import Reach, parse_address
from edge.uplink.connection import Connection
from edge.uplink.flexmeasures import FlexMeasures
from edge.uplink.pacing import Pacing
from edge.uplink.shipping import Shipping
from edge.uplink.verdict import Answer
from tests.house.flexmeasures import Account, FlexMeasuresServer

BOXES = 300
MINUTE = timedelta(minutes=1)
FASTER = 5
UPLOAD_EVERY = timedelta(minutes=5) / FASTER
BACKFILL_SPREAD = timedelta(minutes=15) / FASTER
NORMAL_PERIODS = 3
SLOTS_OF_A_DAY = 288
GIVE_UP = timedelta(minutes=15)


@dataclass
class Fleet:
    """What all boxes together saw."""

    answers: Counter[int] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)

    def report(self, name: str, state: str) -> None:
        if state.startswith("broken"):
            self.broken[name] += 1


class CountingConnection(Connection):
    """Counts the answers by status."""

    fleet: Fleet

    async def exchange(self, *args: Any, **kwargs: Any) -> Answer:
        answer = await super().exchange(*args, **kwargs)
        self.fleet.answers[answer.status] += 1
        return answer


@dataclass
class Box:
    outbox: Outbox
    buffer: Buffer
    client: FlexMeasures
    sensor: Sensor
    clock: SystemClock
    name: str

    async def enqueue(self, until: datetime, count: int) -> None:
        starts = [until - n * MINUTE for n in range(count, 0, -1)]
        slots = [Slot(self.sensor.sensor_id, at, MINUTE, 0.5 + at.minute / 100) for at in starts]
        await self.outbox.enqueue(slots, {self.sensor.sensor_id: until})
        await self.buffer.commit()

    def shipping(self) -> Shipping:
        pacing = Pacing(self.name, UPLOAD_EVERY, BACKFILL_SPREAD)
        return Shipping(self.outbox, lambda: self.client, lambda: [self.sensor], self.clock, pacing)


async def main() -> None:
    with FlexMeasuresServer() as server, tempfile.TemporaryDirectory() as folder:
        fleet = Fleet()
        async with AsyncExitStack() as stack:
            boxes = [
                await stack.enter_async_context(box)
                for box in await build(server, Path(folder), fleet)
            ]
            await observe("normal running", boxes, fleet, normal_running(boxes))
            old = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=2)
            for box in boxes:
                await box.enqueue(old, SLOTS_OF_A_DAY)
            await observe("after a day away", boxes, fleet, normal_running(boxes))


async def observe(name: str, boxes: Sequence[Box], fleet: Fleet, life: AsyncIterator[int]) -> None:
    """Run every sender until everything is stored, and say how that went."""
    fleet.answers.clear()
    began = datetime.now(UTC)
    before = await total(boxes, "accepted_total")
    waiting = await total(boxes, "waiting")
    with suppress(asyncio.CancelledError):
        async with asyncio.TaskGroup() as group:
            parts = [
                group.create_task(
                    keep_running(box.name, box.shipping().run, box.clock, fleet.report)
                )
                for box in boxes
            ]
            async for produced in life:
                waiting += produced
            give_up = began + GIVE_UP
            while await total(boxes, "waiting") and datetime.now(UTC) < give_up:  # noqa: ASYNC110
                await asyncio.sleep(2)
            for part in parts:
                part.cancel()
    took = datetime.now(UTC) - began
    accepted = await total(boxes, "accepted_total") - before
    asked = sum(fleet.answers.values())
    print(
        f"{name:18} {accepted} of {waiting} slots stored in {took.total_seconds():.0f} s,"
        f" {asked / (took / MINUTE):.0f} requests/min, answered {dict(fleet.answers)},"
        f" rejected {await total(boxes, 'rejected_total')}, broken senders {fleet.broken.total()}",
        flush=True,
    )


async def normal_running(boxes: Sequence[Box]) -> AsyncIterator[int]:
    """One slot a box and period, due for all at the same moment; yields how many."""
    for _ in range(NORMAL_PERIODS):
        now = datetime.now(UTC)
        until = now.replace(second=0, microsecond=0)
        for box in boxes:
            await box.enqueue(until, 1)
        yield len(boxes)
        await asyncio.sleep((MINUTE - (datetime.now(UTC) - until) % MINUTE).total_seconds())


async def total(boxes: Sequence[Box], name: str) -> int:
    return sum([getattr(await box.outbox.counts(), name) for box in boxes])


async def build(server: FlexMeasuresServer, folder: Path, fleet: Fleet) -> list[Any]:
    """The boxes, each to be entered; their sensors belong to one site of one user."""
    owner = server.make_account()
    user = server.make_user(owner)
    async with client_of(server, owner, fleet) as client:
        member = await client.member()
        types = await client.asset_types()
        site = await client.create_asset("Street", types["building"], member.account_id)
        sensors = []
        for number in range(BOXES):
            made = await client.create_sensor(
                site.asset_id, f"power {number}", "kW", MINUTE, {"consumption_is_positive": True}
            )
            sensors.append(Sensor(made.sensor_id, made.name, "kW", MINUTE, ()))
    return [
        open_box(folder / str(n), client_of(server, user, fleet), sensor, f"box-{n}")
        for n, sensor in enumerate(sensors)
    ]


@asynccontextmanager
async def open_box(
    folder: Path, client: FlexMeasures, sensor: Sensor, name: str
) -> AsyncIterator[Box]:
    clock = clock_of_house()
    buffer = await Buffer.open(folder / "buffer.db", clock)
    yield Box(await Outbox.open(buffer), buffer, client, sensor, clock, name)
    await buffer.close()
    await client.close()


def client_of(server: FlexMeasuresServer, user: Account, fleet: Fleet) -> FlexMeasures:
    address = parse_address(server.url, Reach(loopback=True))
    connection = CountingConnection(address)
    connection.fleet = fleet
    return FlexMeasures(
        address, user.email, lambda: user.password, clock_of_house(), connection=connection
    )


def clock_of_house() -> SystemClock:
    return SystemClock(datetime(2026, 1, 1, tzinfo=UTC), trust_always=True)
