"""The whole scene: starts house, box and server, pairs the box, watches, stops everything.

Children die with this process, however it ends; on the way out they are stopped in the order in
which nothing is lost: first the box (it commits), then the house, then the server.
"""

import asyncio
import http.client
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import SecretStr

from edge.cli.door import ask
from edge.contract import Done, PairAnswer, PairRequest, Status
from edge.contract.page import ClaimRequest, SessionAnswer
from edge.errors import EdgeError, Refused
from tests.house import child, household, yesterday
from tests.house.flexmeasures.process import Account, FlexMeasuresServer
from tests.house.replay import Replay
from tests.house.run.curtailment import Curtailment
from tests.house.run.others import Others
from tests.house.run.parts import Doings, Folder, to_its_end, told, until_answers, within
from tests.house.run.screen import Screen
from tests.house.run.wishes import REPOSITORY, Wishes
from tests.house.stick import Stick
from tests.house.zwave_server import ZwaveServer

METERS_WITHIN = timedelta(seconds=120)  # a first interview of a real stick's devices takes longer
METERED_QUANTITIES = 4  # W, kWh, V and A of every place of the simulated house
BOX_NAME = "flexbox"
DEMO_ACCOUNT = ("The simulated house", "owner@house.example", "a-demo-password")


class Scene:
    """`async with Scene(wishes, screen, password) as scene: await scene.watch()`."""

    def __init__(self, asked: Wishes, screen: Screen, password: str | None) -> None:
        self._asked = asked
        self._screen = screen
        self._password = password
        self._stack = AsyncExitStack()
        self._runtime = Path(tempfile.mkdtemp(prefix="edge-"))  # short: it holds Unix sockets
        self._page_password: str | None = None
        self._doings = Doings()
        self.prefilled = 0

    @property
    def socket(self) -> Path:
        return self._runtime / "agent.sock"

    @property
    def settings_file(self) -> Path:
        return self._asked.state / "agent.toml"

    @property
    def box(self) -> Path:
        """The box's own state, which a factory reset empties."""
        return self._asked.state / "box"

    def _log(self, name: str) -> Path:
        return self._asked.state / f"{name}.log"

    async def __aenter__(self) -> "Scene":
        folder = Folder(self._asked.state)
        self._stack.callback(shutil.rmtree, self._runtime, ignore_errors=True)
        try:
            home = household.load(self._asked.household)
            folder.make()
            await self._start(home)
        except BaseException:
            await self._stack.aclose()
            folder.give_up()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def status(self) -> Status:
        """The box's own answer to "how are you?"."""
        return await asyncio.to_thread(ask, self.socket, "GET", "/status", Status)

    async def watch(self, until: asyncio.Event) -> Status:
        """Show the live line until the person or the time has had enough; the last status."""
        away: dict[str, bool] = {}
        while not until.is_set():
            self._doings.look()
            status = await self.status()
            for change in _changes(status, away):
                self._screen.step(change)
            self._screen.live(_line(status))
            try:
                async with asyncio.timeout(1):
                    await until.wait()
            except TimeoutError:
                pass
        return await self.status()

    # --- starting ---------------------------------------------------------------------------------

    async def _start(self, home: household.Household) -> None:
        asked, stack = self._asked, self._stack
        with told("the day that is over"):
            await self._prefill(home)
        url, email, password = await self._server()
        await self._meters(home)
        others = Others(asked, self._screen, self._doings)
        await stack.enter_async_context(others)
        self._write_settings()
        agent = await stack.enter_async_context(self._child("agent", "agent"))
        await until_answers("the box", agent, self._log("agent"), self._is_up)
        self._screen.step("the box runs")
        async with within(METERS_WITHIN, "a meter beside the stick is not heard"):
            await others.join(self.socket)
        site_asset_id = await self._pair(url, email, password)
        if asked.flexmeasures_url is None and asked.stick is None:
            await self._show_way_back(url, site_asset_id)
        arguments = ["--socket", str(self._runtime / "page.sock"), "--port", str(asked.page_port)]
        page = await stack.enter_async_context(self._child("page", "setup-page", *arguments))
        await until_answers("the setup page", page, self._log("page"), self._page_answers)
        if asked.claimed:
            await self._claim()
        self._say_where(url)

    async def _prefill(self, home: household.Household) -> None:
        path = self.box / "buffer.db"
        if path.exists() or self._asked.stick:
            return
        self.box.mkdir(mode=0o700, exist_ok=True)
        now = datetime.now(UTC).replace(second=0, microsecond=0)
        self.prefilled = await yesterday.write(path, home, now - timedelta(days=1), now)
        self._screen.step(f"a day of {self.prefilled} readings, taken while the box was offline")

    async def _server(self) -> tuple[str, str, str]:
        asked = self._asked
        if asked.flexmeasures_url and asked.email:
            return asked.flexmeasures_url, asked.email, self._password or ""
        server = FlexMeasuresServer(asked.state / "flexmeasures", port=asked.flexmeasures_port)
        self._stack.push_async_callback(asyncio.to_thread, server.stop)
        await to_its_end(server.start)
        name, email, password = DEMO_ACCOUNT
        await asyncio.to_thread(server.ensure_user, name, email, password, admin=True)
        self._screen.step("FlexMeasures answers")
        return server.url, email, password

    async def _meters(self, home: household.Household) -> None:
        asked, stack = self._asked, self._stack
        device = asked.stick or self._runtime / "zstick"
        settings = asked.state / "zwave"
        with told("the Z-Wave driver", f"move {settings} away"):
            driver = ZwaveServer(device, settings, port=asked.zwave_port, respawn=True)
        if asked.stick is None:
            with told("the simulated Z-stick"):
                stick = await stack.enter_async_context(Stick(device, driver.keys))
                replay = Replay(stick, home)
                await replay.show()
            self._doings.begin("the simulated Z-stick", replay.run(), stack)
            self._screen.step("the simulated Z-stick is plugged in: a clamp meter and two plugs")
        to_do = (
            f"is {asked.stick} a Z-stick that nothing else uses?" if asked.stick else "try again"
        )
        with told("the Z-Wave driver", to_do):
            await stack.enter_async_context(driver)
        self._screen.step("the Z-Wave driver is ready")

    def _write_settings(self) -> None:
        self.settings_file.write_text(
            f"""\
# Written by make run.
state_dir = "{self.box}"
runtime_dir = "{self._runtime}"
name = "{BOX_NAME}"
release = "simulated house"
claim_window_s = {time.clock_gettime(time.CLOCK_BOOTTIME) + 900:.0f}

[clock]
trust_always = true

[buffer]
commit_every_s = 5

[zwave]
server_url = "ws://127.0.0.1:{self._asked.zwave_port}"

[flexmeasures]
allow_loopback = true
upload_every_s = 10
backfill_spread_s = 0
poll_every_s = 5
"""
        )

    @asynccontextmanager
    async def _child(self, name: str, *arguments: str) -> AsyncIterator[child.Resident]:
        with self._log(name).open("w") as log:

            async def start() -> asyncio.subprocess.Process:
                return await asyncio.create_subprocess_exec(
                    *(*child.EDGE, "--config", str(self.settings_file), *arguments),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=REPOSITORY,
                    env=os.environ | child.EDGE_ENVIRONMENT,
                    preexec_fn=child.die_with_parent,
                    start_new_session=True,  # a Ctrl-C is ours to handle
                )

            async with child.Resident(start) as resident:
                yield resident

    def _is_up(self) -> bool:
        try:
            ask(self.socket, "GET", "/status", Status)
        except EdgeError:
            return False
        return True

    def _page_answers(self) -> bool:
        """It, and not something else that took its port."""
        page = http.client.HTTPConnection("127.0.0.1", self._asked.page_port, timeout=5)
        try:
            page.request("GET", "/claim")
            return page.getresponse().getheader("Content-Security-Policy") is not None
        except (OSError, http.client.HTTPException):
            return False
        finally:
            page.close()

    async def _pair(self, url: str, email: str, password: str) -> int:
        request = PairRequest(
            url=url, email=email, password=password, site="My home", allow_private=True
        )
        paired = await asyncio.to_thread(
            ask, self.socket, "POST", "/flexmeasures/pair", PairAnswer, request
        )
        self._screen.step(f"paired with FlexMeasures {paired.server_version} as {email}")
        async with within(METERS_WITHIN, "no meter was found on the stick"):
            await self._devices_known()
        await asyncio.to_thread(ask, self.socket, "POST", "/flexmeasures/map", Done)
        self._screen.step(f"{(await self.status()).flexmeasures.sensors} sensors are fed")
        return paired.site_asset_id

    async def _show_way_back(self, url: str, site_asset_id: int) -> None:
        _, email, password = DEMO_ACCOUNT
        owner = Account("", 0, 0, email, password)
        shown = Curtailment(self.socket, url, owner, site_asset_id)
        with told("what is shown of the way back"):
            await shown.prepare()
        self._screen.step(
            f"{shown.plug} may be switched; power is dear from {shown.dear_from:%H:%M}"
            f" to {shown.dear_until:%H:%M} UTC: watch it"
        )

    async def _claim(self) -> None:
        """Claim the box as a person would, with a password of its own; a claimed one stays so."""
        password = secrets.token_hex(8)
        door = self._runtime / "page.sock"
        wanted = ClaimRequest(password=SecretStr(password))
        try:
            await asyncio.to_thread(ask, door, "POST", "/claim", SessionAnswer, wanted)
        except Refused:
            self._screen.step("the box was claimed before")
            return
        self._page_password = password

    async def _devices_known(self) -> None:
        """Until every device was interviewed, and no more channels come."""
        expected = 1 if self._asked.stick else len(household.PLACES) * METERED_QUANTITIES
        channels = -1
        while True:
            status = await self.status()
            interviewing = any(device.state == "interviewing" for device in status.devices)
            found = sum(channel.key.startswith("zwave/") for channel in status.channels)
            if not interviewing and found == channels >= expected:
                return
            channels = found
            await asyncio.sleep(1)

    def _say_where(self, url: str) -> None:
        asked = self._asked
        self._screen.say()
        password = f"   password: {self._page_password}" if self._page_password else ""
        self._screen.say(f"  setup page     http://127.0.0.1:{asked.page_port}{password}")
        if asked.flexmeasures_url is None:
            _, email, password = DEMO_ACCOUNT
            self._screen.say(f"  FlexMeasures   {url}   log in: {email}  {password}")
        edge = f"{sys.executable} -m edge --config {self.settings_file}"
        self._screen.say(f"  inside         {edge} status")
        self._screen.say("  Ctrl-C stops everything.")
        self._screen.say()


def _line(status: Status) -> str:
    server = status.flexmeasures
    return (
        f"readings stored {status.buffer.readings}"
        f"   slots sent {server.slots_accepted}, waiting {server.slots_waiting},"
        f" rejected {server.slots_rejected}"
        + (
            ""
            if server.catching_up_percent is None
            else f"   catching up {server.catching_up_percent:.0f} %,"
            f" {server.slots_per_minute:.0f} slots/min"
        )
        + (f"   {server.last_error}" if server.last_error else "")
        + "".join(f"   {each}" for each in _switched(status))
    )


def _changes(status: Status, away: dict[str, bool]) -> Iterator[str]:
    """Who left its normal state or came back since `away` was last brought up to date."""
    for each in status.control.devices if status.control else ():
        is_away = each.state in ("away", "returning")
        if is_away is not away.get(each.key, False):
            until = f" by {each.by}, until {each.until:%H:%M:%S} UTC" if each.until else ""
            yield f"{each.name} was switched off{until}" if is_away else f"{each.name} is back"
        away[each.key] = is_away


def _switched(status: Status) -> Iterator[str]:
    for each in status.control.devices if status.control else ():
        if each.state != "normal":
            yield f"{each.name} is {each.state} by {each.by} until {each.until:%H:%M}"
        elif each.next_at and each.next_away:
            yield f"{each.name} goes off at {each.next_at:%H:%M}"
