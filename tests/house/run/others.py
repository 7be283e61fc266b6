"""What the house has besides the stick: a Smappee location, a P1 port, and with HA=1 a real Home
Assistant. They stand before the box starts and stay until it has stopped."""

import asyncio
import math
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from pydantic import SecretStr

from edge.cli.door import ask
from edge.clock import SystemClock
from edge.contract import Done, Status
from edge.contract.setup import FamilyRequest
from edge.devices import load
from edge.errors import Unreachable
from tests.house import smappee_cloud
from tests.house.home_assistant import HomeAssistant, Shown
from tests.house.p1_meter import P1Meter
from tests.house.run.parts import Doings, told
from tests.house.run.screen import Screen
from tests.house.run.wishes import Wishes

# What this Home Assistant shows of the box's own clamp and Smappee: one meter, two paths.
SHOWN = (
    Shown("sensor.clamp", "zwave_js", f"{0x7E570001}.2-50-1-value-66049", "Clamp"),
    Shown("sensor.monitor", "smappee", "5100000000-123-total_power", "Monitor"),
)


class Others:
    """`async with Others(…) as others:` makes them; `await others.join(socket)` tells the box."""

    def __init__(self, asked: Wishes, screen: Screen, doings: Doings) -> None:
        self._asked = asked
        self._screen = screen
        self._doings = doings
        self._stack = AsyncExitStack()
        self._wanted: dict[str, FamilyRequest] = {}
        self.cloud = smappee_cloud.SmappeeCloud(lambda: datetime.now(UTC))
        self.home_assistant: HomeAssistant | None = None

    async def __aenter__(self) -> "Others":
        try:
            if self._asked.others:
                with told("the Smappee cloud"):
                    await self._smappee()
                with told("the P1 port"):
                    self._p1()
            if self._asked.home_assistant:
                with told("Home Assistant"):
                    await self._home_assistant()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def join(self, socket: Path) -> None:
        """Tell the box of them, and wait until each was heard."""
        for family, wanted in self._wanted.items():
            await asyncio.to_thread(ask, socket, "PUT", f"/families/{family}", Done, wanted)
        silent = set(self._wanted)
        while silent:
            await asyncio.sleep(0.2)
            status = await asyncio.to_thread(ask, socket, "GET", "/status", Status)
            silent -= {channel.key.partition("/")[0] for channel in status.channels}

    async def _smappee(self) -> None:
        base_url = await self._stack.enter_async_context(self.cloud.serve())
        self._wanted["smappee"] = FamilyRequest(
            values={
                "cloud": base_url,
                "client_id": smappee_cloud.CLIENT_ID,
                "username": smappee_cloud.USERNAME,
                "history": "none",
            },
            secrets={
                "client_secret": SecretStr(smappee_cloud.CLIENT_SECRET),
                "password": SecretStr(smappee_cloud.PASSWORD),
            },
        )
        self._screen.step("a Smappee location answers in its cloud")

    def _p1(self) -> None:
        meter = P1Meter()
        self._stack.callback(meter.unplug)
        self._doings.begin("the P1 port", meter.run(), self._stack)
        self._wanted["p1"] = FamilyRequest(values={"port": meter.path}, secrets={})
        self._screen.step("a smart meter speaks at its P1 port")

    async def _home_assistant(self) -> None:
        folder = self._asked.state / "homeassistant"
        house = await self._stack.enter_async_context(HomeAssistant.started(folder, shown=SHOWN))
        await house.until_running()
        self.home_assistant = house
        self._doings.begin("Home Assistant", _live_in(house), self._stack)
        config, secrets = {"address": house.url}, {"homeassistant.token": house.token}
        clock = SystemClock(datetime(2026, 1, 1, tzinfo=UTC))
        found = await load("homeassistant").check(config, secrets.get, clock)
        self._wanted["homeassistant"] = FamilyRequest(
            values=config | {"history": "none"},
            secrets={"token": SecretStr(house.token)},
            chosen={
                field: [choice.value for choice in found.choices if choice.field == field]
                for field in ("entities", "switches")
            },
        )
        self._screen.step(f"Home Assistant answers at {house.url}")


async def _live_in(house: HomeAssistant) -> None:
    """Power that comes and goes, and counters that count it."""
    bought_kwh = 1234.5
    while True:
        power_w = 800 + 300 * math.sin(datetime.now(UTC).timestamp() / 60)
        bought_kwh += power_w / 1000 * 10 / 3600
        try:
            await house.set("grid_power", round(power_w, 1))
            await house.set("grid_import", round(bought_kwh, 4))
            for meter in SHOWN:
                await house.say(meter, round(power_w / 2, 1))
        except (OSError, Unreachable):
            return  # it is being stopped
        await asyncio.sleep(10)
