"""How the box is, in plain words, each with what to do next; and what was not believed or taken."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from edge.contract import Status
from edge.contract.attention import channel_names, lines
from edge.contract.care import EventsView, LogLines
from edge.setup_page.screens.box import short_browser
from edge.setup_page.view import SignedIn, TheView

router = APIRouter()


@router.get("/health")
async def show_health(request: Request, view: TheView, who: SignedIn) -> Response:
    status = await view.link.get("/status", Status, who)
    return await view.page(
        request,
        "health.html",
        status=status,
        lines=lines(status),
        channel_names=channel_names(status),
    )


@router.get("/health/lines")
async def show_lines(request: Request, view: TheView, who: SignedIn) -> Response:
    """Only the lines, to renew them while somebody looks."""
    status = await view.link.get("/status", Status, who)
    piece = view.piece(request, "_lines.html", lines=lines(status))
    return Response(piece, media_type="text/html; charset=utf-8")


@router.get("/events")
async def show_events(request: Request, view: TheView, who: SignedIn) -> Response:
    events = await view.link.get("/events", EventsView, who)
    return await view.page(
        request, "events.html", events=events.events, short_browser=short_browser
    )


@router.get("/log")
async def show_log(request: Request, view: TheView, who: SignedIn) -> Response:
    log = await view.link.get("/log", LogLines, who)
    return await view.page(request, "log.html", lines=log.lines)
