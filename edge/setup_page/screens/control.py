"""Switching: per device what it does now and next, why, until when and by whose wish."""

from functools import cache
from typing import Annotated
from zoneinfo import available_timezones

from fastapi import APIRouter, Form, Request
from pydantic import ValidationError
from starlette.datastructures import FormData
from starlette.responses import JSONResponse, Response

from edge.contract.control import (
    ControlHistory,
    ControlledDevice,
    ControlRequest,
    ControlView,
    HandRequest,
    LeaseRequest,
    PlanSeries,
    PricesView,
    Stretch,
    TriggerRequest,
)
from edge.contract.setup import HouseholdRequest, HouseholdView
from edge.errors import Unreachable
from edge.setup_page.agent_link import SaysNo, part
from edge.setup_page.screens import SignedIn, TheView
from edge.setup_page.view import see_other

router = APIRouter()

SWITCHES_WITHIN_S = 30.0
SERVER_ANSWERS_WITHIN_S = 40.0

type Key = Annotated[str, Form(max_length=200)]


@router.get("/control")
async def show(request: Request, view: TheView, who: SignedIn) -> Response:
    control = await view.link.get("/control", ControlView, who)
    history = await view.link.get("/control/history", ControlHistory, who)
    return await view.page(request, "control.html", control=control, history=history.commands)


@router.get("/control/now")
async def show_now(
    request: Request, view: TheView, who: SignedIn, device: str | None = None
) -> Response:
    """Only what changes by itself, of all devices or of one."""
    control = await view.link.get("/control", ControlView, who)
    if device is None:
        piece = view.piece(request, "_control.html", control=control)
    else:
        found = _one(control, device)
        piece = view.piece(request, "_control_device.html", device=found, alone=True)
    return Response(piece, media_type="text/html; charset=utf-8")


@router.get("/control/plan/{device:path}")
async def plan(view: TheView, who: SignedIn, device: str) -> Response:
    found = await view.link.get(f"/control/plan/{part(device)}", PlanSeries, who)
    return JSONResponse(found.model_dump(mode="json"))


@router.post("/control/hand")
async def take_in_hand(
    view: TheView,
    who: SignedIn,
    device: Key,
    minutes: Annotated[int, Form(ge=0, le=60)],
    keep: Annotated[bool, Form()] = False,
) -> Response:
    """Switch it for a while, `keep` it in its normal state for so long, or give it back."""
    try:
        wanted = HandRequest.model_validate(
            {"device": device, "minutes": minutes, "away": not keep}
        )
    except ValidationError:
        raise SaysNo(422, "invalid") from None
    await view.link.do("POST", "/control/hand", wanted, who, SWITCHES_WITHIN_S)
    if not minutes:
        return see_other("/control", "hand_given_back")
    return see_other("/control", "hand_kept" if keep else "hand_taken")


@router.get("/control/device/{device:path}")
async def show_device(request: Request, view: TheView, who: SignedIn, device: str) -> Response:
    """One device: now, its day's plan, what was switched, and how far the box may go."""
    return await _device(request, view, who, device)


@router.post("/control/device/{device:path}")
async def keep_device(request: Request, view: TheView, who: SignedIn, device: str) -> Response:
    """How far the box may go with this switch."""
    form = await request.form(max_files=0, max_fields=40)
    try:
        await view.link.do("PUT", "/control/device", _rules(device, form), who)
    except ValidationError as problem:
        return await _device(request, view, who, device, _fault(problem))
    except (SaysNo, Unreachable) as problem:
        if isinstance(problem, SaysNo) and problem.status == 401:
            raise
        return await _device(request, view, who, device, problem)
    return see_other(f"/control/device/{part(device)}", "control_kept")


@router.get("/control/settings")
async def show_settings(request: Request, view: TheView, who: SignedIn) -> Response:
    """What holds for every device: schedules of its own, the lease, the time zone."""
    return await _settings(request, view, who)


@router.post("/control/schedules")
async def keep_schedules(request: Request, view: TheView, who: SignedIn) -> Response:
    """Whether the box asks for schedules itself, and how."""
    form = await request.form(max_files=0, max_fields=10)
    try:
        if "on" not in form:
            await view.link.do("DELETE", "/control/schedules", None, who)
            return see_other("/control/settings", "schedules_off")
        wanted = TriggerRequest.model_validate(
            {
                name: str(form.get(name, "")).replace(",", ".")
                for name in TriggerRequest.model_fields
            }
        )
        await view.link.do("PUT", "/control/schedules", wanted, who)
    except ValidationError as problem:
        return await _settings(request, view, who, _fault(problem), at="schedules")
    except SaysNo as problem:
        if problem.status == 401:
            raise
        return await _settings(request, view, who, problem, at="schedules")
    return see_other("/control/settings", "schedules_on")


@router.post("/control/lease")
async def keep_lease(
    request: Request, view: TheView, who: SignedIn, minutes: Annotated[int, Form()]
) -> Response:
    try:
        await view.link.do("PUT", "/control/lease", LeaseRequest(minutes=minutes), who)
    except ValidationError as problem:
        return await _settings(request, view, who, _fault(problem), at="lease")
    return see_other("/control/settings", "control_kept")


@router.post("/control/timezone")
async def keep_timezone(
    request: Request,
    view: TheView,
    who: SignedIn,
    timezone: Annotated[str, Form(min_length=1, max_length=60)],
) -> Response:
    try:
        await view.link.do("PUT", "/household", HouseholdRequest(timezone=timezone), who)
    except SaysNo as problem:
        if problem.status == 401:
            raise
        return await _settings(request, view, who, problem, at="timezone")
    return see_other("/control/settings", "control_kept")


def _rules(device: str, form: FormData) -> ControlRequest:
    """Raises ValidationError."""
    starts, ends = form.getlist("from"), form.getlist("to")
    stretches = zip(starts, ends, strict=False)
    numbers = ("nominal_power_w", "off_power_w", "away_longest_min", "rest_shortest_min")
    return ControlRequest.model_validate(
        {
            "device": device,
            "is_used": "is_used" in form,
            "consent": "consent" in form,
            "normal_on": form.get("normal_on", "yes") != "no",
            "left_alone": [
                Stretch(start=str(start), end=str(end)) for start, end in stretches if start and end
            ],
            **{name: str(form.get(name, "")).replace(",", ".") for name in numbers},
        }
    )


def _fault(problem: ValidationError) -> SaysNo:
    """Names the field that cannot be, never what stood in it."""
    field = str(problem.errors()[0]["loc"][0]) if problem.errors()[0]["loc"] else ""
    return SaysNo(422, f"field.{field}")


def _one(control: ControlView, key: str) -> ControlledDevice:
    for device in control.devices:
        if device.key == key:
            return device
    raise SaysNo(404, "not_found")


async def _device(
    request: Request,
    view: TheView,
    who: SignedIn,
    key: str,
    problem: Exception | None = None,
) -> Response:
    control = await view.link.get("/control", ControlView, who)
    history = await view.link.get("/control/history", ControlHistory, who)
    household = await view.link.get("/household", HouseholdView, who)
    return await view.page(
        request,
        "control_device.html",
        200 if problem is None else 422,
        device=_one(control, key),
        history=[command for command in history.commands if command.device == key],
        household=household,
        problem=problem,
    )


async def _settings(
    request: Request,
    view: TheView,
    who: SignedIn,
    problem: SaysNo | None = None,
    at: str = "",
) -> Response:
    control = await view.link.get("/control", ControlView, who)
    household = await view.link.get("/household", HouseholdView, who)
    no_prices: Exception | None = None
    try:
        prices = await view.link.get(
            "/flexmeasures/prices", PricesView, who, SERVER_ANSWERS_WITHIN_S
        )
    except (SaysNo, Unreachable) as away:
        if isinstance(away, SaysNo) and away.status == 401:
            raise
        prices, no_prices = PricesView(sensors=[]), away
    return await view.page(
        request,
        "control_settings.html",
        200 if problem is None else 422,
        control=control,
        prices=prices.sensors,
        no_prices=no_prices,
        household=household,
        zones=_zones(household.timezone),
        problem=problem,
        at=at,
    )


def _zones(chosen: str) -> dict[str, list[str]]:
    """Places by continent: what people know their zone by."""
    found: dict[str, list[str]] = {}
    for zone in sorted({*_places(), chosen}):
        found.setdefault(zone.partition("/")[0], []).append(zone)
    return found


@cache
def _places() -> frozenset[str]:
    """Looks at some hundred files: once is enough."""
    return frozenset(
        zone for zone in available_timezones() if zone.partition("/")[0] in _CONTINENTS
    )


_CONTINENTS = frozenset(
    {
        "Africa",
        "America",
        "Antarctica",
        "Arctic",
        "Asia",
        "Atlantic",
        "Australia",
        "Europe",
        "Indian",
        "Pacific",
    }
)
