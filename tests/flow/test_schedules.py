"""What FlexMeasures asks of the devices, from a real FlexMeasures: limits, schedules of anybody,
and everything that can be wrong with a question for one. The box's clock moves when told."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from edge.model import Interval, Origin, Plan, Sensor, Term
from edge.uplink import pairing
from edge.uplink.account import Paired
from edge.uplink.address import Reach, parse_address
from edge.uplink.flexibility import Followed, OwnTriggers
from edge.uplink.flexmeasures import FlexMeasures
from edge.uplink.mapping import POWER, Feed
from edge.uplink.pacing import Pacing
from edge.uplink.pairing import SiteWish, Yard
from edge.uplink.schedules import POLL_EVERY, Schedules
from edge.uplink.triggering import BUDGET_PERIOD, COMPUTED_WITHIN
from tests.house.fake_clock import FakeClock
from tests.house.fault_proxy import FaultProxy, says
from tests.house.flexmeasures import Account, FlexMeasuresServer
from tests.house.flexmeasures.prices import load_prices
from tests.house.paper_notebook import PaperNotebook

KEY = "house/kettle"
KETTLE = Followed(KEY, "Kettle", 2000.0)
MINUTE = timedelta(minutes=1)
QUARTER = timedelta(minutes=15)
HOUR = timedelta(hours=1)
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
WORTH = 0.30
PRICES = [0.10] * 4 + [0.45] * 4 + [0.10] * 40  # from NOW, a quarter of an hour each
BUDGET = 10  # triggers in five minutes, of a whole account


@dataclass
class Paid:
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
class Room:
    """The box's questions, and the person who owns the account."""

    schedules: Schedules
    account: Paid
    clock: FakeClock
    proxy: FaultProxy
    owner: Account
    url: str
    plans: dict[Origin, Plan] = field(default_factory=dict)

    async def polls(self, times: int = 1) -> None:
        for _ in range(times):
            await self.schedules.round()
            self.clock.pass_by(POLL_EVERY)

    async def asks(self, path: str, body: object, method: str = "POST") -> Any:
        """The person, by the API."""
        return await asyncio.to_thread(_ask, self.url, self.owner, path, body, method)

    async def limit_id(self) -> int:
        return await self._sensor_named("power-limit")

    async def prices(self, prices: list[float], start: datetime = NOW) -> int:
        site = self.account.paired.site_asset_id
        return await asyncio.to_thread(
            load_prices, self.url, self.owner, site, start, prices, step=QUARTER
        )

    async def wants_schedules(self, price_id: int) -> None:
        await self.schedules.trigger_by_itself(OwnTriggers(HOUR, 4 * HOUR, price_id, WORTH))

    def triggers(self) -> int:
        return sum("schedules/trigger" in seen.path for seen in self.proxy.requests)

    def asked_jobs(self) -> int:
        return sum("/schedules/" in seen.path for seen in self.proxy.requests) - self.triggers()

    @property
    def note(self) -> str:
        return self.schedules.notes.get("schedule", "")

    async def _sensor_named(self, name: str) -> int:
        client, paired = self.account.client, self.account.paired
        yard = await Yard.open(client, "test-box", paired.site_asset_id, await client.member())
        sensor = yard.named((await yard.asset(KEY, "Kettle")).asset_id, name)
        assert sensor is not None
        return sensor.sensor_id

    def planned_w(self, origin: Origin = Origin.SCHEDULE) -> list[tuple[float, timedelta, float]]:
        """What is planned: from and until when, in quarters of an hour from NOW; and the power."""
        return [
            ((i.start - NOW) / QUARTER, i.end - i.start, i.power_w)
            for i in self.plans[origin].intervals
        ]


def _ask(url: str, owner: Account, path: str, body: object, method: str) -> Any:
    def ask(path: str, content: object, token: str = "", method: str = "POST") -> Any:
        headers = {"Content-Type": "application/json"} | ({"Authorization": token} if token else {})
        data = json.dumps(content).encode()
        request = urllib.request.Request(url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    login = {"email": owner.email, "password": owner.password}
    token = ask("/api/requestAuthToken", login)["auth_token"]
    return ask(f"/api/v3_0/{path}", body, token, method)


@pytest.fixture
async def room(flexmeasures_server: FlexMeasuresServer, owner: Account) -> AsyncIterator[Room]:
    clock = FakeClock(NOW + 5 * MINUTE)
    async with FaultProxy(flexmeasures_server.url) as proxy:
        address = parse_address(proxy.url, Reach(loopback=True))
        async with FlexMeasures(address, owner.email, lambda: owner.password, clock) as client:
            account = await _paired(client, clock, proxy.url, owner)
            plans: dict[Origin, Plan] = {}
            schedules = Schedules(
                account,  # type: ignore[arg-type]
                PaperNotebook(),  # type: ignore[arg-type]
                lambda: {KEY: KETTLE},
                lambda _, plan: plans.__setitem__(plan.origin, plan),
                clock,
                Pacing("test-box"),
            )
            url = flexmeasures_server.url
            yield Room(schedules, account, clock, proxy, owner, url, plans)


async def _paired(client: FlexMeasures, clock: FakeClock, url: str, owner: Account) -> Paid:
    power = Feed(KEY, POWER, "kW", 5 * MINUTE, (Term(f"{KEY}/0/active_power/import"),))
    made = await pairing.pair(
        client, "test-box", SiteWish(name="Home"), [], [], channels={}, clock=clock
    )
    yard = await Yard.open(client, "test-box", made.site.asset_id, made.member)
    sensor = await yard.sensor_for(power, "Kettle")
    paired = Paired(url, owner.email, False, made.site.asset_id, "Home", made.version, "")
    return Paid(client, paired, [sensor])


# --- limits ---------------------------------------------------------------------------------------


async def test_limit_that_anybody_posts_is_read_by_the_minute(
    room: Room, flexmeasures_server: FlexMeasuresServer
) -> None:
    await room.polls()
    start = NOW + 7 * MINUTE
    body = {"values": [-0.0], "start": start.isoformat(), "duration": "PT30M", "unit": "kW"}
    room.owner = await asyncio.to_thread(flexmeasures_server.make_user, room.owner, "operator")
    await room.asks(f"sensors/{await room.limit_id()}/data", body)
    await room.polls()
    assert room.plans[Origin.LIMIT].intervals == (Interval(start, start + 30 * MINUTE, 0.0),)


async def test_limits_are_read_where_the_flex_model_is_refused(room: Room) -> None:
    room.proxy.fail("/api/v3_0/assets/", says(422, {"message": "no"}), method="PATCH", times=None)
    await room.polls(2)
    assert Origin.LIMIT in room.plans
    assert "does not keep what it can do" in room.schedules.notes[KEY]


async def test_what_the_host_wrote_beside_ours_stays(room: Room) -> None:
    await room.polls()
    yard_asset = await room.account.client.asset(await _asset_of(room))
    assert yard_asset.flex_model["consumption-capacity"] == "2000 W"
    theirs = {**yard_asset.flex_model, "soc-max": "5 kWh", "consumption-capacity": "1 W"}
    await room.asks(
        f"assets/{yard_asset.asset_id}", {"flex_model": json.dumps(theirs)}, method="PATCH"
    )
    room.schedules._places.clear()  # as after a restart
    await room.polls()
    kept = (await room.account.client.asset(yard_asset.asset_id)).flex_model
    assert (kept["soc-max"], kept["consumption-capacity"]) == ("5 kWh", "2000 W")


async def _asset_of(room: Room) -> int:
    return (await room.account.client.sensor(room.account.fed[0].sensor_id)).asset_id


# --- schedules of others --------------------------------------------------------------------------


async def _somebody_triggers(room: Room, sensor_id: int, price_id: int) -> None:
    """Another user, another script, another flex-model: none of the box's business."""
    model = {
        "sensor": sensor_id,
        "consumption-capacity": "2000 W",
        "production-capacity": "0 W",
        "power-capacity": "2000 W",
    }
    comfort = {"name": "theirs", "baseline": "2000 W"}
    comfort |= {"down-price": "-0.30 EUR/kWh", "up-price": "1 EUR/kWh"}
    context = {
        "consumption-price": {"sensor": price_id},
        "production-price": {"sensor": price_id},
        "commitments": [comfort],
    }
    body = {"start": NOW.isoformat(), "duration": "PT4H"}
    path = f"assets/{await _asset_of(room)}/schedules/trigger"
    await room.asks(path, body | {"flex-model": [model], "flex-context": context})


async def test_schedule_that_somebody_else_triggered_is_obeyed(
    room: Room, flexmeasures_server: FlexMeasuresServer
) -> None:
    price_id = await room.prices(PRICES)
    room.owner = await asyncio.to_thread(flexmeasures_server.make_user, room.owner, "script")
    await _somebody_triggers(room, room.account.fed[0].sensor_id, price_id)
    await room.polls()
    assert room.planned_w() == [(0, HOUR, 2000), (4, HOUR, 0), (8, 2 * HOUR, 2000)]
    assert room.triggers() == 0


async def test_schedule_of_a_sensor_that_counts_production_is_turned_round(room: Room) -> None:
    """A sensor that was there before the box, without the attribute: FlexMeasures keeps its
    schedule with consumption negative, and -0.0 where nothing is to run."""
    asset_id = await _asset_of(room)
    sensor = {"name": "old-meter", "unit": "W", "event_resolution": "PT5M", "attributes": "{}"}
    made = await room.asks("sensors", sensor | {"generic_asset_id": asset_id})
    term = Term(f"{KEY}/0/active_power/import", sign=-1)
    room.account.fed[0] = Sensor(made["id"], "old-meter", "W", 5 * MINUTE, (term,), asset_id)
    await _somebody_triggers(room, made["id"], await room.prices(PRICES))
    kept = await room.account.client.data(made["id"], NOW, NOW + 2 * HOUR, "scheduler", "kW")
    assert kept is not None
    assert [value or 0 for value in kept.values] == [-2.0] * 12 + [0.0] * 12
    await room.polls()
    assert room.planned_w() == [(0, HOUR, 2000), (4, HOUR, 0), (8, 2 * HOUR, 2000)]


# --- schedules we ask for -------------------------------------------------------------------------


async def test_schedule_the_box_asked_for_is_read_at_once(room: Room) -> None:
    await room.wants_schedules(await room.prices(PRICES))
    await room.polls(3)
    first, dear, after = room.planned_w()
    assert first == (1 / 3, HOUR - 5 * MINUTE, 2000)  # from the five minutes it was asked in
    assert dear == (4, HOUR, 0)
    assert after == (8, 2 * HOUR + 5 * MINUTE, 2000)
    assert room.note == ""
    assert room.triggers() == 1


async def test_prices_that_are_missing_are_said_in_words(room: Room) -> None:
    await room.wants_schedules(await room.prices(PRICES, NOW - timedelta(days=3)))
    await room.polls(2)
    assert "does not know the prices of the hours ahead" in room.note
    assert room.triggers() == 1


async def test_schedule_that_cannot_be_is_said_in_words(room: Room) -> None:
    """The site may draw 1 kW, its oven alone takes 3: nothing the box could do helps."""
    price_id = await room.prices(PRICES)
    site = room.account.paired.site_asset_id
    sensor = {"name": "oven", "unit": "kW", "event_resolution": "PT15M"}
    attributes = json.dumps({"consumption_is_positive": True})
    oven = await room.asks("sensors", sensor | {"generic_asset_id": site, "attributes": attributes})
    body = {"values": [3.0] * 48, "start": NOW.isoformat(), "duration": "PT12H", "unit": "kW"}
    await room.asks(f"sensors/{oven['id']}/data", body)
    context = {"site-power-capacity": "1 kW", "inflexible-device-sensors": [oven["id"]]}
    await room.asks(f"assets/{site}", {"flex_context": json.dumps(context)}, method="PATCH")
    await room.wants_schedules(price_id)
    await room.polls(2)
    assert "no schedule fulfils everything" in room.note
    kept = (await room.account.client.asset(site)).flex_context
    assert kept["site-power-capacity"] == "1 kW"
    assert kept["consumption-price"] == {"sensor": price_id}


async def test_question_that_is_refused_is_said_in_words_and_not_repeated(room: Room) -> None:
    """A power sensor is no price sensor: 422."""
    await room.wants_schedules(room.account.fed[0].sensor_id)
    await room.polls(10)
    assert room.note.startswith("FlexMeasures makes no schedule: ")
    assert room.triggers() == 1
    assert Origin.LIMIT in room.plans


async def test_price_sensor_that_is_gone_is_said_in_words(room: Room) -> None:
    await room.wants_schedules(999_999)
    await room.polls(10)
    assert "choose another" in room.note
    assert room.triggers() == 0


async def test_schedule_nobody_computes_is_given_up_with_words(
    room: Room, flexmeasures_server: FlexMeasuresServer
) -> None:
    await room.wants_schedules(await room.prices(PRICES))
    with flexmeasures_server.without_scheduling_worker():
        await room.polls(2)
        assert room.note == ""
        rounds = COMPUTED_WITHIN // POLL_EVERY
        await room.polls(rounds)
    assert "its host must start a worker" in room.note
    assert room.triggers() == 1
    assert room.asked_jobs() <= rounds + 2
    await room.polls(10)
    assert room.triggers() == 1  # at the next place in the hour, not before


async def test_used_up_budget_of_the_account_is_waited_for_while_limits_are_read(
    room: Room,
) -> None:
    price_id = await room.prices(PRICES)
    sensor_id = room.account.fed[0].sensor_id
    for _ in range(BUDGET):
        await _somebody_triggers(room, sensor_id, price_id)
    with pytest.raises(urllib.error.HTTPError, match="429"):
        await _somebody_triggers(room, sensor_id, price_id)
    await room.wants_schedules(price_id)
    await room.polls(3)
    assert room.triggers() == 1
    assert "asks for its schedule again at" in room.note
    del room.plans[Origin.LIMIT]
    await room.polls()
    assert Origin.LIMIT in room.plans
    room.proxy.fail("/schedules/trigger", says(429, {}, retry_after="20"))
    room.clock.pass_by(2 * BUDGET_PERIOD)
    await room.polls()
    assert room.triggers() == 2


async def test_box_that_was_told_to_wait_does_so(room: Room) -> None:
    await room.wants_schedules(await room.prices(PRICES))
    room.proxy.fail("/schedules/trigger", says(429, {"status": "x"}, retry_after="240"))
    await room.polls()
    assert room.triggers() == 1
    while room.triggers() == 1:
        await room.polls()
    waited = room.clock.wall_now() - (NOW + 5 * MINUTE)
    assert timedelta(seconds=240) <= waited <= timedelta(seconds=240 + 60) + BUDGET_PERIOD
    await room.polls(2)
    assert room.note == ""
