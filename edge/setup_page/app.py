"""The page as a whole: what is shown to anybody, and behind it the screens for who is logged in.

A box that starts shows claim or log-in first, and has the least time then: these need no FastAPI.
The screens, which do, are read in once the first page was answered or somebody asks for more.
"""

import asyncio
from contextlib import suppress
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from edge.setup_page.agent_link import AgentLink, SaysNo
from edge.setup_page.assets import Assets
from edge.setup_page.doorstep import Doorstep
from edge.setup_page.fronts import Fronts
from edge.setup_page.guard import Guard
from edge.setup_page.refusals import REFUSALS
from edge.setup_page.view import View, caller

_COMPRESS_FROM_BYTES = 700
_STYLE_WITHIN_S = 2.0  # the first page's style and script go first


class Screens:
    """The screens, read in beside the loop: whoever asks meanwhile waits for their own answer."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._somebody_came = asyncio.Event()
        self._wanted = asyncio.Event()
        self._ready = asyncio.Event()

    async def expect(self) -> None:
        """Somebody is there, who will ask for them soon."""
        self._somebody_came.set()

    async def read_in(self) -> None:
        """Wait until somebody wants them or soon will, and read them in."""
        await self._somebody_came.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wanted.wait(), _STYLE_WITHIN_S)
        self._app: ASGIApp = await asyncio.to_thread(self._built)
        self._ready.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises SaysNo for who comes in without a session, and Unreachable without waiting."""
        if scope["path"] == "/" and not caller(Request(scope)).session:
            raise SaysNo(401, "log_in_first")
        if not self._ready.is_set():
            self._somebody_came.set()
            self._wanted.set()
            await self._view.fronts.current()
            await self._ready.wait()
        await self._app(scope, receive, send)

    def _built(self) -> ASGIApp:
        from edge.light import import_fastapi

        import_fastapi()
        from edge.setup_page.indoors import furnish

        return furnish(self._view)


def build(socket: Path, https_port: int | None = None) -> tuple[Starlette, Screens]:
    """The page for the agent behind `socket`, and what is to be read in beside it; `https_port` is
    where it is served encrypted."""
    link = AgentLink(socket)
    fronts = Fronts(link)
    assets = Assets()
    view = View(link, fronts, assets, https_port)
    screens = Screens(view)
    doorstep = Doorstep(screens.expect)
    app = Starlette(
        routes=[
            Route("/static/{name}", assets.serve),
            Route("/claim", doorstep.claim, methods=["GET"]),
            Route("/log-in", doorstep.log_in, methods=["GET"]),
            Mount("/", screens),
        ],
        middleware=[
            Middleware(Guard, is_ours=fronts.is_ours),
            Middleware(GZipMiddleware, minimum_size=_COMPRESS_FROM_BYTES, compresslevel=5),
        ],
        exception_handlers=REFUSALS,
    )
    app.state.view = view
    return app, screens
