"""From a value that an ordinary FlexMeasures user posts, through the agent's process, to the log of
Smappee's cloud and to a real Home Assistant's switch; and back."""

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from edge.cli.door import ask
from edge.contract import Done, SteeredStatus
from edge.contract.control import ControlRequest
from tests.flow.test_main_job import variables
from tests.house.agent_process import AgentProcess
from tests.house.flexmeasures import Account, FlexMeasuresServer
from tests.house.run.others import Others
from tests.house.run.parts import Doings
from tests.house.run.screen import Screen
from tests.house.run.wishes import wishes
from tests.house.zwave_box import until

MINUTE = timedelta(minutes=1)
SEEN_WITHIN_S = 40.0  # a poll every five seconds, on a machine that does much else


@dataclass
class House:
    """Smappee and Home Assistant, the box that joined both, and an ordinary user of the account."""

    agent: AgentProcess
    others: Others
    url: str
    operator: Account

    async def device(self, family: str, name: str = "Boiler") -> str:
        status = await self.agent.until(
            lambda s: any(d.key.startswith(family) and d.name == name for d in s.devices)
        )
        keys = [d.key for d in status.devices if d.key.startswith(family) and d.name == name]
        return keys[0]

    async def allow(self, key: str, *, consent: bool) -> None:
        wanted = ControlRequest(
            device=key,
            is_used=True,
            consent=consent,
            nominal_power_w=2000,
            away_longest_min=60,
            rest_shortest_min=0,
            left_alone=[],
        )
        await asyncio.to_thread(ask, self.agent.socket, "PUT", "/control/device", Done, wanted)

    async def limits(self, key: str, limit_kw: float, start: datetime, span: timedelta) -> None:
        """What the user does: find the device's limit sensor, post one value for the whole span."""
        sensor_id = None
        async with asyncio.timeout(SEEN_WITHIN_S):
            while sensor_id is None:
                await asyncio.sleep(0.5)
                sensor_id = await asyncio.to_thread(self._limit_sensor, key)
        body = {
            "values": [limit_kw],
            "start": start.isoformat(),
            "duration": f"PT{span // MINUTE}M",
            "unit": "kW",
        }
        await asyncio.to_thread(self._ask, f"sensors/{sensor_id}/data", body)

    def _limit_sensor(self, key: str) -> int | None:
        assets = self._ask("assets?fields=id|external_id")
        mine = [a["id"] for a in assets if str(a.get("external_id")).endswith(f":{key}")]
        for sensor in self._ask("sensors") if mine else []:
            if (sensor["generic_asset_id"], sensor["name"]) == (mine[0], "power-limit"):
                return int(sensor["id"])
        return None

    def _ask(self, path: str, body: object = None) -> Any:
        def ask(path: str, content: object, token: str = "") -> Any:
            headers = {"Content-Type": "application/json", "Authorization": token}
            data = None if content is None else json.dumps(content).encode()
            request = urllib.request.Request(self.url + path, data, headers)
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)

        login = {"email": self.operator.email, "password": self.operator.password}
        token = ask("/api/requestAuthToken", login)["auth_token"]
        return ask(f"/api/v3_0/{path}", body, token)

    async def steered(self, key: str) -> SteeredStatus:
        control = (await self.agent.status()).control
        assert control is not None
        return next(each for each in control.devices if each.key == key)


@pytest.fixture
async def house(
    tmp_path: Path, flexmeasures_server: FlexMeasuresServer, owner: Account
) -> AsyncIterator[House]:
    asked = wishes(variables(tmp_path / "state", HA="1"))
    async with AsyncExitStack() as stack:
        others = await stack.enter_async_context(Others(asked, Screen(StringIO()), Doings()))
        no_driver = "ws://127.0.0.1:9"
        agent = AgentProcess(tmp_path / "agent", no_driver, tmp_path / "stick")
        await stack.enter_async_context(agent)
        await agent.start()
        await others.join(agent.socket)
        await agent.pair(flexmeasures_server.url, owner.email, owner.password)
        operator = await asyncio.to_thread(flexmeasures_server.make_user, owner, "operator")
        yield House(agent, others, flexmeasures_server.url, operator)


async def test_zero_limit_reaches_smappee_and_home_assistant_and_both_come_back(
    house: House,
) -> None:
    boiler, plug = await house.device("smappee"), await house.device("homeassistant")
    await house.allow(boiler, consent=False)
    await house.allow(plug, consent=True)
    cloud = house.others.cloud

    # Half an hour from now, as anybody would write it: FlexMeasures begins it with its minute.
    await house.limits(boiler, 0.0, datetime.now(UTC), 30 * MINUTE)
    await until(lambda: bool(cloud.asked("/actuator/1/off")), SEEN_WITHIN_S)
    assert [a.body for a in cloud.asked("/actuator/1/off")] == ['{"duration": 1800}']
    assert not cloud.is_on(1)
    await house.agent.until(lambda s: _state(s.control, boiler) == "away")  # once it is confirmed
    now = await house.steered(boiler)
    assert (now.state, now.by, now.why) == ("away", "limit", "asked")
    assert now.until is not None
    left = now.until - datetime.now(UTC)
    assert 27 * MINUTE < left < 30 * MINUTE
    held_back = house.agent.socket.parent / "curtailing"
    await until(held_back.exists, SEEN_WITHIN_S)  # updates and reboots wait for that

    # A whole minute for Home Assistant: there the box is the timer.
    begins = (datetime.now(UTC) + MINUTE + timedelta(seconds=10)).replace(second=0, microsecond=0)
    assert await _boiler_of(house) == "on"
    await house.limits(plug, 0.0, begins, MINUTE)
    await house.agent.until(lambda s: _state(s.control, plug) == "away", within_s=120)
    assert await _boiler_of(house) == "off"
    assert datetime.now(UTC) >= begins
    await house.agent.until(lambda s: _state(s.control, plug) == "normal", within_s=120)
    assert await _boiler_of(house) == "on"
    assert timedelta(0) <= datetime.now(UTC) - begins - MINUTE < MINUTE

    # The user thinks better of it: the newest value counts, and Smappee's timer is not waited for.
    await house.limits(boiler, 2.5, datetime.now(UTC), 30 * MINUTE)
    await until(lambda: bool(cloud.asked("/actuator/1/on")), SEEN_WITHIN_S)
    await house.agent.until(lambda s: _state(s.control, boiler) == "normal")
    assert cloud.is_on(1)
    assert len(cloud.asked("/actuator/1/off")) == 1
    await until(lambda: not held_back.exists(), SEEN_WITHIN_S)
    said = (await house.agent.says("status")).stdout
    assert "switched      Boiler (smappee) by limit" in said
    assert "switched      Boiler (homeassistant) by limit" in said


def _state(control: Any, key: str) -> str:
    return next(str(each.state) for each in control.devices if each.key == key)


async def _boiler_of(house: House) -> str:
    """What Home Assistant itself says, asked as its admin."""
    assert house.others.home_assistant is not None
    states = await house.others.home_assistant.as_admin("get_states")
    return next(s["state"] for s in states if s["entity_id"] == "switch.boiler")
