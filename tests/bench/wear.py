"""What keeping a household's readings costs the card: bytes written, bytes at rest, readings/s.

30 series, one reading each every 10 s, uploads acknowledged once a minute, on a fresh ext4 with
noatime,commit=60. Time is compressed, so the kernel writes back less than in real time; the second
column forces it to every 30 simulated seconds, which is more than it ever would. The truth for a
box lies between.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.bench.device import ext4
from tests.bench.stores import (
    Obvious,
    Ours,
    PersistQueue,
    Sent,
    Store,
    ThingsBoard,
    install_thingsboard,
)

SERIES = 30
STEP_S = 10
FORCED_SYNC_S = 30
DAY_S = 86_400
MUST_MB_A_DAY, GOAL_MB_A_DAY = 45, 30
MUST_BYTES_AT_REST, GOAL_BYTES_AT_REST = 10, 5


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run cost."""

    readings: int
    written_bytes: int
    flushes: int
    busy_s: float
    file_bytes: int

    def mb_a_day(self, seconds: int) -> float:
        return self.written_bytes * DAY_S / seconds / 1e6


async def main() -> None:
    contenders: list[tuple[Callable[[], Store], float]] = [
        (Ours, 6),
        (lambda: Ours(commit_every_s=10), 3),
        (Obvious, 0.25),
        (PersistQueue, 0.25),
    ]
    if (why := install_thingsboard()) is None:
        contenders.append((ThingsBoard, 0.25))
    else:
        print(f"the ThingsBoard gateway can't be had here: {why}")
    print(f"{'':36}{'lazy write-back':>19}{'forced sync 30 s':>19}{'':>12}{'offline':>11}")
    print(
        f"{'':36}{'MB/day':>9}{'B/reading':>10}{'MB/day':>9}{'B/reading':>10}"
        f"{'readings/s':>12}{'B at rest':>11}{'flushes/day':>13}"
    )
    for make, hours in contenders:
        seconds = int(hours * 3600)
        lazy = await measure(make(), seconds)
        forced = await measure(make(), seconds, forced=True)
        resting = await measure(make(), seconds, offline=True)
        print(
            f"{make().name:36}{lazy.mb_a_day(seconds):>9.1f}"
            f"{lazy.written_bytes / lazy.readings:>10.0f}{forced.mb_a_day(seconds):>9.1f}"
            f"{forced.written_bytes / forced.readings:>10.0f}{lazy.readings / lazy.busy_s:>12.0f}"
            f"{resting.file_bytes / resting.readings:>11.1f}{lazy.flushes * DAY_S // seconds:>13}",
            flush=True,
        )
    print(
        f"must: ≤ {MUST_MB_A_DAY} MB a day, ≤ {MUST_BYTES_AT_REST} B at rest;"
        f" goal: ≤ {GOAL_MB_A_DAY} MB, ≤ {GOAL_BYTES_AT_REST} B"
        "\nat rest: without the half megabyte of ballast that the box keeps for a full card"
    )


async def measure(
    store: Store, seconds: int, *, forced: bool = False, offline: bool = False
) -> Cost:
    """Run a store through that much household time on a device of its own."""
    with ext4() as device:
        await store.open(device.folder)
        os.sync()
        written, flushes, stored, busy_s = device.written_bytes(), device.flushes(), 0, 0.0
        for second, readings in household(seconds):
            began_s = time.perf_counter()
            await store.step(readings, second)
            if second % 60 == 0 and not offline:
                await store.acknowledge(second)
            busy_s += time.perf_counter() - began_s
            stored += len(readings)
            if forced and second % FORCED_SYNC_S == 0:
                os.sync()
        await store.close()
        os.sync()
        files = sum(
            file.stat().st_blocks * 512
            for file in device.folder.rglob("*")
            if file.is_file() and file.suffix != ".ballast"
        )
        return Cost(
            stored, device.written_bytes() - written, device.flushes() - flushes, busy_s, files
        )


def household(seconds: int) -> Iterator[tuple[int, list[Sent]]]:
    """Every ten seconds one reading of each series: W, kWh, V and A in turn, each series at its own
    moment with nearly a second of jitter."""
    chance = random.Random(1)
    moment_ms = [chance.randrange(9_000) for _ in range(SERIES)]
    power_w = [chance.uniform(0, 2_000) for _ in range(SERIES)]
    energy_kwh = [chance.uniform(0, 20_000) for _ in range(SERIES)]
    for second in range(STEP_S, seconds + 1, STEP_S):
        readings = []
        for series in range(SERIES):
            if chance.random() < 0.3:
                power_w[series] = max(0.0, power_w[series] + chance.gauss(0, 40))
            energy_kwh[series] += power_w[series] * STEP_S / 3_600_000
            voltage_v = chance.gauss(230, 1)
            value = (
                round(power_w[series], 1),
                round(energy_kwh[series], 3),
                round(voltage_v, 1),
                round(power_w[series] / voltage_v, 2),
            )[series % 4]
            at_ms = (second - STEP_S) * 1000 + moment_ms[series] + chance.randrange(900)
            readings.append(Sent(series + 1, at_ms, value))
        yield second, readings
