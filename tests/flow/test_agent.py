"""The agent's whole process in the simulated house: started, killed, misled, asked how it is."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from pydantic import SecretStr

from edge.clock import SystemClock
from edge.contract import Status
from edge.contract.page import ClaimRequest, SessionAnswer
from edge.errors import Refused
from edge.store.buffer import Buffer
from tests.house import arrived, household, yesterday
from tests.house.agent_process import COMMIT_EVERY_S, AgentProcess
from tests.house.flexmeasures import Account, FlexMeasuresServer
from tests.house.stick.stick import METER, Stick, Value, W
from tests.house.zwave_server import ZwaveServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLAMP_1_W = yesterday.channel_key(household.DISHWASHER, "active_power")
DEVICES = 3
HEARD_WITHIN = timedelta(seconds=3)


@dataclass
class House:
    """The stick, its driver (started again whenever it ends) and where the stick is plugged in."""

    stick: Stick
    driver: ZwaveServer

    async def reports(self, watts: float) -> datetime:
        """Clamp 1 reports once; when."""
        await self.stick.report(Value(METER, 1, W, watts))
        return datetime.now(UTC)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder = tmp_path_factory.mktemp("house")
    driver = ZwaveServer(folder / "stick", folder / "driver", respawn=True)
    async with Stick(folder / "stick", driver.keys) as stick, driver:
        yield House(stick, driver)


@pytest_asyncio.fixture(loop_scope="module")
async def agent(house: House, tmp_path: Path) -> AsyncIterator[AgentProcess]:
    async with AgentProcess(tmp_path / "state", house.driver.url, house.stick.path) as agent:
        yield agent


def knows_its_meters(status: Status) -> bool:
    return [d.state for d in status.devices] == ["alive"] * DEVICES and any(
        channel.key == CLAMP_1_W for channel in status.channels
    )


def shows(watts: float) -> Callable[[Status], bool]:
    return lambda status: any(c.key == CLAMP_1_W and c.value == watts for c in status.channels)


async def test_nothing_is_sent_before_the_clock_is_trusted_and_all_of_it_after(
    house: House,
    agent: AgentProcess,
    flexmeasures_server: FlexMeasuresServer,
    owner: Account,
) -> None:
    end = arrived.on_the_grid(datetime.now(UTC)) - timedelta(minutes=15)
    start = end - timedelta(hours=2)
    await agent.start()
    await agent.until(knows_its_meters)
    await agent.pair(flexmeasures_server.url, owner.email, owner.password)
    await agent.stop()
    await yesterday.write(agent.state / "buffer.db", household.load(), start, end)

    await agent.start(trusted=False)
    await agent.until(knows_its_meters)
    with pytest.raises(Refused, match="does not know the time yet"):
        await agent.pair(flexmeasures_server.url, owner.email, owner.password)
    reported = await house.reports(1234.5)
    status = await agent.until(lambda s: shows(1234.5)(s) and not s.buffer.uncommitted)
    await asyncio.sleep(10)  # two uploads, if there were any
    status = await agent.status()
    assert status.buffer.stored_since_start > 0
    assert not status.clock.trusted
    assert (status.flexmeasures.slots_accepted, status.flexmeasures.last_accepted) == (0, None)
    assert "clock is not set" in (status.flexmeasures.advice or "")
    assert "NOT trusted yet: nothing is sent" in (await agent.says("status")).stdout
    assert [*await held(flexmeasures_server, owner, start)] != []
    assert not any((await held(flexmeasures_server, owner, start)).values())

    await agent.stop()
    await agent.start()
    await agent.until(lambda s: s.flexmeasures.slots_accepted >= 6 * 23 and all_sent(s))
    differences = arrived.differences_w(await held(flexmeasures_server, owner, start), end)
    assert len(differences) >= 6 * 23
    assert {where: by_w for where, by_w in differences.items() if abs(by_w) > 1} == {}
    await agent.stop()
    times = [at for at, watts in await stored(agent) if watts == 1234.5]
    assert [at for at in times if abs(at - reported) < HEARD_WITHIN] != []


def all_sent(status: Status) -> bool:
    return status.flexmeasures.slots_waiting == 0 and status.flexmeasures.slots_rejected == 0


async def held(
    server: FlexMeasuresServer, owner: Account, start: datetime
) -> dict[arrived.Sensor, dict[datetime, float]]:
    end = arrived.on_the_grid(datetime.now(UTC)) + arrived.SLOT
    return await asyncio.to_thread(arrived.held, server.url, owner, start, end)


async def stored(agent: AgentProcess) -> list[tuple[datetime, float]]:
    """What the stopped agent's file holds of clamp 1's power in the last hour."""
    clock = SystemClock(datetime(2026, 1, 1, tzinfo=UTC), trust_always=True)
    buffer = await Buffer.open(agent.state / "buffer.db", clock)
    now = clock.wall_now()
    samples = await buffer.samples([CLAMP_1_W], now - timedelta(hours=1), now + timedelta(hours=1))
    await buffer.close()
    return [(sample.taken_at, sample.value) for sample in samples[CLAMP_1_W]]


async def test_killed_agent_loses_only_the_last_seconds_and_doubles_nothing(
    house: House,
    agent: AgentProcess,
    flexmeasures_server: FlexMeasuresServer,
    owner: Account,
) -> None:
    await agent.start()
    await agent.until(knows_its_meters)
    await agent.pair(flexmeasures_server.url, owner.email, owner.password)
    made = await meters_there(flexmeasures_server, owner)
    told: dict[float, float] = {}
    for number in range(40):
        told[1000 + number] = time.monotonic()
        await house.reports(1000 + number)
        await asyncio.sleep(0.2)
    await agent.kill()
    killed = time.monotonic()

    await agent.start()
    await agent.until(knows_its_meters)
    await agent.pair(flexmeasures_server.url, owner.email, owner.password)
    await house.reports(1500)
    await agent.until(shows(1500))
    await agent.stop()
    assert await meters_there(flexmeasures_server, owner) == made == sorted(arrived.METERS)

    values = [watts for _, watts in await stored(agent)]
    assert 1500 in values
    grace_s = COMMIT_EVERY_S + HEARD_WITHIN.total_seconds()
    kept = [watts for watts, at in told.items() if at < killed - grace_s]
    assert len(kept) > 10
    assert [watts for watts in kept if values.count(watts) != 1] == []


async def meters_there(server: FlexMeasuresServer, owner: Account) -> list[arrived.Sensor]:
    everything = await asyncio.to_thread(arrived.sensors, server.url, owner)
    return [sensor for sensor in everything if sensor[0] != "box"]


async def test_status_names_a_killed_driver_and_a_pulled_stick_and_recovers(
    house: House, agent: AgentProcess
) -> None:
    await agent.start()
    await agent.until(knows_its_meters)

    await house.driver.kill()
    await agent.until(lambda s: "Z-Wave driver" in zwave_state(s))
    assert {device.state for device in (await agent.status()).devices} == {"unknown"}
    await agent.until(knows_its_meters)
    await hears(house, agent, 601)

    house.stick.unplug()
    await agent.until(lambda s: "Nothing is plugged in" in (s.stick or ""))
    await agent.until(lambda s: "the Z-Wave driver is not running" in zwave_state(s))
    told = (await agent.says("status")).stdout
    assert f"Nothing is plugged in at {house.stick.path}" in told
    house.stick.replug()
    await agent.until(knows_its_meters, within_s=90)
    await hears(house, agent, 602)
    assert "firmware" in ((await agent.status()).stick or "")


def zwave_state(status: Status) -> str:
    return next(part.state for part in status.parts if part.name == "zwave")


async def hears(house: House, agent: AgentProcess, watts: float) -> None:
    await house.reports(watts)
    await agent.until(shows(watts))


async def test_secrets_stand_nowhere_but_in_their_own_file(
    agent: AgentProcess, flexmeasures_server: FlexMeasuresServer, owner: Account
) -> None:
    claimed, mistyped = "a-canary-in-the-page", "a-canary-at-the-gate"
    await agent.start()
    await agent.until(knows_its_meters)
    wanted = ClaimRequest(password=SecretStr(claimed))
    await agent.ask("/claim", SessionAnswer, wanted, door="page")
    with pytest.raises(Refused) as refusal:
        await agent.pair(flexmeasures_server.url, owner.email, mistyped)
    await agent.pair(flexmeasures_server.url, owner.email, owner.password)
    said = [await agent.says("status"), await agent.says("status", "--json")]
    await agent.kill()  # so that the write-ahead logs lie there too

    own = {agent.state / "credentials.json", agent.state / "credentials.last"}
    assert {file.stat().st_mode & 0o777 for file in own} == {0o600}
    files = [path for path in agent.state.rglob("*") if path.is_file()]
    assert agent.log_file in files
    for secret in (claimed, mistyped, owner.password):
        assert secret not in str(refusal.value) + "".join(each.stdout for each in said)
        known = [file for file in files if secret.encode() in file.read_bytes()]
        assert set(known) <= (own if secret == owner.password else set())
