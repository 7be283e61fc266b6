"""The agent and the Z-Wave driver at work: how fast a report is in memory, what both weigh.

Latency goes from before the simulated stick is told to send until the real intake has the reading:
radio frame, serial port, driver, websocket, family, plausibility. Memory and CPU are those of the
whole processes, paired with a FlexMeasures, while the household is replayed in real time.
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edge.clock import SystemClock
from edge.devices.zwave.family import ZWave
from edge.errors import EdgeError
from edge.intake import ReadingIntake
from edge.model import BoxTime, Channel, Reading
from edge.store.buffer import Buffer
from edge.store.settings import Settings, open_state
from tests.house import household, yesterday
from tests.house.agent_process import AgentProcess
from tests.house.flexmeasures import FlexMeasuresServer
from tests.house.replay import Replay
from tests.house.stick.stick import METER, Stick, Value, W
from tests.house.zwave_server import ZwaveServer

REPORTS_PER_S = 20
REPORTS = 60 * REPORTS_PER_S
STRAGGLERS_S = 3.0
SETTLED_S = 60.0
WATCHED_S = 60.0
READY_WITHIN_S = 120.0
METERS = 3
MUST_MB = {"agent": 45, "driver": 130}
GOAL_MB = {"agent": 40, "driver": 110}


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


# --- weight ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Weight:
    """What a process holds and has used."""

    pss_mb: float
    private_mb: float
    cpu_s: float


async def print_weight(
    folder: Path, stick: Stick, driver: ZwaveServer, server: FlexMeasuresServer
) -> None:
    """Measured after a day of catching up, while nothing but the house's reports go on."""
    account = server.make_account()
    home = household.load()
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    async with AgentProcess(folder / "agent", driver.url, folder / "stick") as agent:
        await yesterday.write(agent.state / "buffer.db", home, now - timedelta(days=1), now)
        playing = asyncio.create_task(Replay(stick, home).run())
        await agent.start()
        await agent.until(lambda s: [d.state for d in s.devices] == ["alive"] * METERS)
        await agent.pair(server.url, account.email, account.password)
        await agent.until(lambda s: s.flexmeasures.slots_accepted > 0, within_s=READY_WITHIN_S)
        await agent.until(lambda s: s.flexmeasures.slots_waiting == 0, within_s=READY_WITHIN_S)
        await asyncio.sleep(SETTLED_S)
        processes = {"agent": agent.pid, "driver": driver.pid}
        before = {name: weigh(pid) for name, pid in processes.items()}
        await asyncio.sleep(WATCHED_S)
        after = {name: weigh(pid) for name, pid in processes.items()}
        playing.cancel()
        await asyncio.wait([playing])
    print(f"\n{'':10}{'PSS':>8}{'private':>10}{'must':>8}{'goal':>8}{'CPU, of one core':>20}")
    for name, weight in after.items():
        percent = 100 * (weight.cpu_s - before[name].cpu_s) / WATCHED_S
        print(
            f"{name:10}{weight.pss_mb:>5.1f} MB{weight.private_mb:>7.1f} MB"
            f"{MUST_MB[name]:>5} MB{GOAL_MB[name]:>5} MB{percent:>18.1f} %"
        )


def weigh(pid: int) -> Weight:
    rollup: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, kib, *_ = line.split()
        rollup[name.rstrip(":")] = int(kib) * 1024
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])  # utime and stime: proc(5)
    private = rollup["Private_Clean"] + rollup["Private_Dirty"]
    return Weight(rollup["Pss"] / 1e6, private / 1e6, ticks / os.sysconf("SC_CLK_TCK"))
