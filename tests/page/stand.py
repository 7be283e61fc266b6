"""The real page before the agent's real door, both in one thread; only the rooms behind are ours.

The clock is the tests' own, so that windows and limits can be passed at will.
"""

import asyncio
import socket
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path

from edge.agent_api import web
from edge.agent_api.access import TRIES_IN_ALL, TRIES_PER_ADDRESS, Access
from edge.agent_api.door import serve as serve_door
from edge.agent_api.entrance import Entrance
from edge.agent_api.page_door import page_application
from edge.agent_api.tries import Tries
from edge.contract.page import Front, Standing
from edge.setup_page.serving import serve as serve_page
from tests.house.fake_clock import FakeClock
from tests.house.paper_notebook import PaperNotebook

PASSWORD = "three words together"

type Rooms = Iterable[Sequence[web.Route]]


class Stand:
    """A box with a page on `url`. Enter as a context manager."""

    def __init__(self, *, code: str | None = None, rooms: Rooms = (), hash_cost: int = 2) -> None:
        self.clock = FakeClock()
        self.documents = PaperNotebook()
        self.events: list[tuple[str, str, dict[str, str]]] = []
        self.standing = Standing(paired=False, meters=0, mapped=0, live=False, attention=0)
        self.hosts = ["127.0.0.1", "localhost", "edge.local"]
        self._code = code
        self._rooms = rooms
        self._hash_cost = hash_cost  # of passwords; the box's own takes a fifth of a second
        self._ready = threading.Event()

    def __enter__(self) -> "Stand":
        self._folder = tempfile.TemporaryDirectory()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        self._folder.cleanup()

    def do[T](self, doing: Callable[[], Awaitable[T]]) -> T:
        """Run something on the box's own loop and wait for it."""

        async def run() -> T:
            return await doing()

        outcome: Future[T] = asyncio.run_coroutine_threadsafe(run(), self._loop)
        return outcome.result(30)

    def forgive(self) -> None:
        """No try counts against anybody any more; sessions go on."""
        self.access._tries = Tries(self.clock, TRIES_PER_ADDRESS, TRIES_IN_ALL)

    def stop_door(self) -> None:
        """The agent goes away; the page stays."""
        self.do(self._door.close)

    def front(self) -> Front:
        return Front(
            name="edge",
            release="1.2.3",
            supported_until="2031-12-31",
            hosts=self.hosts,
            claimed=False,
            claim_lost=False,
            claim_open_s=0,
            claim_code_needed=False,
            clock_trusted=True,
        )

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        folder = Path(self._folder.name)
        self.access = Access(
            self.documents,
            self.clock,
            self._note,
            marker=folder / "claimed",
            code=self._code,
            hash_cost=self._hash_cost,
        )
        entrance = Entrance(self.access, self.front, self._standing)
        self.agent = folder / "page.sock"
        self._door = await serve_door(
            self.agent, page_application(self.access, entrance, self._rooms), mode=0o600
        )
        listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        page = asyncio.create_task(serve_page(self.agent, [listening], None, self._stop))
        self._ready.set()
        await self._stop.wait()
        await page
        listening.close()
        await self._door.close()

    async def _standing(self) -> Standing:
        return self.standing

    async def _note(self, kind: str, text: str, detail: dict[str, str]) -> None:
        self.events.append((kind, text, detail))
