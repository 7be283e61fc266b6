"""The real agent, opened but not running, behind its real door for the page."""

import asyncio
import re
import threading
from pathlib import Path

from edge.agent import Agent
from edge.agent_api.access import Visitor
from edge.agent_api.door import serve
from edge.config import Config, FlexMeasuresConfig, ZWaveConfig
from edge.setup_page.agent_link import AgentLink, Caller, SaysNo
from tests.page.stand import PASSWORD


class RealDoor:
    """`with RealDoor(folder) as door: door.ask("POST", "/map", body)`: as somebody logged in."""

    def __init__(self, folder: Path) -> None:
        self._config = Config(
            name="flexbox",
            state_dir=folder / "state",
            runtime_dir=folder / "run",
            claim_window_s=1e12,
            zwave=ZWaveConfig(enabled=False),
            flexmeasures=FlexMeasuresConfig(box_health=False),
        )
        self._ready = threading.Event()

    def __enter__(self) -> "RealDoor":
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    @property
    def state(self) -> Path:
        return self._config.state_dir

    @property
    def socket(self) -> Path:
        return self._config.page_socket

    def routes(self) -> set[tuple[str, str]]:
        """Every method and path behind the page's socket."""
        return {
            (route.method, re.sub(r"\{(\w+)[^}]*\}", r"\1", route.path)) for route in self._routes
        }

    def ask(
        self, method: str, path: str, body: bytes, *, session: str | None = None
    ) -> tuple[int, str]:
        """The status, and what a refusal says."""
        link = AgentLink(self._config.page_socket)
        caller = Caller(self._session if session is None else session, "192.0.2.1", "a test")

        async def ask() -> tuple[int, str]:
            try:
                said = await link._ask(method, path, body, caller, 20.0)
            except SaysNo as problem:
                return problem.status, problem.text
            return 200, said.decode("utf-8", "replace")

        return asyncio.run_coroutine_threadsafe(ask(), self._loop).result(40)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        agent = await Agent.open(self._config, lambda: None)
        socket = self._config.page_socket
        application = agent.page.application()
        self._routes = list(application.routes)
        door = await serve(socket, application, mode=0o600)
        self._session = await agent.page.access.claim(PASSWORD, "", Visitor("192.0.2.1"))
        self._ready.set()
        await self._stop.wait()
        await door.close()
        await agent.close()
