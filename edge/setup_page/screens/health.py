"""How the box is, in plain words, each with what to do next; and what was not believed or taken."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from edge.contract import Status
from edge.contract.attention import channel_names, lines
from edge.contract.care import EventsView, EventView, LogLines
from edge.contract.control import ControlHistory
from edge.setup_page.agent_link import Caller, SaysNo
from edge.setup_page.screens import SignedIn, TheView
from edge.setup_page.screens.box import short_browser
from edge.setup_page.view import View

router = APIRouter()

EVENTS_SHOWN = 100


@router.get("/health")
async def show_health(request: Request, view: TheView, who: SignedIn) -> Response:
    status = await view.link.get("/status", Status, who)
    return await view.page(
        request,
        "health.html",
        status=status,
        lines=lines(status),
        channel_names=channel_names(status),
        units={channel.key: channel.unit for channel in status.channels},
    )


@router.get("/health/lines")
async def show_lines(request: Request, view: TheView, who: SignedIn) -> Response:
    """Only the lines, to renew them while somebody looks."""
    status = await view.link.get("/status", Status, who)
    piece = view.piece(request, "_lines.html", lines=lines(status))
    return Response(piece, media_type="text/html; charset=utf-8")


@router.get("/events")
async def show_events(request: Request, view: TheView, who: SignedIn) -> Response:
    events = (await view.link.get("/events", EventsView, who)).events
    events += await _switched(view, who)
    return await view.page(
        request,
        "events.html",
        events=sorted(events, key=lambda event: event.at, reverse=True)[:EVENTS_SHOWN],
        short_browser=short_browser,
    )


async def _switched(view: View, who: Caller) -> list[EventView]:
    """What was switched, and by whom: it has a history of its own."""
    try:
        history = await view.link.get("/control/history", ControlHistory, who)
    except SaysNo:
        return []  # the card gives no history; health says so
    return [
        EventView(
            at=command.at,
            kind="command",
            text="",
            detail={"device": command.name, "origin": command.origin},
        )
        for command in history.commands
    ]


@router.get("/log")
async def show_log(request: Request, view: TheView, who: SignedIn) -> Response:
    log = await view.link.get("/log", LogLines, who)
    return await view.page(request, "log.html", lines=log.lines)
