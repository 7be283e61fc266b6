"""Now: power and energy of today, what waits, and what FlexMeasures accepted last."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.responses import JSONResponse, Response

from edge.contract.care import LiveView, Series
from edge.errors import EdgeError
from edge.setup_page.agent_link import part
from edge.setup_page.screens import SignedIn, TheView
from edge.setup_page.screens.flow import next_step
from edge.setup_page.screens.network import under_way
from edge.setup_page.view import see_other

router = APIRouter()

EVERY_S = 2.0


@router.get("/")
async def start(request: Request, view: TheView, who: SignedIn) -> Response:
    """Where the set-up goes on, or what is live."""
    standing = request.state.standing
    if not standing.live:
        task = await under_way(view, who) if standing.paired else None
        waits_for_somebody = task is not None and task.waits_for in ("button", "grant", "pin")
        return see_other("/network" if waits_for_somebody else next_step(standing))
    return await _page(request, view, who, None)


@router.get("/live")
async def show(request: Request, view: TheView, who: SignedIn) -> Response:
    """The last step of the set-up."""
    return await _page(request, view, who, None if request.state.standing.live else 5)


@router.get("/live/events", response_class=EventSourceResponse)
async def follow(request: Request, view: TheView, who: SignedIn) -> AsyncIterator[ServerSentEvent]:
    """The live part of the page, every two seconds while somebody looks."""
    while not await request.is_disconnected():
        try:
            live = await view.link.get("/live", LiveView, who)
            yield ServerSentEvent(raw_data=view.piece(request, "_live.html", live=live))
        except EdgeError:
            yield ServerSentEvent(comment="the agent is away")
        await asyncio.sleep(EVERY_S)


@router.get("/live/series/{ident:path}")
async def series(view: TheView, who: SignedIn, ident: str) -> Response:
    """What was sent of one row during the last day, for its chart."""
    found = await view.link.get("/live/series/" + part(ident), Series, who)
    return JSONResponse(found.model_dump(mode="json"))


async def _page(request: Request, view: TheView, who: SignedIn, step: int | None) -> Response:
    live = await view.link.get("/live", LiveView, who)
    return await view.page(request, "live.html", live=live, step=step)
