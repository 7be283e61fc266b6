"""A zero limit of half an hour reaches the switches of Smappee and of Home Assistant."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest

from edge.control.carry_out import CarryOut
from edge.control.decide import Controllable, decide
from edge.control.ledger import Ledger, Stage
from edge.devices import load
from edge.errors import EdgeError
from edge.family import Family
from edge.health import Health
from edge.model import Device, Interval, Origin, Plan, Switch
from edge.store.commands import CommandTable
from edge.store.settings import open_state
from tests.house import smappee_cloud
from tests.house.family_bench import KeptIntake, SteppedClock
from tests.house.paper_notebook import PaperNotebook
from tests.house.spoken_home_assistant import TOKEN, SpokenHomeAssistant

HALF_HOUR = timedelta(minutes=30)
STEP = timedelta(seconds=5)


@dataclass
class Curtailed:
    """One device, the limit on it, and what carries it out."""

    device: Controllable
    plan: Plan
    carry_out: CarryOut
    clock: SteppedClock

    async def live(self, span: timedelta) -> None:
        for _ in range(span // STEP):
            await self.clock.pass_by(STEP)
            past = self.carry_out.past(self.device.device_key)
            decision = decide(self.device, {Origin.LIMIT: self.plan}, past, self.clock.wall_now())
            await self.carry_out.step(self.device, decision)


@asynccontextmanager
async def curtailed(
    folder: Path,
    clock: SteppedClock,
    family: Family,
    name: str,
    length: timedelta = HALF_HOUR,
) -> AsyncIterator[Curtailed]:
    """`family` at work, and a zero limit on the device called `name` that began just now."""

    async def keep() -> None:
        while True:
            try:
                await family.run()
            except EdgeError:
                await clock.sleep(timedelta(seconds=30))

    task = asyncio.create_task(keep())
    await clock.until_resting()
    [switch] = [device for device in family.devices() if device.name == name]
    state = await open_state(folder / "state.db")
    carry_out = CarryOut(
        Ledger(await CommandTable.open(state)),
        lambda: {family.family: cast("Switch", family)},
        clock,
        Health(clock),
    )
    begins = clock.wall_now()
    plan = Plan(Origin.LIMIT, (Interval(begins, begins + length, 0.0),))
    try:
        yield Curtailed(_controllable(switch), plan, carry_out, clock)
    finally:
        task.cancel()
        await asyncio.wait([task])
        await state.close()


def _controllable(device: Device) -> Controllable:
    return Controllable(
        device.key, 2000.0, own_timers=device.own_timers, consent=not device.own_timers
    )


def smappee(base_url: str, clock: SteppedClock) -> Family:
    secrets = {
        "smappee.client_secret": smappee_cloud.CLIENT_SECRET,
        "smappee.password": smappee_cloud.PASSWORD,
    }
    config = {
        "cloud": base_url,
        "client_id": smappee_cloud.CLIENT_ID,
        "username": smappee_cloud.USERNAME,
        "history": "none",
    }
    return load("smappee").create(config, secrets.get, KeptIntake(clock), clock, PaperNotebook())


async def test_half_an_hour_is_smappees_own_half_hour(tmp_path: Path) -> None:
    clock = SteppedClock()
    cloud = smappee_cloud.SmappeeCloud(clock.wall_now)
    async with (
        cloud.serve() as base_url,
        curtailed(tmp_path, clock, smappee(base_url, clock), "Boiler") as limit,
    ):
        await limit.live(2 * STEP)
        assert [a.body for a in cloud.asked("/actuator/1/off")] == ['{"duration": 1800}']
        assert not cloud.is_on(1)
        await limit.live(HALF_HOUR)
        assert cloud.is_on(1)
        assert len(cloud.asked("/actuator/1/off")) == 1
        last = (await limit.carry_out.history(1))[0]
        assert (last.stage, last.hold_s) == (Stage.DONE, 1800)


async def test_smappee_comes_back_by_itself_when_the_box_is_dead(tmp_path: Path) -> None:
    clock = SteppedClock()
    cloud = smappee_cloud.SmappeeCloud(clock.wall_now)
    async with (
        cloud.serve() as base_url,
        curtailed(tmp_path, clock, smappee(base_url, clock), "Boiler") as limit,
    ):
        await limit.live(STEP)
        assert not cloud.is_on(1)
        clock.step_wall(HALF_HOUR)  # nobody lives on
        assert cloud.is_on(1)


@pytest.mark.parametrize("consent", [True, False])
@pytest.mark.parametrize("minutes", [7, 20, 50])
async def test_time_that_is_none_of_the_four_is_renewed_and_ends_in_time(
    tmp_path: Path, minutes: int, consent: bool
) -> None:
    """Where nobody agreed that the box is the timer, up to five minutes before."""
    clock = SteppedClock()
    cloud = smappee_cloud.SmappeeCloud(clock.wall_now)
    length = timedelta(minutes=minutes)
    off: list[bool] = []
    async with (
        cloud.serve() as base_url,
        curtailed(tmp_path, clock, smappee(base_url, clock), "Boiler", length) as limit,
    ):
        limit.device = replace(limit.device, consent=consent)
        for _ in range((length + timedelta(minutes=3)) // STEP):
            await limit.live(STEP)
            off.append(not cloud.is_on(1))
    away = off.count(True) * STEP
    assert off[0]
    assert off.index(False) == off.count(True)  # never on in between
    early = 2 * STEP if consent else timedelta(minutes=5)
    assert length - early <= away <= length + 2 * STEP
    asked = [json.loads(asked.body).get("duration") for asked in cloud.asked("/actuator/1/off")]
    assert set(asked) <= {*smappee_cloud.HOLDS_S, *([None] if consent else [])}
    assert asked[0] is not None
    assert len(asked) > 1 or minutes == 7
    assert cloud.actuators[1].reverts_at is None


async def test_box_is_the_timer_of_home_assistants_switch(tmp_path: Path) -> None:
    clock = SteppedClock()
    spoken = SpokenHomeAssistant()
    async with spoken.serve() as address:
        secrets = {"homeassistant.token": TOKEN}
        found = await load("homeassistant").check({"address": address}, secrets.get, clock)
        chosen = [choice.value for choice in found.choices if choice.field == "switches"]
        family = load("homeassistant").create(
            {"address": address, "history": "none", "switches": chosen},
            secrets.get,
            KeptIntake(clock),
            clock,
            PaperNotebook(),
        )
        async with curtailed(tmp_path, clock, family, "Boiler") as limit:
            await limit.live(STEP)
            assert spoken.states["switch.boiler"]["state"] == "off"
            await limit.live(HALF_HOUR)
            assert spoken.states["switch.boiler"]["state"] == "on"
    assert spoken.calls() == ["switch.turn_off", "switch.turn_on"]
