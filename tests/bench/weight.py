"""What agent and Z-Wave driver hold in memory, and the time they take while nothing happens.

PSS of the whole process (Linux, /proc): what is its own, and its share of files that others have
open too. FlexMeasures and this bench run the same Python, so its library counts in parts; "own" is
what no other process has. MB are 1 000 000 bytes.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
from pydantic import SecretStr

from edge.cli.door import ask
from edge.clock import SystemClock
from edge.contract import Done
from edge.contract.page import ClaimRequest, LogInRequest, SessionAnswer
from edge.contract.setup import FamilyRequest
from edge.devices import load
from tests.house import household, smappee_cloud, yesterday
from tests.house.agent_process import AgentProcess
from tests.house.flexmeasures import FlexMeasuresServer
from tests.house.p1_meter import P1Meter
from tests.house.replay import Replay
from tests.house.spoken_home_assistant import TOKEN, SpokenHomeAssistant
from tests.house.stick.stick import Stick
from tests.house.zwave_server import ZwaveServer

SETTLED_S = 75.0  # the agent hands memory back each minute
WATCHED_S = 60.0
READY_WITHIN_S = 180.0
METERS = 3
VISITS = 10
SCREENS = ("/front", "/status", "/live", "/meters", "/map", "/control", "/control/history")

# name → what it must be, and where it should get, in MB
LIMITS_MB = {
    "agent, Z-Wave": (45, 40),
    "agent, the page used": (45, 40),
    "agent, all families": (50, 50),
    "driver": (130, 110),
}


@dataclass(frozen=True, slots=True)
class Weight:
    """What a process holds and has used."""

    pss_mb: float
    own_mb: float
    cpu_s: float


async def print_weight(
    folder: Path, stick: Stick, driver: ZwaveServer, server: FlexMeasuresServer
) -> None:
    """After a day of catching up: first as it is, then claimed and looked at, then with Smappee,
    a P1 port and Home Assistant beside the stick."""
    account = server.make_account()
    home = household.load()
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    async with (
        AgentProcess(folder / "agent", driver.url, folder / "stick") as agent,
        _others() as (meter, wanted),
    ):
        await yesterday.write(agent.state / "buffer.db", home, now - timedelta(days=1), now)
        playing = asyncio.create_task(Replay(stick, home).run())
        await agent.start()
        await agent.until(lambda s: [d.state for d in s.devices] == ["alive"] * METERS)
        await agent.pair(server.url, account.email, account.password)
        await agent.until(lambda s: s.flexmeasures.slots_accepted > 0, within_s=READY_WITHIN_S)
        await agent.until(lambda s: s.flexmeasures.slots_waiting == 0, within_s=READY_WITHIN_S)
        await asyncio.sleep(SETTLED_S)
        processes = {"agent, Z-Wave": agent.pid, "driver": driver.pid}
        before = {name: weigh(pid) for name, pid in processes.items()}
        await asyncio.sleep(WATCHED_S)
        print(f"\n{'':22}{'PSS':>8}{'own':>11}{'must':>8}{'goal':>8}{'CPU, of one core':>20}")
        for name, pid in processes.items():
            _print(name, after := weigh(pid), 100 * (after.cpu_s - before[name].cpu_s) / WATCHED_S)
        await _visit(agent)
        await asyncio.sleep(SETTLED_S)
        _print("agent, the page used", weigh(agent.pid))
        speaking = asyncio.create_task(meter.run())
        for family, request in wanted.items():
            route = f"/families/{family}"
            await asyncio.to_thread(ask, agent.door(), "PUT", route, Done, request)
        await agent.until(
            lambda s: set(wanted) <= {c.key.partition("/")[0] for c in s.channels},
            within_s=READY_WITHIN_S,
        )
        await asyncio.sleep(SETTLED_S)
        _print("agent, all families", weigh(agent.pid))
        for task in (playing, speaking):
            task.cancel()
        await asyncio.wait([playing, speaking])


def _print(name: str, weight: Weight, percent: float | None = None) -> None:
    must_mb, goal_mb = LIMITS_MB[name]
    idle = "" if percent is None else f"{percent:>18.1f} %"
    print(
        f"{name:22}{weight.pss_mb:>5.1f} MB{weight.own_mb:>8.1f} MB{must_mb:>5} MB{goal_mb:>5} MB"
        + idle,
        flush=True,
    )


async def _visit(agent: AgentProcess) -> None:
    """Claim it, which hashes a password, log in once more, and look at every screen."""
    words = SecretStr("a password of the bench")
    door = agent.door("page")
    await asyncio.to_thread(
        ask, door, "POST", "/claim", SessionAnswer, ClaimRequest(password=words)
    )
    opened = await asyncio.to_thread(
        ask, door, "POST", "/log-in", SessionAnswer, LogInRequest(password=words)
    )
    async with aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(str(door)), headers={"x-edge-session": opened.session}
    ) as page:
        for _ in range(VISITS):
            for screen in SCREENS:
                async with page.get(f"http://agent{screen}", raise_for_status=True) as answer:
                    await answer.read()


@asynccontextmanager
async def _others() -> AsyncIterator[tuple[P1Meter, dict[str, FamilyRequest]]]:
    """The other families' devices, and what the agent is to be told of each. The meter is silent:
    a port that nobody reads takes three telegrams, and the next would wait for ever."""
    cloud = smappee_cloud.SmappeeCloud(lambda: datetime.now(UTC))
    spoken, meter = SpokenHomeAssistant(), P1Meter()
    try:
        async with cloud.serve() as base_url, spoken.serve() as address:
            yield (
                meter,
                {
                    "p1": FamilyRequest(values={"port": meter.path}, secrets={}),
                    "smappee": FamilyRequest(
                        values={
                            "cloud": base_url,
                            "client_id": smappee_cloud.CLIENT_ID,
                            "username": smappee_cloud.USERNAME,
                            "history": "none",
                        },
                        secrets={
                            "client_secret": SecretStr(smappee_cloud.CLIENT_SECRET),
                            "password": SecretStr(smappee_cloud.PASSWORD),
                        },
                    ),
                    "homeassistant": await _home_assistant(address),
                },
            )
    finally:
        meter.unplug()


async def _home_assistant(address: str) -> FamilyRequest:
    config, secrets = {"address": address}, {"homeassistant.token": TOKEN}
    clock = SystemClock(datetime(2026, 1, 1, tzinfo=UTC))
    found = await load("homeassistant").check(config, secrets.get, clock)
    return FamilyRequest(
        values=config | {"history": "none"},
        secrets={"token": SecretStr(TOKEN)},
        chosen={
            field: [choice.value for choice in found.choices if choice.field == field]
            for field in ("entities", "switches")
        },
    )


def weigh(pid: int) -> Weight:
    rollup: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, kib, *_ = line.split()
        rollup[name.rstrip(":")] = int(kib) * 1024
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])  # utime and stime: proc(5)
    own = rollup["Private_Clean"] + rollup["Private_Dirty"]
    return Weight(rollup["Pss"] / 1e6, own / 1e6, ticks / os.sysconf("SC_CLK_TCK"))
