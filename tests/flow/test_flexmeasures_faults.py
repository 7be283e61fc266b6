"""The client when the way to FlexMeasures, or FlexMeasures itself, fails: a real server behind a
proxy that fails as told. Nothing is ever settled without an answer."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from edge.uplink.address import Address, AddressRefused, Reach, parse_address
from edge.uplink.connection import Away, Connection
from edge.uplink.flexmeasures import FlexMeasures, LogInRefused, NotFlexMeasures, SensorRefused
from edge.uplink.verdict import JobEnd
from edge.uplink.wire import ANSWER_BYTES_MAX
from tests.flow.test_flexmeasures import HOUSE, MIDNIGHT, accepted, make_sensor, offered, stored
from tests.house.fake_clock import FakeClock
from tests.house.fault_proxy import (
    Answer,
    BlackHole,
    Cut,
    Delay,
    Fault,
    FaultProxy,
    HalfAnswer,
    LoseAnswer,
    html,
    says,
)
from tests.house.flexmeasures import Account, FlexMeasuresServer


@pytest.fixture
async def proxy(flexmeasures_server: FlexMeasuresServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(flexmeasures_server.url) as proxy:
        yield proxy


@pytest.fixture
async def client(proxy: FaultProxy, owner: Account) -> AsyncIterator[FlexMeasures]:
    address = parse_address(proxy.url, HOUSE)
    patience = timedelta(seconds=2)
    connection = Connection(address, connect_within=patience, answer_within=patience)
    async with FlexMeasures(
        address, owner.email, lambda: owner.password, FakeClock(), connection=connection
    ) as client:
        yield client


@pytest.mark.parametrize(
    ("fault", "may_have_arrived"),
    [
        (html(500), True),
        (html(502), True),
        (says(503, {"message": "migrating"}, retry_after="7"), True),
        (html(504), True),
        (says(429, {"status": "TOO_MANY_REQUESTS"}, retry_after="41"), False),
        (Cut(), True),
        (BlackHole(), True),
        (LoseAnswer(), True),
        (HalfAnswer(), True),
    ],
    ids=str,
)
async def test_trouble_on_the_way_settles_nothing(
    client: FlexMeasures, proxy: FaultProxy, fault: Fault, may_have_arrived: bool
) -> None:
    sensor = await make_sensor(client)
    proxy.fail("/data", fault)
    with pytest.raises(Away) as caught:
        await client.post_slots(sensor, offered(sensor, 1, 2))
    assert caught.value.may_have_arrived is may_have_arrived
    assert await client.post_slots(sensor, offered(sensor, 1, 2)) == accepted(2)
    assert await stored(client, sensor) == [1, 2]


@pytest.mark.parametrize("fault", [LoseAnswer(), HalfAnswer()], ids=str)
async def test_what_was_stored_without_an_answer_can_be_asked_for(
    client: FlexMeasures, proxy: FaultProxy, fault: Fault
) -> None:
    sensor = await make_sensor(client)
    proxy.fail("/data", fault)
    with pytest.raises(Away):
        await client.post_slots(sensor, offered(sensor, 1, 2))
    assert await stored(client, sensor) == [1, 2]


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_told_where_it_is_meant(
    client: FlexMeasures, proxy: FaultProxy, status: int
) -> None:
    sensor = await make_sensor(client)
    proxy.fail("/data", says(status, {}, retry_after="41"))
    proxy.fail("/data", says(500, {}, retry_after="41"))
    for expected in (timedelta(seconds=41), None):
        with pytest.raises(Away) as caught:
            await client.post_slots(sensor, offered(sensor, 1))
        assert caught.value.retry_after == expected


async def test_server_that_is_down_has_received_nothing(
    client: FlexMeasures, proxy: FaultProxy
) -> None:
    sensor = await make_sensor(client)
    await proxy.down()
    with pytest.raises(Away, match="refused") as caught:
        await client.post_slots(sensor, offered(sensor, 1))
    assert not caught.value.may_have_arrived
    await proxy.up()
    assert await client.post_slots(sensor, offered(sensor, 1)) == accepted(1)


async def test_batch_that_is_too_large_is_halved(client: FlexMeasures, proxy: FaultProxy) -> None:
    sensor = await make_sensor(client)
    proxy.fail("/data", html(413), times=2)
    assert (await client.post_slots(sensor, offered(sensor, 1, 2))).split
    with pytest.raises(Away):  # not even one: that is the server's trouble, not the slot's
        await client.post_slots(sensor, offered(sensor, 1))


@pytest.mark.parametrize(
    "fault",
    [html(200), html(401), html(403), html(404), says(200, ["what"]), says(202, {})],
    ids=str,
)
async def test_answer_of_somebody_else_settles_nothing(
    client: FlexMeasures, proxy: FaultProxy, fault: Fault
) -> None:
    sensor = await make_sensor(client)
    proxy.fail("/data", fault)
    with pytest.raises(NotFlexMeasures):
        await client.post_slots(sensor, offered(sensor, 1))


async def test_redirect_is_not_followed(client: FlexMeasures, proxy: FaultProxy) -> None:
    sensor = await make_sensor(client)
    elsewhere = Answer(302, headers={"Location": "http://169.254.169.254/secret"})
    proxy.fail("/data", elsewhere)
    asked = len(proxy.requests)
    with pytest.raises(NotFlexMeasures, match="the address it really has"):
        await client.post_slots(sensor, offered(sensor, 1))
    assert len(proxy.requests) == asked + 1


async def test_answer_without_end_is_given_up(client: FlexMeasures, proxy: FaultProxy) -> None:
    endless = Answer(200, b"[" * (ANSWER_BYTES_MAX + 1), {"Content-Type": "application/json"})
    proxy.fail("/assets", endless)
    with pytest.raises(NotFlexMeasures, match="no end"):
        await client.assets()


async def test_slow_answer_within_patience_is_an_answer(
    client: FlexMeasures, proxy: FaultProxy
) -> None:
    sensor = await make_sensor(client)
    proxy.fail("/data", Delay(0.3))
    assert await client.post_slots(sensor, offered(sensor, 1)) == accepted(1)


async def test_token_refused_for_ever_is_a_persons_business(
    client: FlexMeasures, proxy: FaultProxy
) -> None:
    sensor = await make_sensor(client)
    before = len(proxy.asked("requestAuthToken"))
    proxy.fail("/data", says(401, {"status": "UNAUTHORIZED"}), times=None)
    with pytest.raises(LogInRefused):
        await client.post_slots(sensor, offered(sensor, 1))
    assert len(proxy.asked("requestAuthToken")) == before + 1
    proxy.heal()
    assert await client.post_slots(sensor, offered(sensor, 1)) == accepted(1)


async def test_many_requests_at_once_log_in_once(client: FlexMeasures, proxy: FaultProxy) -> None:
    await asyncio.gather(*(client.assets() for _ in range(5)))
    assert len(proxy.asked("requestAuthToken")) == 1


async def test_rights_that_were_taken_away_keep_the_slots(
    client: FlexMeasures, proxy: FaultProxy
) -> None:
    sensor = await make_sensor(client)
    proxy.fail("/data", says(403, {"status": "INVALID_SENDER", "message": "no"}))
    with pytest.raises(SensorRefused) as caught:
        await client.post_slots(sensor, offered(sensor, 1, 2))
    assert caught.value.sensor_id == sensor.sensor_id


@pytest.mark.parametrize(
    ("trace", "end"),
    [
        ("psycopg2.errors.UniqueViolation: duplicate key", JobEnd.GUILTY),
        ("marshmallow.exceptions.ValidationError: values", JobEnd.GUILTY),
        ("sqlalchemy.exc.OperationalError: server closed the connection", JobEnd.FAILED),
        ("rq.timeouts.JobTimeoutException", JobEnd.FAILED),
        ("", JobEnd.FAILED),
    ],
)
async def test_failed_job_says_whose_fault_it_was(
    client: FlexMeasures, proxy: FaultProxy, trace: str, end: JobEnd
) -> None:
    proxy.fail("/jobs/", says(422, {"status": "FAILED", "message": "failed", "exc-info": trace}))
    assert (await client.job("1")).end is end


async def test_secrets_are_in_no_error_and_no_log(
    client: FlexMeasures,
    proxy: FaultProxy,
    owner: Account,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(0)
    sensor = await make_sensor(client)
    token = proxy.requests[-1].headers["authorization"]
    said = []
    for fault in (html(500), says(422, {"message": "no"}), Cut(), html(200), says(401, {})):
        proxy.fail("/data", fault)
        try:
            await client.post_slots(sensor, offered(sensor, 1, start=MIDNIGHT))
        except Exception as problem:  # noqa: BLE001
            said.append(repr(problem))
    everything = " ".join([*said, caplog.text])
    assert owner.password not in everything
    assert token not in everything


async def test_name_that_leads_to_the_box_itself_is_refused_when_connecting(
    proxy: FaultProxy,
) -> None:
    port = proxy.url.rpartition(":")[2]
    as_stored = Address(f"http://localhost:{port}", "localhost", Reach(private=True))
    connection = Connection(as_stored)
    with pytest.raises(AddressRefused, match="the box itself"):
        await connection.exchange("GET", "/api/")
    await connection.close()
    in_the_house = Connection(Address(as_stored.base, "localhost", HOUSE))
    assert (await in_the_house.exchange("GET", "/api/")).status == 200
    await in_the_house.close()
    assert len(proxy.requests) == 1
