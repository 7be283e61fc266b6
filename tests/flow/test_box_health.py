"""The box's own pulse in a real FlexMeasures, and what its status pages say of a silence."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener

import pytest

from edge.health import Health
from edge.model import Sensor
from edge.uplink.address import Address, Reach, parse_address
from edge.uplink.box_health import BoxHealth, Vitals
from edge.uplink.connection import Connection
from edge.uplink.flexmeasures import FlexMeasures
from edge.uplink.mapping import Feed
from edge.uplink.pacing import Pacing
from edge.uplink.pairing import STALE_AFTER, SiteWish, pair, sensor_attributes
from edge.uplink.verdict import Answer
from tests.flow.test_flexmeasures import offered
from tests.house.fake_clock import FakeClock
from tests.house.flexmeasures import Account, FlexMeasuresServer
from tests.house.paper_notebook import PaperNotebook

HOUSE = Reach(loopback=True)
MINUTE = timedelta(minutes=1)
BUSY = Vitals(oldest_waiting=timedelta(minutes=90), dead_devices=2, set_aside=7)


class CountedConnection(Connection):
    """Knows what was asked; `remaining` stands in for what the rate limiter says."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self.asked: list[tuple[str, str]] = []
        self.remaining: str | None = None

    async def exchange(self, method: str, path: str, **rest: Any) -> Answer:
        self.asked.append((method, path))
        answer = await super().exchange(method, path, **rest)
        if self.remaining is None:
            return answer
        headers = {**(answer.headers or {}), "X-RateLimit-Remaining": self.remaining}
        return replace(answer, headers=headers)


@pytest.fixture
async def connection(flexmeasures_server: FlexMeasuresServer) -> CountedConnection:
    return CountedConnection(parse_address(flexmeasures_server.url, HOUSE))


@pytest.fixture
async def client(connection: CountedConnection, owner: Account) -> AsyncIterator[FlexMeasures]:
    async with FlexMeasures(
        connection.address,
        owner.email,
        lambda: owner.password,
        FakeClock(),
        connection=connection,
    ) as client:
        yield client


class House:
    """A paired box whose pulse can be felt."""

    def __init__(
        self,
        client: FlexMeasures,
        site_id: int,
        clock: FakeClock,
        version: str,
        settings: PaperNotebook | None = None,
    ) -> None:
        self.vitals = BUSY
        self.said = Health(clock)
        self._client, self._site_id = client, site_id
        self.health = BoxHealth(
            "box-1",
            "flexbox",
            {"version": version},
            self,
            self._vitals,
            settings or PaperNotebook(),
            Pacing("box-1"),
            self.said,
            clock,
        )

    def server(self) -> FlexMeasures:
        return self._client

    def site_id(self) -> int:
        return self._site_id

    @property
    def problem(self) -> str:
        return self.said.alarms.get("box_health", "")

    async def _vitals(self) -> Vitals:
        return self.vitals


async def paired(client: FlexMeasures) -> int:
    wish = SiteWish(name="Home")
    return (await pair(client, "box-1", wish, [], [], {}, FakeClock())).site.asset_id


async def told(client: FlexMeasures, site_id: int, clock: FakeClock) -> dict[str, list[float]]:
    found = {}
    for sensor in await client.sensors(site_id):
        series = await client.data(
            sensor.sensor_id,
            clock.wall_now() - timedelta(hours=3),
            clock.wall_now() + timedelta(hours=3),
            "user",
            sensor.unit,
        )
        found[sensor.name] = list(series.points().values()) if series else []
    return found


async def test_box_tells_its_pulse_once_for_each_interval(client: FlexMeasures) -> None:
    site_id, clock = await paired(client), FakeClock()
    house = House(client, site_id, clock, "1.0")
    for _ in range(7):
        await house.health.beat()
        await clock.advance(timedelta(minutes=2, seconds=30))
    assert house.problem == ""
    assert await told(client, site_id, clock) == {
        "heartbeat": [1, 1, 1, 1],
        "oldest-waiting": [90, 90],
        "dead-devices": [2, 2],
        "set-aside": [7, 7],
    }


async def test_restart_finds_its_asset_again_and_says_the_new_version(
    client: FlexMeasures,
) -> None:
    site_id, clock = await paired(client), FakeClock()
    await House(client, site_id, clock, "1.0").health.beat()
    assets = {asset.asset_id for asset in await client.assets()}
    after = House(client, site_id, clock, "1.1")
    after.vitals = Vitals(timedelta(0), 0, 0)  # another value for an interval that was told
    await after.health.beat()
    assert after.problem == ""
    assert {asset.asset_id for asset in await client.assets()} == assets
    (box,) = [asset for asset in await client.assets() if asset.name == "flexbox"]
    assert box.attributes == {"version": "1.1"}
    assert box.shows_sensors
    assert (await told(client, site_id, clock))["dead-devices"] == [2]


async def test_box_that_starts_again_asks_nothing_before_it_tells_its_pulse(
    client: FlexMeasures, connection: CountedConnection
) -> None:
    site_id, clock, settings = await paired(client), FakeClock(), PaperNotebook()
    await House(client, site_id, clock, "1.0", settings).health.beat()
    await clock.advance(timedelta(minutes=5))
    connection.asked.clear()
    await House(client, site_id, clock, "1.0", settings).health.beat()
    assert [method for method, _ in connection.asked] == ["POST"] * 4
    assert (await told(client, site_id, clock))["heartbeat"] == [1, 1]


async def test_only_the_heartbeat_is_told_while_requests_are_short(
    client: FlexMeasures, connection: CountedConnection
) -> None:
    site_id, clock = await paired(client), FakeClock()
    house = House(client, site_id, clock, "1.0")
    await house.health.beat()
    await clock.advance(timedelta(minutes=15))
    connection.remaining = "40"
    await client.assets()
    connection.asked.clear()
    await house.health.beat()
    assert len(connection.asked) == 1
    connection.remaining = None
    await client.assets()
    await house.health.beat()
    assert (await told(client, site_id, clock))["dead-devices"] == [2, 2]


async def test_sensors_that_were_deleted_are_made_again(
    client: FlexMeasures, owner: Account
) -> None:
    site_id, clock, settings = await paired(client), FakeClock(), PaperNotebook()
    await House(client, site_id, clock, "1.0", settings).health.beat()
    for sensor in settings.pages["box_health"]["sensors"]:
        sensor["sensor_id"] += 10**6
    after = House(client, site_id, clock, "1.0", settings)
    await clock.advance(timedelta(minutes=15))
    await after.health.beat()
    assert "map its meter again" in after.problem
    await after.health.beat()
    assert after.problem == ""
    assert (await told(client, site_id, clock))["heartbeat"] == [1, 1]


async def test_pulse_that_is_refused_is_no_failure_of_the_upload(client: FlexMeasures) -> None:
    house = House(client, 10**6, FakeClock(), "1.0")
    await house.health.beat()
    assert "FlexMeasures" in house.problem


@pytest.mark.parametrize(
    ("silent_for", "is_stale"),
    [(STALE_AFTER - MINUTE, False), (STALE_AFTER + MINUTE, True)],
    ids=["in good health", "silent"],
)
async def test_flexmeasures_names_a_silent_sensor_within_a_quarter_of_an_hour(
    client: FlexMeasures,
    connection: CountedConnection,
    owner: Account,
    silent_for: timedelta,
    is_stale: bool,
) -> None:
    assert timedelta(minutes=15) >= STALE_AFTER + MINUTE
    site_id = await paired(client)
    feed = Feed("box", "heartbeat", "dimensionless", MINUTE, ())
    made = await client.create_sensor(
        site_id, feed.name, feed.unit, MINUTE, sensor_attributes(feed)
    )
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    # FlexMeasures looks at its own clock: the end of the last interval is what counts.
    sensor = Sensor(made.sensor_id, made.name, made.unit, MINUTE, ())
    await client.post_slots(sensor, offered(sensor, 1, start=now - silent_for - MINUTE))
    status = await status_of(connection, owner, made.sensor_id)
    assert status["stale"] is is_stale
    assert f"{STALE_AFTER // MINUTE} minutes old" in str(status["reason"])


async def status_of(connection: Connection, user: Account, sensor_id: int) -> dict[str, object]:
    """What FlexMeasures' own status page says about a sensor."""
    log_in = {"email": user.email, "password": user.password}
    token = (await connection.exchange("POST", "/api/requestAuthToken", body=log_in)).field(
        "auth_token"
    )
    path = f"/api/v3_0/sensors/{sensor_id}/status"
    told = (await connection.exchange("GET", path, token=str(token))).field("sensors_data")
    assert isinstance(told, list)
    (status,) = told
    return dict(status)


async def test_status_page_of_the_box_lists_its_sensors(
    client: FlexMeasures, owner: Account, flexmeasures_server: FlexMeasuresServer
) -> None:
    site_id = await paired(client)
    await House(client, site_id, FakeClock(), "1.0").health.beat()
    (box,) = [asset for asset in await client.assets() if asset.name == "flexbox"]
    page = read_page(flexmeasures_server.url, owner, f"/assets/{box.asset_id}/status")
    for name in ("heartbeat", "oldest-waiting", "dead-devices", "set-aside"):
        assert f'"name": "{name}"' in page


def read_page(url: str, user: Account, path: str) -> str:
    """A page of FlexMeasures as a person sees it who has logged in."""
    browser = build_opener(HTTPCookieProcessor(CookieJar()))
    form = browser.open(f"{url}/login").read().decode()
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', form)
    assert token
    fields = {"email": user.email, "password": user.password, "csrf_token": token[1]}
    headers = {"Referer": f"{url}/login"}
    browser.open(Request(f"{url}/login", urlencode(fields).encode(), headers))
    return str(browser.open(url + path).read().decode())
