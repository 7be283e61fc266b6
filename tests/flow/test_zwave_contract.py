"""The one contract suite on Z-Wave: the real driver on the simulated stick."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from tests.house.family_bench import SteppedClock
from tests.house.family_contract import Bench, FamilyContract
from tests.house.family_contract import House as FamilyHouse
from tests.house.stick.stick import METER, Value, W
from tests.house.zwave_box import PLUG, House, a_house
from tests.house.zwave_proxy import ZwaveProxy

pytestmark = pytest.mark.asyncio(loop_scope="module")
REPORT_UNTIL_HEARD_S = 10


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with a_house(tmp_path_factory.mktemp("zwave")) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def bench(house: House) -> AsyncIterator[Bench]:
    """Each test through a line of its own to the driver, which can be cut."""
    async with ZwaveProxy(house.server.url) as proxy:

        async def measure() -> None:
            async with asyncio.timeout(REPORT_UNTIL_HEARD_S):
                while not bench.intake.readings:
                    await house.stick.report(Value(METER, 1, W, 812.5))
                    await asyncio.sleep(0.1)

        config = {"server_url": proxy.url, "report_presets": False}
        bench = Bench(
            FamilyHouse("zwave", config, {}, PLUG, measure, proxy.close, None),
            SteppedClock(datetime(2026, 3, 20, 12, tzinfo=UTC)),
        )
        yield bench


class TestContract(FamilyContract):
    pass
