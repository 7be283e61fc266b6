"""The system of the box: what runs and how long it is looked after, and newer ones."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from edge.contract.appliance import NightlyRequest, UpdatesView
from edge.setup_page.agent_link import SaysNo
from edge.setup_page.screens import SignedIn, TheView
from edge.setup_page.view import see_other

router = APIRouter()


@router.get("/updates")
async def show(request: Request, view: TheView, who: SignedIn) -> Response:
    updates = await view.link.get("/updates", UpdatesView, who)
    return await view.page(request, "updates.html", updates=updates, problem=None)


@router.get("/updates/now")
async def show_now(request: Request, view: TheView, who: SignedIn) -> Response:
    """Only what changes by itself."""
    updates = await view.link.get("/updates", UpdatesView, who)
    piece = view.piece(request, "_updates.html", updates=updates)
    return Response(piece, media_type="text/html; charset=utf-8")


@router.post("/updates/bundle")
async def receive(request: Request, view: TheView, who: SignedIn) -> Response:
    """A bundle as the whole body, sent by page.js; it is passed on and held nowhere."""
    announced = request.headers.get("content-length", "")
    if not announced.isdecimal():
        raise SaysNo(411, "invalid")
    pieces = request.stream()
    try:
        await view.link.stream("/updates/bundle", pieces, int(announced), who)
    except SaysNo:
        async for _ in pieces:  # a browser hears no answer before it has sent everything
            pass
        raise
    return Response(status_code=204)


@router.post("/updates/usb")
async def from_drive(request: Request, view: TheView, who: SignedIn) -> Response:
    try:
        await view.link.do("POST", "/updates/usb", None, who)
    except SaysNo as problem:
        if problem.status == 401:
            raise
        updates = await view.link.get("/updates", UpdatesView, who)
        return await view.page(request, "updates.html", 422, updates=updates, problem=problem)
    return see_other("/updates", "update_looked_for")


@router.post("/updates/nightly")
async def choose_nightly(request: Request, view: TheView, who: SignedIn) -> Response:
    """Install newer systems at night, or not."""
    wanted = NightlyRequest(on="on" in await request.form(max_files=0, max_fields=4))
    await view.link.do("PUT", "/updates/nightly", wanted, who)
    return see_other("/updates", "nightly_kept")
