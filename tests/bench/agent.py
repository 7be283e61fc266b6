"""The agent and the Z-Wave driver at work: how fast a report is in memory, what both weigh.

Latency goes from before the simulated stick is told to send until the real intake has the reading:
radio frame, serial port, driver, websocket, family, plausibility. Memory and CPU are those of the
whole processes, paired with a FlexMeasures, while the household is replayed in real time.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from edge.clock import SystemClock
from edge.devices.zwave.family import ZWave
from edge.errors import EdgeError
from edge.intake import ReadingIntake
from edge.model import BoxTime, Channel, Reading
from edge.store.buffer import Buffer
from edge.store.settings import Settings, open_state
from tests.bench.weight import print_weight
from tests.house import household
from tests.house.flexmeasures import FlexMeasuresServer
from tests.house.replay import Replay
from tests.house.stick.stick import METER, Stick, Value, W
from tests.house.zwave_server import ZwaveServer

REPORTS_PER_S = 20
REPORTS = 60 * REPORTS_PER_S
STRAGGLERS_S = 3.0
READY_WITHIN_S = 120.0
METERS = 3


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder, FlexMeasuresServer() as server:
        async with a_house(Path(folder)) as (stick, driver):
            await print_latency(Path(folder), stick, driver)
            await print_weight(Path(folder), stick, driver, server)


@asynccontextmanager
async def a_house(folder: Path) -> AsyncIterator[tuple[Stick, ZwaveServer]]:
    driver = ZwaveServer(folder / "stick", folder / "driver")
    async with Stick(folder / "stick", driver.keys) as stick:
        await Replay(stick, household.load()).show()
        async with driver:
            yield stick, driver


# --- latency --------------------------------------------------------------------------------------


class Stopwatch:
    """An Intake before the real one that notes when it had each value."""

    def __init__(self, intake: ReadingIntake) -> None:
        self._intake = intake
        self.at_s: dict[float, float] = {}

    def offer(self, reading: Reading) -> None:
        self._intake.offer(reading)
        self.at_s.setdefault(reading.value, time.perf_counter())

    def announce(self, channels: Iterable[Channel]) -> None:
        self._intake.announce(channels)

    def now(self) -> BoxTime:
        return self._intake.now()


async def print_latency(folder: Path, stick: Stick, driver: ZwaveServer) -> None:
    clock = SystemClock(datetime(2026, 1, 1, tzinfo=UTC), trust_always=True)
    state = await open_state(folder / "state.db")
    settings = await Settings.open(state)
    buffer = await Buffer.open(folder / "buffer.db", clock)
    stopwatch = Stopwatch(ReadingIntake(buffer, settings, clock))
    zwave = ZWave(driver.url, stopwatch, clock, notebook=settings)
    listening = asyncio.create_task(zwave.run())
    await until_interviewed(zwave)
    told_s: dict[float, float] = {}
    sending = []
    began = time.perf_counter()
    for number in range(REPORTS):
        await asyncio.sleep(max(0.0, began + number / REPORTS_PER_S - time.perf_counter()))
        watts = 1000.0 + number
        told_s[watts] = time.perf_counter()
        sending.append(asyncio.create_task(stick.report(Value(METER, 1, W, watts))))
    await asyncio.wait(sending)
    await asyncio.sleep(STRAGGLERS_S)
    listening.cancel()
    with suppress(asyncio.CancelledError, EdgeError):
        await listening
    await buffer.close()
    await state.close()
    took_ms = [1000 * (stopwatch.at_s[w] - at) for w, at in told_s.items() if w in stopwatch.at_s]
    hundredths = statistics.quantiles(took_ms, n=100)
    print(
        f"report → memory at {REPORTS_PER_S} reports/s: p50 {hundredths[49]:.1f} ms, "
        f"p99 {hundredths[98]:.1f} ms, longest {max(took_ms):.0f} ms; "
        f"{len(took_ms)} of {REPORTS} arrived",
        flush=True,
    )


async def until_interviewed(zwave: ZWave) -> None:
    async with asyncio.timeout(READY_WITHIN_S):
        while [device.state for device in zwave.devices()] != ["alive"] * METERS:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
