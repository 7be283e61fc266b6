"""300 box uplinks that share one FlexMeasures user: in normal running, and after a day away.

Real senders, outboxes and clients, each with its box's own health, and a real server with its real
limit of 500 requests a minute. To keep it short every period is two and a half times shorter than
in the field (uploads and heartbeats every two minutes), which is as much harder on the server. All
boxes start at the same moment.
"""

import asyncio
import re
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from edge.clock import SystemClock
from edge.health import Health
from edge.model import Sensor, Slot
from edge.store.buffer import Buffer
from edge.store.outbox import Outbox
from edge.supervise import first_to_fail, keep_running
from edge.uplink.address import Reach, parse_address
from edge.uplink.box_health import BoxHealth, Vitals
from edge.uplink.connection import Connection
from edge.uplink.flexmeasures import FlexMeasures
from edge.uplink.mapping import sensors_to_json
from edge.uplink.pacing import Pacing
from edge.uplink.remote import RemoteAsset
from edge.uplink.shipping import Shipping
from edge.uplink.verdict import Answer
from tests.house.flexmeasures import Account, FlexMeasuresServer
from tests.house.paper_notebook import PaperNotebook

BOXES = 300
MINUTE = timedelta(minutes=1)
UPLOAD_EVERY = timedelta(minutes=2)  # 5 in the field
SELDOM = timedelta(minutes=6)  # 15 in the field: the signs of health beside the heartbeat
BACKFILL_SPREAD = timedelta(minutes=3)  # 15 in the field
NORMAL_PERIODS = 2
SLOTS_OF_A_DAY = 288
GIVE_UP = timedelta(minutes=8)
SIGNS = ("heartbeat", "oldest-waiting", "dead-devices", "set-aside")
SETTING_UP = 6  # users who make the boxes' sensors, because the limit counts for each


@dataclass
class Fleet:
    """What all boxes together saw."""

    answers: Counter[int] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)  # what the server's own failures said

    def report(self, name: str, state: str) -> None:
        if state.startswith("broken"):
            self.broken[name] += 1


class CountingConnection(Connection):
    """Counts the answers by status."""

    fleet: Fleet

    async def exchange(self, *args: Any, **kwargs: Any) -> Answer:
        answer = await super().exchange(*args, **kwargs)
        self.fleet.answers[answer.status] += 1
        if answer.status >= 500:
            what = re.sub(r"\d+", "N", f"{args[0]} {args[1]}")
            self.fleet.failures[f"{what}: {answer.message or answer.text}"[:300]] += 1
        return answer


@dataclass
class Box:
    outbox: Outbox
    buffer: Buffer
    client: FlexMeasures
    sensor: Sensor
    heartbeat: Sensor
    health: BoxHealth
    clock: SystemClock
    name: str

    async def enqueue(self, until: datetime, count: int) -> None:
        starts = [until - n * MINUTE for n in range(count, 0, -1)]
        slots = [Slot(self.sensor.sensor_id, at, MINUTE, 0.5 + at.minute / 100) for at in starts]
        await self.outbox.enqueue(slots, {self.sensor.sensor_id: until})
        await self.buffer.commit()

    def shipping(self) -> Shipping:
        sensors = [self.sensor]
        return Shipping(
            self.outbox,
            lambda: self.client,
            lambda: sensors,
            self.clock,
            pacing_of(self.name),
            self.health.beat,
        )


async def main() -> None:
    with FlexMeasuresServer() as server, tempfile.TemporaryDirectory() as folder:
        fleet = Fleet()
        async with AsyncExitStack() as stack:
            boxes = [
                await stack.enter_async_context(box)
                for box in await build(server, Path(folder), fleet)
            ]
            await observe("normal running", boxes, fleet)
            old = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=2)
            for box in boxes:
                await box.enqueue(old, SLOTS_OF_A_DAY)
            await observe("after a day away", boxes, fleet)


async def observe(name: str, boxes: Sequence[Box], fleet: Fleet) -> None:
    """Run every sender until everything is stored, and say how that went."""
    fleet.answers.clear()
    fleet.failures.clear()
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
            async for produced in normal_running(boxes):
                waiting += produced
            while await total(boxes, "waiting") and datetime.now(UTC) < began + GIVE_UP:  # noqa: ASYNC110
                await asyncio.sleep(2)
            for part in parts:
                part.cancel()
    took = datetime.now(UTC) - began
    accepted = await total(boxes, "accepted_total") - before
    asked = sum(fleet.answers.values())
    looked_at = boxes[:: BOXES // 20]
    now = datetime.now(UTC)
    beats = [len(await box.client.stored(box.heartbeat, began, now)) for box in looked_at]
    print(
        f"{name:18} {accepted} of {waiting} slots stored in {took.total_seconds():.0f} s,"
        f" {asked / (took / MINUTE):.0f} requests/min, answered {dict(fleet.answers)},"
        f" rejected {await total(boxes, 'rejected_total')}, broken senders {fleet.broken.total()}",
        flush=True,
    )
    print(
        f"{'':18} heartbeats: {min(beats)} to {max(beats)} a box in {took / UPLOAD_EVERY:.1f}"
        f" periods (of {len(beats)} boxes that were looked at)"
    )
    for said, times in fleet.failures.most_common(5):
        print(f"{'':18} {times} × {said}", flush=True)


async def normal_running(boxes: Sequence[Box]) -> AsyncIterator[int]:
    """A slot a minute and box, due for all at the same moment; yields how many."""
    for _ in range(NORMAL_PERIODS):
        until = datetime.now(UTC).replace(second=0, microsecond=0)
        count = UPLOAD_EVERY // MINUTE
        for box in boxes:
            await box.enqueue(until, count)
        yield len(boxes) * count
        await asyncio.sleep((until + UPLOAD_EVERY - datetime.now(UTC)).total_seconds())


async def total(boxes: Sequence[Box], name: str) -> int:
    return sum([getattr(await box.outbox.counts(), name) for box in boxes])


async def build(server: FlexMeasuresServer, folder: Path, fleet: Fleet) -> list[Any]:
    """The boxes, each to be entered; their sensors belong to one site of one user. What pairing
    makes is made beforehand: people pair one box after the other."""
    owner = server.make_account()
    user = server.make_user(owner)
    async with client_of(server, owner, fleet) as client:
        member = await client.member()
        types = await client.asset_types()
        site = await client.create_asset("Street", types["building"], member.account_id)
    numbers = iter(range(BOXES))
    made: dict[int, list[Sensor]] = {}

    async def set_up(helper: Account) -> None:
        async with client_of(server, helper, fleet) as client:
            for number in numbers:
                made[number] = await sensors_of_box(client, site, number)

    helpers = [server.make_user(owner, f"helper {number}") for number in range(SETTING_UP)]
    await first_to_fail(*map(set_up, helpers))
    return [
        open_box(folder / str(n), client_of(server, user, fleet), made[n], f"box-{n}", site)
        for n in range(BOXES)
    ]


async def sensors_of_box(client: FlexMeasures, site: RemoteAsset, number: int) -> list[Sensor]:
    """One of power, and those of the box's own health."""
    wanted = [(f"power {number}", "kW", MINUTE, True)]
    wanted += [
        (f"{sign} {number}", "dimensionless", SELDOM if turn else UPLOAD_EVERY, False)
        for turn, sign in enumerate(SIGNS)
    ]
    sensors = []
    for name, unit, resolution, signed in wanted:
        attributes = {"consumption_is_positive": True} if signed else {}
        made = await client.create_sensor(site.asset_id, name, unit, resolution, attributes)
        sensors.append(Sensor(made.sensor_id, made.name, unit, resolution, ()))
    return sensors


@asynccontextmanager
async def open_box(
    folder: Path, client: FlexMeasures, sensors: Sequence[Sensor], name: str, site: RemoteAsset
) -> AsyncIterator[Box]:
    clock = clock_of_house()
    buffer = await Buffer.open(folder / "buffer.db", clock)
    outbox = await Outbox.open(buffer)
    health = await healthy(client, sensors[1:], name, site, outbox, clock)
    yield Box(outbox, buffer, client, sensors[0], sensors[1], health, clock, name)
    await buffer.close()
    await client.close()


async def healthy(
    client: FlexMeasures,
    sensors: Sequence[Sensor],
    name: str,
    site: RemoteAsset,
    outbox: Outbox,
    clock: SystemClock,
) -> BoxHealth:
    """The box's own health, as a run before this one left it."""

    async def vitals() -> Vitals:
        oldest = (await outbox.counts()).oldest_waiting
        waits = timedelta(0) if oldest is None else clock.wall_now() - oldest
        return Vitals(waits, 0, 0)

    notes = PaperNotebook()
    place = {"url": client.address.base, "email": client.email, "site_id": site.asset_id}
    kept = {"place": {**place, "attributes": {}}, "sensors": sensors_to_json(sensors)}
    await notes.put("box_health", kept)
    return BoxHealth(
        name,
        name,
        {},
        Street(client, site.asset_id),
        vitals,
        notes,
        pacing_of(name),
        Health(clock),
        clock,
    )


@dataclass(frozen=True)
class Street:
    """Where the boxes are paired."""

    client: FlexMeasures
    asset_id: int

    def server(self) -> FlexMeasures:
        return self.client

    def site_id(self) -> int:
        return self.asset_id


def pacing_of(name: str) -> Pacing:
    return Pacing(name, UPLOAD_EVERY, BACKFILL_SPREAD)


def client_of(server: FlexMeasuresServer, user: Account, fleet: Fleet) -> FlexMeasures:
    address = parse_address(server.url, Reach(loopback=True))
    connection = CountingConnection(address)
    connection.fleet = fleet
    return FlexMeasures(
        address, user.email, lambda: user.password, clock_of_house(), connection=connection
    )


def clock_of_house() -> SystemClock:
    return SystemClock(datetime(2026, 1, 1, tzinfo=UTC), trust_always=True)
