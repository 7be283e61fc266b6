"""Switching: per device what it does now and next, why, until when and by whose wish."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from pydantic import ValidationError
from starlette.responses import JSONResponse, Response

from edge.contract.control import (
    ControlHistory,
    ControlledDevice,
    ControlRequest,
    ControlView,
    HandRequest,
    PlanSeries,
    Stretch,
)
from edge.errors import Unreachable
from edge.setup_page.agent_link import SaysNo, part
from edge.setup_page.view import SignedIn, TheView, see_other

router = APIRouter()

SWITCHES_WITHIN_S = 30.0

type Key = Annotated[str, Form(max_length=200)]


@router.get("/control")
async def show(request: Request, view: TheView, who: SignedIn) -> Response:
    control = await view.link.get("/control", ControlView, who)
    history = await view.link.get("/control/history", ControlHistory, who)
    return await view.page(request, "control.html", control=control, history=history.commands)


@router.get("/control/now")
async def show_now(request: Request, view: TheView, who: SignedIn) -> Response:
    """Only what changes by itself."""
    control = await view.link.get("/control", ControlView, who)
    piece = view.piece(request, "_control.html", control=control)
    return Response(piece, media_type="text/html; charset=utf-8")


@router.get("/control/plan/{device:path}")
async def plan(view: TheView, who: SignedIn, device: str) -> Response:
    found = await view.link.get(f"/control/plan/{part(device)}", PlanSeries, who)
    return JSONResponse(found.model_dump(mode="json"))


@router.post("/control/hand")
async def take_in_hand(
    view: TheView, who: SignedIn, device: Key, minutes: Annotated[int, Form(ge=0, le=60)]
) -> Response:
    """Switch off for a while, or give it back."""
    try:
        wanted = HandRequest.model_validate({"device": device, "minutes": minutes})
    except ValidationError:
        raise SaysNo(422, "invalid") from None
    await view.link.do("POST", "/control/hand", wanted, who, SWITCHES_WITHIN_S)
    return see_other("/control", "hand_taken" if minutes else "hand_given_back")


@router.get("/control/device/{device:path}")
async def show_device(request: Request, view: TheView, who: SignedIn, device: str) -> Response:
    return await _device(request, view, await _find(view, who, device))


@router.post("/control/device/{device:path}")
async def keep_device(request: Request, view: TheView, who: SignedIn, device: str) -> Response:
    """How far the box may go with this switch."""
    known = await _find(view, who, device)
    form = await request.form(max_files=0, max_fields=40)
    starts, ends = form.getlist("from"), form.getlist("to")
    try:
        wanted = ControlRequest.model_validate(
            {
                "device": device,
                "is_used": "is_used" in form,
                "consent": "consent" in form,
                "nominal_power_w": form.get("nominal_power_w", ""),
                "away_longest_min": form.get("away_longest_min", ""),
                "rest_shortest_min": form.get("rest_shortest_min", ""),
                "normal_on": known.normal_on,
                "off_power_w": known.off_power_w,
                "left_alone": [
                    Stretch(start=str(start), end=str(end))
                    for start, end in zip(starts, ends, strict=False)
                    if start and end
                ],
            }
        )
        await view.link.do("PUT", "/control/device", wanted, who)
    except ValidationError:
        return await _device(request, view, known, SaysNo(422, "invalid"))
    except (SaysNo, Unreachable) as problem:
        if isinstance(problem, SaysNo) and problem.status == 401:
            raise
        return await _device(request, view, known, problem)
    return see_other("/control", "control_kept")


async def _find(view: TheView, who: SignedIn, key: str) -> ControlledDevice:
    control = await view.link.get("/control", ControlView, who)
    for device in control.devices:
        if device.key == key:
            return device
    raise SaysNo(404, "not_found")


async def _device(
    request: Request, view: TheView, device: ControlledDevice, problem: Exception | None = None
) -> Response:
    code = 200 if problem is None else 422
    return await view.page(request, "control_device.html", code, device=device, problem=problem)
