"""The client against a real FlexMeasures: every answer it can give to what the box does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest

from edge.model import Sensor, Slot
from edge.store.outbox import OutboxSlot, SlotState, Verdict
from edge.uplink.address import Reach, parse_address
from edge.uplink.flexmeasures import (
    FlexMeasures,
    LogInRefused,
    NoRights,
    Posted,
    SensorRefused,
)
from edge.uplink.verdict import JobEnd
from tests.house.fake_clock import FakeClock
from tests.house.flexmeasures import Account, FlexMeasuresServer
from tests.house.flexmeasures.prices import load_prices

MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)
FIVE_MINUTES = timedelta(minutes=5)
HOUSE = Reach(loopback=True)
ATTRIBUTES = {"consumption_is_positive": True}

type Client = Callable[..., FlexMeasures]


@pytest.fixture
async def clients(flexmeasures_server: FlexMeasuresServer) -> AsyncIterator[Client]:
    opened: list[FlexMeasures] = []

    def client(user: Account, *, url: str = "", clock: FakeClock | None = None) -> FlexMeasures:
        address = parse_address(url or flexmeasures_server.url, HOUSE)
        made = FlexMeasures(address, user.email, lambda: user.password, clock or FakeClock())
        opened.append(made)
        return made

    yield client
    for each in opened:
        await each.close()


@pytest.fixture
async def client(clients: Client, owner: Account) -> FlexMeasures:
    return clients(owner)


async def make_sensor(client: FlexMeasures, unit: str = "kW") -> Sensor:
    member = await client.member()
    types = await client.asset_types()
    site = await client.create_asset("Home", types["building"], member.account_id)
    made = await client.create_sensor(
        site.asset_id, "electricity-power", unit, FIVE_MINUTES, ATTRIBUTES
    )
    return Sensor(made.sensor_id, made.name, made.unit, made.event_resolution, ())


def offered(
    sensor: Sensor, *values: float | None, start: datetime = MIDNIGHT, prior: datetime | None = None
) -> list[OutboxSlot]:
    return [
        OutboxSlot(
            row_id=number,
            slot=Slot(sensor.sensor_id, start + number * FIVE_MINUTES, FIVE_MINUTES, value),
            prior=prior,
            state=SlotState.WAITING,
            attempts=0,
            posted_at=None,
            job=None,
            reason=None,
        )
        for number, value in enumerate(values)
        if value is not None
    ]


def accepted(count: int) -> Posted:
    return Posted(dict.fromkeys(range(count), (Verdict.ACCEPT, "")))


async def stored(client: FlexMeasures, sensor: Sensor) -> list[float]:
    points = await client.stored(sensor, MIDNIGHT, MIDNIGHT + timedelta(hours=1))
    return list(points.values())


async def test_posted_slots_are_accepted_and_can_be_read_back(client: FlexMeasures) -> None:
    sensor = await make_sensor(client)
    posted = await client.post_slots(sensor, offered(sensor, 1.25, None, 0.1))
    assert posted.verdicts.keys() == {0, 2}
    assert await client.stored(sensor, MIDNIGHT, MIDNIGHT + timedelta(hours=1)) == {
        MIDNIGHT: 1.25,
        MIDNIGHT + 2 * FIVE_MINUTES: 0.1,
    }


async def test_posting_the_same_again_is_accepted(client: FlexMeasures) -> None:
    sensor = await make_sensor(client)
    for _ in range(2):
        assert await client.post_slots(sensor, offered(sensor, 1, 2, 3)) == accepted(3)


async def test_another_value_for_a_moment_is_split_off_and_rejected(client: FlexMeasures) -> None:
    sensor = await make_sensor(client)
    await client.post_slots(sensor, offered(sensor, 1, 2))
    assert (await client.post_slots(sensor, offered(sensor, 1, 5))).split
    alone = await client.post_slots(sensor, offered(sensor, 9))
    assert alone.verdicts[0] == (
        Verdict.REJECT,
        "FlexMeasures holds another value for this moment",
    )
    assert await stored(client, sensor) == [1, 2]


async def test_correction_with_its_own_prior_is_accepted(client: FlexMeasures) -> None:
    sensor = await make_sensor(client)
    await client.post_slots(sensor, offered(sensor, 1, 2))
    later = MIDNIGHT + timedelta(hours=3)
    assert await client.post_slots(sensor, offered(sensor, 7, prior=later)) == accepted(1)
    assert await stored(client, sensor) == [7, 2]


async def test_value_that_is_no_number_is_split_off_and_rejected(client: FlexMeasures) -> None:
    sensor = await make_sensor(client)
    poison = float("nan")
    assert (await client.post_slots(sensor, offered(sensor, 1, poison))).split
    verdict, reason = (await client.post_slots(sensor, offered(sensor, poison))).verdicts[0]
    assert verdict is Verdict.REJECT
    assert "nan" in reason


async def test_sensor_of_another_account_is_refused(
    client: FlexMeasures, clients: Client, flexmeasures_server: FlexMeasuresServer
) -> None:
    sensor = await make_sensor(client)
    stranger = clients(await asyncio.to_thread(flexmeasures_server.make_account))
    with pytest.raises(SensorRefused, match="give its user the right"):
        await stranger.post_slots(sensor, offered(sensor, 1))


async def test_sensor_that_is_gone_is_refused(client: FlexMeasures) -> None:
    gone = Sensor(10**6, "electricity-power", "kW", FIVE_MINUTES, ())
    with pytest.raises(SensorRefused, match="map its meter again"):
        await client.post_slots(gone, offered(gone, 1))


async def test_sensor_of_another_unit_is_refused_and_keeps_its_slots(client: FlexMeasures) -> None:
    sensor = await make_sensor(client, unit="°C")
    as_power = Sensor(sensor.sensor_id, sensor.name, "kW", FIVE_MINUTES, ())
    with pytest.raises(SensorRefused, match="Required unit for this sensor is °C"):
        await client.post_slots(as_power, offered(sensor, 1))


async def test_job_that_finishes_has_stored_its_slots(
    client: FlexMeasures, flexmeasures_server: FlexMeasuresServer
) -> None:
    sensor = await make_sensor(client)
    with flexmeasures_server.ingesting("worker"):
        for _ in range(2):
            posted = await client.post_slots(sensor, offered(sensor, 1, 2))
            assert posted.job
            assert not posted.verdicts
            assert await end_of(client, posted.job) is JobEnd.FINISHED
    assert await stored(client, sensor) == [1, 2]


async def test_job_with_another_value_is_guilty(
    client: FlexMeasures, flexmeasures_server: FlexMeasuresServer
) -> None:
    sensor = await make_sensor(client)
    await client.post_slots(sensor, offered(sensor, 1, 2))
    with flexmeasures_server.ingesting("worker"):
        posted = await client.post_slots(sensor, offered(sensor, 1, 3))
        assert await end_of(client, posted.job) is JobEnd.GUILTY
    assert await stored(client, sensor) == [1, 2]


async def test_job_of_a_stale_worker_stays_open_and_is_lost_with_it(
    client: FlexMeasures, flexmeasures_server: FlexMeasuresServer
) -> None:
    sensor = await make_sensor(client)
    with flexmeasures_server.ingesting("stalled"):
        posted = await client.post_slots(sensor, offered(sensor, 1, 2))
        assert posted.job
        assert (await client.job(posted.job)).end is JobEnd.OPEN
        await asyncio.to_thread(flexmeasures_server.lose_jobs)
        assert (await client.job(posted.job)).end is JobEnd.LOST
    assert await stored(client, sensor) == []


async def end_of(client: FlexMeasures, job: str | None) -> JobEnd:
    assert job
    for _ in range(100):
        if (state := await client.job(job)).end is not JobEnd.OPEN:
            return state.end
        await asyncio.sleep(0.05)
    raise AssertionError("the job stays open")


async def test_token_that_is_refused_is_renewed_with_the_password(
    client: FlexMeasures, owner: Account, flexmeasures_server: FlexMeasuresServer
) -> None:
    sensor = await make_sensor(client)
    await asyncio.to_thread(flexmeasures_server.forget_tokens, owner)
    assert await client.post_slots(sensor, offered(sensor, 1)) == accepted(1)


async def test_old_token_is_renewed_by_itself(clients: Client, owner: Account) -> None:
    clock = FakeClock()
    asked = []

    def password() -> str:
        asked.append(clock.wall_now())
        return owner.password

    address = clients(owner).address
    async with FlexMeasures(address, owner.email, password, clock) as client:
        for _ in range(4):
            await client.assets()
            await clock.advance(timedelta(hours=4))
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("email", "password", "said", "unknown"),
    [
        ("", "wrong", "refuses the password", False),
        ("nobody@example.com", "wrong", "knows no user nobody@example.com", True),
    ],
)
async def test_log_in_says_what_is_wrong(
    clients: Client, owner: Account, email: str, password: str, said: str, unknown: bool
) -> None:
    address = clients(owner).address
    async with FlexMeasures(
        address, email or owner.email, lambda: password, FakeClock()
    ) as stranger:
        with pytest.raises(LogInRefused, match=said) as caught:
            await stranger.log_in()
        assert caught.value.unknown_user is unknown


async def test_plain_user_may_not_make_a_site(
    clients: Client, owner: Account, flexmeasures_server: FlexMeasuresServer
) -> None:
    user = await asyncio.to_thread(flexmeasures_server.make_user, owner)
    plain = clients(user)
    types = await plain.asset_types()
    with pytest.raises(NoRights):
        await plain.create_asset("Home", types["building"], owner.account_id)


async def test_version_and_allowance_are_known(client: FlexMeasures) -> None:
    assert await client.server_version() == client.version
    await client.assets()
    if client.version.startswith("0."):  # says nothing of its rate limit
        assert client.allowance is None
    else:
        assert client.allowance is not None
        assert 0 < client.allowance.remaining < client.allowance.limit


async def test_schedule_follows_the_prices_of_the_day(
    client: FlexMeasures, owner: Account, flexmeasures_server: FlexMeasuresServer
) -> None:
    power = await make_sensor(client)
    asset_id = (await client.assets())[0].asset_id
    end = MIDNIGHT + timedelta(days=1)
    assert await client.data(power.sensor_id, MIDNIGHT, end, "scheduler", "kW") is None
    prices = [0.10] * 6 + [0.40] * 18
    price_id = await asyncio.to_thread(
        load_prices, flexmeasures_server.url, owner, asset_id, MIDNIGHT, prices
    )
    comfort = {
        "name": "comfort",
        "baseline": "2000 W",
        "down-price": "-0.30 EUR/kWh",
        "up-price": "1 EUR/kWh",
    }
    job = await client.trigger(
        asset_id,
        MIDNIGHT,
        timedelta(days=1),
        [
            {
                "sensor": power.sensor_id,
                "consumption-capacity": "2000 W",
                "production-capacity": "0 W",
                "power-capacity": "2000 W",  # 0.33 asks for it
            }
        ],
        {
            "consumption-price": {"sensor": price_id},
            "production-price": {"sensor": price_id},
            "site-power-capacity": "10 kW",
            "commitments": [comfort],
        },
    )
    schedule = await client.schedule(power.sensor_id, job, timedelta(days=1), "kW")
    assert schedule is not None
    by_source = await client.data(
        power.sensor_id, MIDNIGHT, MIDNIGHT + timedelta(days=1), "scheduler", "kW"
    )
    assert by_source is not None
    assert [abs(value or 0) for value in schedule.values] == [2.0] * 72 + [0.0] * 216
    assert schedule.points() == by_source.points()
