"""From FlexMeasures to the plug and back, whole: a real server, a real driver, and the radio as
witness of every command. The box's day runs sixty times as fast, the radio does not."""

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edge.control.carry_out import CarryOut
from edge.control.decide import Controllable
from edge.control.ledger import Command, Ledger, Stage
from edge.control.steering import Steering
from edge.health import Health
from edge.model import Origin, Sensor, Term
from edge.store.commands import CommandTable
from edge.store.settings import Events, Settings, open_state
from edge.supervise import keep_running
from edge.uplink import pairing
from edge.uplink.account import Paired
from edge.uplink.address import Reach, parse_address
from edge.uplink.flexibility import Followed, OwnTriggers
from edge.uplink.flexmeasures import FlexMeasures
from edge.uplink.mapping import POWER, Feed
from edge.uplink.pacing import Pacing
from edge.uplink.pairing import SiteWish, Yard
from edge.uplink.schedules import Schedules
from tests.house.flexmeasures import Account, FlexMeasuresServer
from tests.house.flexmeasures.prices import load_prices
from tests.house.stick.stick import PLUGS
from tests.house.zwave_box import PLUG, House, HurriedClock, a_box, a_house, until

KEY = f"zwave/{PLUG}"
MINUTE = timedelta(minutes=1)
QUARTER = timedelta(minutes=15)
HURRY = 60
RADIO = timedelta(minutes=3)  # three seconds for a command and its proof, on a busy machine
KETTLE = Controllable(KEY, nominal_power_w=2000, consent=True)


class HurriedDay(HurriedClock):
    """Its wall clock hurries too, from `start`."""

    def __init__(self, start: datetime) -> None:
        super().__init__(HURRY)
        self._start = start
        self._from_ms = self.boottime_ms()

    def wall_now(self) -> datetime:
        return self._start + timedelta(milliseconds=self.boottime_ms() - self._from_ms)


@dataclass
class PairedAccount:
    """What Schedules asks of uplink/account.py, paired."""

    client: FlexMeasures
    paired: Paired
    fed: list[Sensor]
    box: str = "test-box"

    def server(self) -> FlexMeasures:
        return self.client

    def sensors(self) -> list[Sensor]:
        return self.fed


@dataclass
class WayBack:
    """The running way back of one box, and the server's owner."""

    house: House
    steering: Steering
    schedules: Schedules
    carry_out: CarryOut
    clock: HurriedDay
    account: PairedAccount
    owner: Account
    url: str
    heard: list[bool] = field(default_factory=list)

    async def told(self) -> list[bool]:
        return await self.house.stick.switched(PLUGS[0])

    async def post_limit(self, limit_kw: float, start: datetime, span: timedelta) -> None:
        """As any user with the right would: one value for the whole span."""
        yard = await Yard.open(
            self.account.client,
            self.account.box,
            self.account.paired.site_asset_id,
            await self.account.client.member(),
        )
        asset = await yard.asset(KEY, "Kettle")
        limit = yard.named(asset.asset_id, "power-limit")
        assert limit is not None
        body = {
            "values": [limit_kw],
            "start": start.isoformat(),
            "duration": f"PT{span // MINUTE}M",
            "unit": "kW",
        }
        await asyncio.to_thread(_post, self.url, self.owner, limit.sensor_id, body)


def _post(url: str, owner: Account, sensor_id: int, body: dict[str, Any]) -> None:
    def ask(path: str, content: object, token: str = "") -> Any:
        headers = {"Content-Type": "application/json"} | ({"Authorization": token} if token else {})
        request = urllib.request.Request(url + path, json.dumps(content).encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    login = {"email": owner.email, "password": owner.password}
    token = ask("/api/requestAuthToken", login)["auth_token"]
    ask(f"/api/v3_0/sensors/{sensor_id}/data", body, token)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with a_house(tmp_path / "house") as house:
        yield house


@asynccontextmanager
async def way_back(
    folder: Path, house: House, server: FlexMeasuresServer, owner: Account, start: datetime
) -> AsyncIterator[WayBack]:
    clock = HurriedDay(start)
    address = parse_address(server.url, Reach(loopback=True))
    async with (
        FlexMeasures(address, owner.email, lambda: owner.password, clock) as client,
        a_box(house.server.url) as box,
    ):
        await until(lambda: any(d.key == KEY and d.is_switch for d in box.zwave.devices()))
        account = await _paired(client, clock, server.url, owner)
        state = await open_state(folder / "state.db")
        health = Health(clock)
        carry_out = CarryOut(
            Ledger(await CommandTable.open(state)), lambda: {"zwave": box.zwave}, clock, health
        )
        steering = Steering(
            await Settings.open(state),
            carry_out,
            box.zwave.devices,
            clock,
            health,
            Events(state, clock).add,
        )
        schedules = Schedules(
            account,  # type: ignore[arg-type]
            await Settings.open(state),
            lambda: {key: Followed(key, "Kettle", 2000) for key in steering.devices()},
            steering.take_plan,
            clock,
            Pacing("test-box"),
        )
        await steering.allow(KETTLE)
        parts = [
            asyncio.create_task(keep_running("control", steering.run, clock, health.report)),
            asyncio.create_task(keep_running("schedules", schedules.run, clock, health.report)),
        ]
        try:
            yield WayBack(house, steering, schedules, carry_out, clock, account, owner, server.url)
        finally:
            for part in parts:
                part.cancel()
            await asyncio.wait(parts)
            await state.close()


async def _paired(
    client: FlexMeasures, clock: HurriedDay, url: str, owner: Account
) -> PairedAccount:
    power = Feed(KEY, POWER, "kW", 5 * MINUTE, (Term(f"{KEY}/0/active_power/import"),))
    made = await pairing.pair(
        client, "test-box", SiteWish(name="Home"), [], [], channels={}, clock=clock
    )
    yard = await Yard.open(client, "test-box", made.site.asset_id, made.member)
    sensor = await yard.sensor_for(power, "Kettle")
    paired = Paired(url, owner.email, False, made.site.asset_id, "Home", made.version, "")
    return PairedAccount(client, paired, [sensor])


async def test_zero_limit_of_half_an_hour_switches_the_plug_off_and_on_again(
    tmp_path: Path, house: House, flexmeasures_server: FlexMeasuresServer, owner: Account
) -> None:
    start = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
    async with way_back(tmp_path, house, flexmeasures_server, owner, start) as box:
        before = len(await box.told())
        await until(lambda: bool(box.schedules._places), within_s=20)
        begins = start.replace(second=0) + 10 * MINUTE
        await box.post_limit(0.0, begins, 30 * MINUTE)
        await until(lambda: box.steering.anything_away(), within_s=20)
        assert box.clock.wall_now() >= begins
        await until(lambda: not box.steering.anything_away(), within_s=120)
        assert (await box.told())[before:] == [False, True]
        command = await _last(box)
        assert (command.origin, command.stage) == (Origin.LIMIT, Stage.DONE)
        assert command.closed_at is not None
        assert command.closed_at - command.issued_at > 30 * MINUTE - RADIO
        assert command.closed_at < begins + 30 * MINUTE + RADIO


async def test_computed_schedule_switches_the_plug_off_while_it_is_dear_and_on_again(
    tmp_path: Path, house: House, flexmeasures_server: FlexMeasuresServer, owner: Account
) -> None:
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start = midnight + timedelta(days=1, hours=16, minutes=45)
    dear_from = start.replace(minute=0) + timedelta(hours=1)
    async with way_back(tmp_path, house, flexmeasures_server, owner, start) as box:
        before = len(await box.told())
        prices = [0.10] * 4 + [0.45] * 2 + [0.15] * 20  # from 16:00, a quarter of an hour each
        price_id = await asyncio.to_thread(
            load_prices,
            box.url,
            owner,
            box.account.paired.site_asset_id,
            start.replace(minute=0),
            prices,
            step=QUARTER,
        )
        await box.schedules.trigger_by_itself(
            OwnTriggers(timedelta(hours=1), timedelta(hours=4), price_id, worth_per_kwh=0.3)
        )
        await until(lambda: box.steering.anything_away(), within_s=60)
        assert box.clock.wall_now() - dear_from < RADIO
        await until(lambda: not box.steering.anything_away(), within_s=120)
        assert (await box.told())[before:] == [False, True]
        command = await _last(box)
        assert (command.origin, command.stage) == (Origin.SCHEDULE, Stage.DONE)
        assert command.closed_at is not None
        assert timedelta(0) <= command.closed_at - (dear_from + 2 * QUARTER) < RADIO
        assert box.schedules.notes == {}


async def _last(box: WayBack) -> Command:
    await box.carry_out.write_now()
    return (await box.carry_out.history(1))[0]
