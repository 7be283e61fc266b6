"""The way back: how late the radio hears, and what asking for fifty devices costs.

The start of an interval → the command handed to the radio, on the real clock with the real ledger
(its commit included), fifty devices at the same moment being the worst; the same on a card that
needs no time (memory), which shows what is left to the processor; and the processor time of one
poll of fifty devices' limits, which the box makes every thirty seconds.
"""

import asyncio
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edge.clock import SystemClock
from edge.control.carry_out import CarryOut
from edge.control.decide import Controllable
from edge.control.ledger import Ledger
from edge.control.steering import Steering
from edge.health import Health
from edge.model import Device, DeviceState, Interval, Origin, Plan
from edge.store.commands import CommandTable
from edge.store.settings import Events, Settings, open_state
from edge.uplink.flexibility import LIMIT_RESOLUTION, plan_from
from edge.uplink.remote import series_from

DEVICES = 50
ROUNDS = 100
ROUNDS_TOGETHER = 12
MEMORY = Path("/dev/shm")
FAMILY = "bench"


class Radio:
    """Notes when each command came."""

    family = FAMILY

    def __init__(self) -> None:
        self.on = {str(number): True for number in range(DEVICES)}
        self.told_at: dict[str, datetime] = {}

    def devices(self) -> list[Device]:
        return [
            Device(FAMILY, name, name, "", DeviceState.ALIVE, is_switch=True, is_on=on)
            for name, on in self.on.items()
        ]

    async def turn_off(self, device: str, hold: timedelta | None) -> None:
        self.told_at[device] = datetime.now(UTC)
        self.on[device] = False

    async def turn_on(self, device: str) -> None:
        self.on[device] = True

    async def is_on(self, device: str) -> bool | None:
        return self.on[device]


async def main() -> None:
    for card, place in (("the disk", None), ("memory", MEMORY)):
        if place is not None and not place.is_dir():
            continue
        with tempfile.TemporaryDirectory(dir=place) as folder:
            single = await _late(Path(folder, "single.db"), 1, ROUNDS)
            _print(f"one device, {card}", single)
            together = await _late(Path(folder, "together.db"), DEVICES, ROUNDS_TOGETHER)
            _print(f"{DEVICES} devices at once, {card}", together)
    _polling()


async def _late(path: Path, devices: int, rounds: int) -> list[float]:
    """Milliseconds from the start of an interval to each command."""
    clock = SystemClock(datetime(2026, 1, 1, tzinfo=UTC), trust_always=True)
    state = await open_state(path)
    settings, health, radio = await Settings.open(state), Health(clock), Radio()
    carry_out = CarryOut(
        Ledger(await CommandTable.open(state)), lambda: {FAMILY: radio}, clock, health
    )
    steering = Steering(settings, carry_out, radio.devices, clock, health, Events(state, clock).add)
    keys = [f"{FAMILY}/{number}" for number in range(devices)]
    for key in keys:
        await steering.allow(Controllable(key, 1000, rest_shortest=timedelta(0), consent=True))
    running = asyncio.ensure_future(steering.run())
    late_ms = []
    try:
        for _ in range(rounds):
            start = datetime.now(UTC) + timedelta(seconds=0.2)
            interval = Interval(start, start + timedelta(minutes=5), 0.0)
            for key in keys:
                steering.take_plan(key, Plan(Origin.LIMIT, (interval,)))
            await asyncio.sleep(0.5 if devices == 1 else 1.2)
            late_ms += [(at - start) / timedelta(milliseconds=1) for at in radio.told_at.values()]
            radio.told_at.clear()
            for key in keys:
                steering.take_plan(key, Plan(Origin.LIMIT, ()))
            await asyncio.sleep(0.1 if devices == 1 else 0.6)
    finally:
        running.cancel()
        await asyncio.wait({running})
        await state.close()
    return late_ms


def _print(what: str, late_ms: list[float]) -> None:
    ordered = sorted(late_ms)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    print(
        f"interval start → radio command, {what}: p50 {statistics.median(ordered):.0f} ms,"
        f" p99 {p99:.0f} ms, worst {ordered[-1]:.0f} ms ({len(ordered)} commands)"
    )


def _polling() -> None:
    """Reading fifty answers; the wire and the server are not counted."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    values = [None] * 120 + [0.0] * 30 + [None] * 150
    answer = {
        "values": values,
        "start": now.isoformat(),
        "resolution": f"PT{LIMIT_RESOLUTION // timedelta(minutes=1)}M",
    }
    begun = time.process_time()
    for _ in range(DEVICES):
        plan_from(Origin.LIMIT, series_from(answer), now)
    spent_ms = (time.process_time() - begun) * 1000
    print(
        f"one poll of {DEVICES} devices: {spent_ms:.1f} ms of processor to read the answers,"
        f" {2 * DEVICES} requests a minute and {DEVICES} for schedules,"
        " of 500 a minute for the box's user"
    )
