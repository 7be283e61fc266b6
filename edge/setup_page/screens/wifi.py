"""The box's Wi-Fi: networks in reach, joining one, forgetting it."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from pydantic import SecretStr, ValidationError
from starlette.responses import Response

from edge.contract.appliance import WifiRequest, WifiView
from edge.errors import Unreachable
from edge.setup_page.agent_link import SaysNo
from edge.setup_page.screens import SignedIn, TheView
from edge.setup_page.view import see_other

router = APIRouter()

SCANS_WITHIN_S = 40.0
JOINS_WITHIN_S = 110.0  # NetworkManager is given 45 s, and as long again to go back
NO_PASSWORD = SecretStr("")
OTHER = ""  # the choice of a network that is not in the list


@router.get("/wifi")
async def show(request: Request, view: TheView, who: SignedIn) -> Response:
    return await _page(request, view, who)


@router.post("/wifi")
async def join(
    request: Request,
    view: TheView,
    who: SignedIn,
    network: Annotated[str, Form(max_length=100)] = OTHER,
    other: Annotated[str, Form(max_length=100)] = "",
    password: Annotated[SecretStr, Form(max_length=200)] = NO_PASSWORD,
) -> Response:
    chosen = network or other.strip()
    try:
        wanted = WifiRequest(network=chosen, password=password, hidden=not network)
        await view.link.do("POST", "/wifi", wanted, who, JOINS_WITHIN_S)
    except ValidationError:
        return await _page(request, view, who, chosen, SaysNo(422, "wifi_invalid"))
    except Unreachable:
        return await _page(request, view, who, chosen, SaysNo(503, "wifi_silent"))
    except SaysNo as problem:
        if problem.status == 401:
            raise
        return await _page(request, view, who, chosen, problem)
    return see_other("/wifi", "wifi_joined")


@router.post("/wifi/forget")
async def forget(view: TheView, who: SignedIn) -> Response:
    await view.link.do("DELETE", "/wifi", None, who, SCANS_WITHIN_S)
    return see_other("/wifi", "wifi_forgotten")


async def _page(
    request: Request, view: TheView, who: SignedIn, chosen: str = "", problem: SaysNo | None = None
) -> Response:
    wifi = await view.link.get("/wifi", WifiView, who, SCANS_WITHIN_S)
    code = 200 if problem is None else 422
    return await view.page(request, "wifi.html", code, wifi=wifi, chosen=chosen, problem=problem)
