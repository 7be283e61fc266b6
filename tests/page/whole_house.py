"""The simulated house around the real box: stick, driver, agent, page, and a day of readings.

Runs in a thread of its own, since the browser's side of a test waits without a loop. The box is
not claimed and not paired: that is what the tests do.
"""

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp

from edge.cli.door import ask
from edge.contract import Status
from edge.errors import EdgeError
from tests.house import child, household, yesterday
from tests.house.flexmeasures import Account
from tests.house.run.wishes import OWN_DATA, REPOSITORY
from tests.house.stick import Stick
from tests.house.zwave_server import ZwaveServer

STARTS_WITHIN_S = 90.0
SETTINGS = """\
state_dir = "{state}"
runtime_dir = "{runtime}"
name = "flexbox"
release = "simulated house"
supported_until = "2031-12-31"
claim_window_s = {window:.0f}

[clock]
trust_always = true

[buffer]
commit_every_s = 1

[zwave]
server_url = "{driver}"
report_presets = {presets}

[flexmeasures]
allow_loopback = true
upload_every_s = 10
backfill_spread_s = 0
"""


class WholeHouse:
    """`with WholeHouse(folder) as house`: the page answers on house.url."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.password = "CANARY-box-password"  # what the tests claim it with, and change
        self.owner: Account | None = None
        self._ready = threading.Event()
        self._problem: BaseException | None = None

    def __enter__(self) -> "WholeHouse":
        self._thread = threading.Thread(target=self._live)
        self._thread.start()
        assert self._ready.wait(STARTS_WITHIN_S), "the house did not start"
        if self._problem is not None:
            raise self._problem
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)

    def do[T](self, doing: Callable[[], Awaitable[T]]) -> T:
        """Run something on the house's loop and wait for it."""

        async def run() -> T:
            return await doing()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(60)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def own_socket(self) -> Path:
        """The agent's door for the command line."""
        return self.folder / "run" / "agent.sock"

    def write_settings(self, *, presets: bool = False) -> None:
        """What the agent reads at its next start.

        Without `presets` nothing is written to meters by itself: what the driver asks a meter to
        make sure of such writes, the mock does not stand while a device joins securely.
        """
        text = SETTINGS.format(
            state=self.state,
            runtime=self.folder / "run",
            window=time.clock_gettime(time.CLOCK_BOOTTIME) + 3600,
            driver=self.driver.url,
            presets=str(presets).lower(),
        )
        (self.folder / "agent.toml").write_text(text)

    def restart_agent(self) -> None:
        """As after an update: systemd starts it again, the page stays."""
        ended = self._agent.process
        ended.send_signal(signal.SIGTERM)
        self.until(lambda: self._agent.process is not ended)
        self.agent_answers()

    def agent_answers(self) -> None:
        """Wait until it knows the stick's devices again."""
        self.until(self._hears_the_stick)

    def _hears_the_stick(self) -> bool:
        try:
            status = ask(self.own_socket, "GET", "/status", Status)
        except EdgeError:
            return False
        return any(device.state == "alive" for device in status.devices)

    def restart_page(self) -> None:
        """The page was idle, left, and comes back with the next request."""
        ended = self._page.process
        ended.send_signal(signal.SIGTERM)
        self.until(lambda: self._page.process is not ended)
        self.do(self._page_answers)

    def until(self, true: Callable[[], bool], within_s: float = 30, every_s: float = 0.1) -> None:
        """Wait until something is true."""
        until_s = time.monotonic() + within_s
        while not true():
            assert time.monotonic() < until_s, "waited in vain"
            time.sleep(every_s)

    def _live(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as problem:  # noqa: BLE001 # told in the test's own thread
            self._problem = problem
            self._ready.set()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.state.mkdir(parents=True)
        runtime = self.folder / "run"
        runtime.mkdir()
        home = household.load(OWN_DATA)
        now = datetime.now(UTC).replace(second=0, microsecond=0)
        path = self.state / "buffer.db"
        await yesterday.write(path, home, now - timedelta(hours=3), now)
        async with AsyncExitStack() as stack:
            driver = ZwaveServer(self.folder / "stick", self.folder / "driver", respawn=True)
            self.stick = await stack.enter_async_context(Stick(self.folder / "stick", driver.keys))
            self.driver = await stack.enter_async_context(driver)
            settings = self.folder / "agent.toml"
            self.write_settings()
            self._agent = await self._child(stack, settings, "agent")
            port = _free_port()
            self.url = f"http://127.0.0.1:{port}"
            self._page = await self._child(stack, settings, "setup-page", "--port", str(port))
            await self._page_answers()
            self._ready.set()
            await self._stop.wait()

    async def _child(
        self, stack: AsyncExitStack, settings: Path, *arguments: str
    ) -> child.Resident:
        log = stack.enter_context((self.folder / f"{arguments[0]}.log").open("a"))

        async def start() -> asyncio.subprocess.Process:
            return await asyncio.create_subprocess_exec(
                *(*child.EDGE, "--config", str(settings), *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=REPOSITORY,
                env=os.environ | child.EDGE_ENVIRONMENT,
                preexec_fn=child.die_with_parent,
            )

        return await stack.enter_async_context(child.Resident(start))

    async def _page_answers(self) -> None:
        async with asyncio.timeout(30), aiohttp.ClientSession() as session:
            while True:
                with suppress(aiohttp.ClientError):
                    async with session.get(f"{self.url}/log-in") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.1)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
