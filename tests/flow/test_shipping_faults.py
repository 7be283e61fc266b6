"""The sender against a real FlexMeasures behind a connection that fails in every way."""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from edge.model import Sensor
from tests.flow.uplink_box import FIVE, Reader, UplinkBox, exact_kw, power_channel
from tests.house.fault_proxy import (
    Answer,
    BlackHole,
    Cut,
    Fault,
    FaultProxy,
    HalfAnswer,
    LoseAnswer,
    html,
    says,
)
from tests.house.flexmeasures import Account, FlexMeasuresServer
from tests.house.household import DISHWASHER, WHOLE_HOUSE

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ONE_WATT = 0.001  # kW
MAINS = power_channel(WHOLE_HOUSE)


@pytest.fixture
async def proxy(flexmeasures_server: FlexMeasuresServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(flexmeasures_server.url) as proxy:
        yield proxy


@pytest.fixture
async def box(tmp_path: Path, proxy: FaultProxy, owner: Account) -> AsyncIterator[UplinkBox]:
    box = await UplinkBox.open(tmp_path, proxy.url, owner)
    yield box
    await box.close()


@pytest.fixture
async def sensor(box: UplinkBox) -> Sensor:
    (sensor,) = (await box.make_sensors({WHOLE_HOUSE: MAINS})).values()
    return sensor


@pytest.fixture
def reader(flexmeasures_server: FlexMeasuresServer, owner: Account) -> Reader:
    return Reader(flexmeasures_server.url, owner)


def posts(proxy: FaultProxy) -> list[list[datetime]]:
    """The slots of each batch that was posted."""
    batches = []
    for seen in proxy.asked("/data", "POST"):
        body = seen.json()
        assert isinstance(body, dict)
        start = datetime.fromisoformat(body["start"])
        told = [n for n, value in enumerate(body["values"]) if value is not None]
        batches.append([start + n * FIVE for n in told])
    return batches


async def test_answer_lost_after_the_server_stored_is_not_posted_again(
    box: UplinkBox, proxy: FaultProxy, sensor: Sensor, reader: Reader
) -> None:
    box.server = None
    await box.measure([WHOLE_HOUSE], DAY)
    box.server = box.client
    for fault in (LoseAnswer(), HalfAnswer()):
        proxy.fail("/data", fault, method="POST")
    await box.work_until_sent()
    assert await reader.kw(sensor) == pytest.approx(exact_kw(WHOLE_HOUSE, DAY), abs=ONE_WATT)
    assert len(box.troubles) == 2
    times = Counter(at for batch in posts(proxy) for at in batch)
    assert set(times.values()) == {1}


async def test_hour_of_500s_settles_nothing_and_loses_nothing(
    box: UplinkBox, proxy: FaultProxy, sensor: Sensor, reader: Reader
) -> None:
    await box.measure([WHOLE_HOUSE], HOUR)
    accepted = (await box.outbox.counts()).accepted_total
    proxy.fail("/sensors", html(500), times=None)
    await box.measure([WHOLE_HOUSE], HOUR, work_every=FIVE)
    counts = await box.outbox.counts()
    assert (counts.accepted_total, counts.rejected_total) == (accepted, 0)
    assert len(box.troubles) >= 10
    proxy.heal()
    await box.measure([WHOLE_HOUSE], HOUR)
    await box.work_until_sent()
    assert await reader.kw(sensor) == pytest.approx(exact_kw(WHOLE_HOUSE, 3 * HOUR), abs=ONE_WATT)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(html(200, "<html>Welcome to our guest network</html>"), id="captive portal"),
        pytest.param(html(502), id="gateway"),
        pytest.param(Answer(302, headers={"Location": "http://elsewhere/"}), id="redirect"),
        pytest.param(says(200, {"status": "SURELY"}), id="unknown word"),
        pytest.param(Answer(200, b"{", {"Content-Type": "application/json"}), id="broken JSON"),
        pytest.param(Cut(), id="cut"),
    ],
)
async def test_whatever_is_no_answer_settles_nothing(
    fault: Fault, box: UplinkBox, proxy: FaultProxy, sensor: Sensor, reader: Reader
) -> None:
    proxy.fail("/data", fault, method="POST", times=None)
    await box.measure([WHOLE_HOUSE], HOUR)
    await box.clock.advance(FIVE)
    await box.work()
    counts = await box.outbox.counts()
    assert (counts.accepted_total, counts.rejected_total) == (0, 0)
    assert box.troubles
    proxy.heal()
    await box.work_until_sent()
    assert await reader.kw(sensor) == pytest.approx(exact_kw(WHOLE_HOUSE, HOUR), abs=ONE_WATT)


async def test_server_that_stays_silent_is_given_up_and_asked_later(
    tmp_path: Path, proxy: FaultProxy, owner: Account, reader: Reader
) -> None:
    box = await UplinkBox.open(tmp_path, proxy.url, owner, answer_within=timedelta(seconds=2))
    (sensor,) = (await box.make_sensors({WHOLE_HOUSE: MAINS})).values()
    proxy.fail("/data", BlackHole(), method="POST")
    await box.measure([WHOLE_HOUSE], HOUR)
    await box.work_until_sent()
    await box.close()
    assert any("too long" in trouble for trouble in box.troubles)
    assert await reader.kw(sensor) == pytest.approx(exact_kw(WHOLE_HOUSE, HOUR), abs=ONE_WATT)


async def test_server_that_asks_for_patience_gets_it(
    box: UplinkBox, proxy: FaultProxy, sensor: Sensor, reader: Reader
) -> None:
    await box.measure([WHOLE_HOUSE], HOUR)
    before = len(proxy.requests)
    busy = says(429, {"status": "TOO_MANY_REQUESTS"}, Retry_After="900")
    proxy.fail("/data", busy, method="POST")
    await box.measure([WHOLE_HOUSE], timedelta(minutes=10), work_every=timedelta(minutes=1))
    assert len(proxy.requests) - before == 1
    assert box.troubles == []
    await box.work_until_sent()
    held = await reader.kw(sensor)
    assert held == pytest.approx(exact_kw(WHOLE_HOUSE, timedelta(minutes=70)), abs=ONE_WATT)


async def test_batch_that_is_too_large_for_somebody_on_the_way_is_halved(
    box: UplinkBox, proxy: FaultProxy, sensor: Sensor, reader: Reader
) -> None:
    box.server = None
    await box.measure([WHOLE_HOUSE], DAY)
    box.server = box.client
    proxy.fail("/data", html(413), method="POST", times=3)
    await box.work_until_sent()
    assert [len(batch) for batch in posts(proxy)][:4] == [200, 100, 50, 25]
    assert await reader.kw(sensor) == pytest.approx(exact_kw(WHOLE_HOUSE, DAY), abs=ONE_WATT)
    assert (await box.outbox.counts()).rejected_total == 0


async def test_token_that_expires_in_between_is_renewed(
    box: UplinkBox,
    sensor: Sensor,
    reader: Reader,
    flexmeasures_server: FlexMeasuresServer,
    owner: Account,
) -> None:
    await box.measure([WHOLE_HOUSE], HOUR)
    flexmeasures_server.forget_tokens(owner)
    await box.measure([WHOLE_HOUSE], HOUR)
    await box.work_until_sent()
    assert box.troubles == []
    assert await reader.kw(sensor) == pytest.approx(exact_kw(WHOLE_HOUSE, 2 * HOUR), abs=ONE_WATT)


async def test_sensor_that_was_deleted_is_named_and_holds_nobody_up(
    box: UplinkBox, proxy: FaultProxy, reader: Reader
) -> None:
    places = (WHOLE_HOUSE, DISHWASHER)
    sensors = await box.make_sensors({place: power_channel(place) for place in places})
    gone = sensors[DISHWASHER].sensor_id
    not_found = says(404, {"status": "NOT_FOUND", "message": "no such sensor"})
    proxy.fail(f"/sensors/{gone}/", not_found, times=None)
    await box.measure(places, HOUR)
    await box.clock.advance(FIVE)
    await box.work()
    held = await reader.kw(sensors[WHOLE_HOUSE])
    assert held == pytest.approx(exact_kw(WHOLE_HOUSE, HOUR), abs=ONE_WATT)
    assert "map its meter again" in box.shipping.refused[gone]
    assert (await box.outbox.counts()).waiting > 0


async def test_nothing_reaches_the_server_while_the_clock_is_not_trusted(
    box: UplinkBox, proxy: FaultProxy, sensor: Sensor
) -> None:
    before = len(proxy.requests)
    box.clock.trusted = False
    await box.measure([WHOLE_HOUSE], 3 * HOUR)
    assert len(proxy.requests) == before
