"""The one contract suite, for every family that a fake can play."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest

from edge.devices import FAMILIES, load
from tests.house import smappee_cloud
from tests.house.family_bench import SteppedClock
from tests.house.family_contract import Bench, FamilyContract, House
from tests.house.local_smappee import LocalSmappeeMonitor
from tests.house.p1_meter import P1Meter
from tests.house.spoken_home_assistant import TOKEN, SpokenHomeAssistant


async def smappee_in_cloud(stack: AsyncExitStack, clock: SteppedClock) -> House:
    cloud = smappee_cloud.SmappeeCloud(clock.wall_now)
    base_url = await stack.enter_async_context(cloud.serve())

    def lose() -> None:
        cloud.faults.extend(smappee_cloud.Fault(503) for _ in range(1000))

    return House(
        "smappee",
        {
            "cloud": base_url,
            "client_id": smappee_cloud.CLIENT_ID,
            "username": smappee_cloud.USERNAME,
            "history": "none",
        },
        {
            "smappee.client_secret": smappee_cloud.CLIENT_SECRET,
            "smappee.password": smappee_cloud.PASSWORD,
        },
        "123.1",
        lambda: None,
        lose,
        "smappee.password",
    )


async def smappee_in_house(stack: AsyncExitStack, clock: SteppedClock) -> House:
    inner = AsyncExitStack()
    monitor = LocalSmappeeMonitor()
    address = await inner.enter_async_context(monitor.serve())
    stack.push_async_callback(inner.aclose)
    return House(
        "smappee",
        {"way": "local", "address": address},
        {"smappee.local_password": "admin"},
        "local.1",
        lambda: None,
        inner.aclose,
        "smappee.local_password",
    )


async def home_assistant(stack: AsyncExitStack, clock: SteppedClock) -> House:
    inner = AsyncExitStack()
    spoken = SpokenHomeAssistant()
    await inner.enter_async_context(spoken.serve())
    stack.push_async_callback(inner.aclose)
    secrets = {"homeassistant.token": TOKEN}
    found = await load("homeassistant").check({"address": spoken.url}, secrets.get, clock)
    config = {
        field: [choice.value for choice in found.choices if choice.field == field]
        for field in ("entities", "switches")
    }

    return House(
        "homeassistant",
        config | {"address": spoken.url, "history": "none"},
        secrets,
        next(device.device for device in found.devices if device.name == "Boiler"),
        lambda: None,
        inner.aclose,
        "homeassistant.token",
    )


async def p1_port(stack: AsyncExitStack, clock: SteppedClock) -> House:
    meter = P1Meter()
    return House("p1", {"port": meter.path}, {}, None, meter.say, meter.unplug, None, rests=False)


HOUSES = {
    "Smappee cloud": smappee_in_cloud,
    "Smappee in the house": smappee_in_house,
    "Home Assistant": home_assistant,
    "P1 port": p1_port,
}


@pytest.fixture(params=list(HOUSES))
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    clock = SteppedClock(datetime(2026, 3, 20, 12, tzinfo=UTC))
    async with AsyncExitStack() as stack:
        yield Bench(await HOUSES[request.param](stack, clock), clock)


class TestContract(FamilyContract):
    pass


@pytest.mark.parametrize("family", list(FAMILIES))
def test_labels_of_a_familys_fields_have_words(family: str) -> None:
    from edge.setup_page.languages import LANGUAGES, Words

    for language in LANGUAGES:
        words = Words(language)
        for field in load(family).fields:
            assert words.knows(field.label), field.label
            assert all(words.knows(f"{field.label}.{choice}") for choice in field.choices)
