"""The account the readings go to: log in, choose or make the site, later change or leave it."""

import contextlib
import re
from typing import Annotated

from fastapi import APIRouter, Form, Request
from pydantic import SecretStr
from starlette.responses import Response

from edge.contract.setup import (
    Account,
    AccountRequest,
    HouseholdRequest,
    PairingView,
    SiteRequest,
)
from edge.errors import Unreachable
from edge.setup_page.agent_link import SaysNo
from edge.setup_page.screens import SignedIn, TheView
from edge.setup_page.screens.flow import step_while_new
from edge.setup_page.view import see_other

router = APIRouter()

SERVER_ANSWERS_WITHIN_S = 40.0  # a small server may take its time over a first log-in

_NONE: list[str] = []

# Under which field of the form a refusal is shown.
_FIELD_OF = {
    "fm_no_host": "url",
    "fm_bad_address": "url",
    "fm_unreachable": "url",
    "fm_not_flexmeasures": "url",
    "fm_unsupported_version": "url",
    "fm_private_address": "url",
    "fm_refused_address": "url",
    "fm_certificate": "url",
    "fm_unknown_user": "email",
    "fm_wrong_password": "password",
    "fm_no_rights": "email",
}


@router.get("/flexmeasures")
async def show(request: Request, view: TheView, who: SignedIn, again: bool = False) -> Response:
    """The account form, the choice of site, or what the box is paired with."""
    pairing = await view.link.get("/flexmeasures", PairingView, who)
    if pairing.account is not None and not again:
        return await _sites(request, view, pairing.account)
    if pairing.status.paired and not again:
        return await view.page(
            request, "flexmeasures_paired.html", pairing=pairing, step=step_while_new(request, 2)
        )
    return await _form(request, view)


@router.post("/flexmeasures")
async def log_in(
    request: Request,
    view: TheView,
    who: SignedIn,
    url: Annotated[str, Form(max_length=200)],
    email: Annotated[str, Form(max_length=200)],
    password: Annotated[SecretStr, Form(max_length=500)],
    allow_private: Annotated[bool, Form()] = False,
) -> Response:
    wanted = AccountRequest(
        url=url.strip(), email=email.strip(), password=password, allow_private=allow_private
    )
    try:
        await view.link.send(
            "POST", "/flexmeasures/look", wanted, Account, who, SERVER_ANSWERS_WITHIN_S
        )
    except SaysNo as problem:
        if problem.status == 401:
            raise
        typed = wanted.model_copy(
            update={"url": _without_secrets(wanted.url), "password": SecretStr("")}
        )
        return await _form(request, view, typed, problem)
    return see_other("/flexmeasures")


@router.post("/flexmeasures/site")
async def choose_site(
    request: Request,
    view: TheView,
    who: SignedIn,
    site: Annotated[str, Form(max_length=20)],
    name: Annotated[str, Form(max_length=200)] = "",
    adopt: Annotated[list[str], Form()] = _NONE,
    browser_zone: Annotated[str, Form(max_length=60)] = "",
) -> Response:
    """Pair: `site` is an asset's number, or "new" together with a name."""
    asset_id = int(site) if site.isdecimal() else None
    wanted = SiteRequest(
        asset_id=asset_id,
        name=None if asset_id else name.strip(),
        adopt=asset_id is not None and str(asset_id) in adopt,
    )
    try:
        await view.link.do("POST", "/flexmeasures/site", wanted, who, SERVER_ANSWERS_WITHIN_S)
    except SaysNo as problem:
        if problem.status == 401:
            raise
        pairing = await view.link.get("/flexmeasures", PairingView, who)
        if pairing.account is None:
            return await _form(request, view, None, problem)
        return await _sites(request, view, pairing.account, wanted, problem)
    except Unreachable:
        return see_other("/flexmeasures", "try_again")
    if browser_zone:  # the house most likely stands where its browser is
        zone = HouseholdRequest(timezone=browser_zone, only_if_none=True)
        with contextlib.suppress(SaysNo):  # a zone the box does not know: a person may choose one
            await view.link.do("PUT", "/household", zone, who)
    return see_other("/meters", "paired")


@router.post("/flexmeasures/leave")
async def leave(view: TheView, who: SignedIn) -> Response:
    """Forget the account. What was sent stays there; what waits stays here."""
    await view.link.do("DELETE", "/flexmeasures", None, who)
    return see_other("/flexmeasures", "left")


def _without_secrets(url: str) -> str:
    """The address to show once more: without what was typed before an @ or behind a ? or #."""
    scheme, separator, rest = url.rpartition("://")
    return scheme + separator + re.split(r"[?#]", rest)[0].rpartition("@")[2]


async def _form(
    request: Request,
    view: TheView,
    typed: AccountRequest | None = None,
    problem: SaysNo | None = None,
) -> Response:
    return await view.page(
        request,
        "flexmeasures.html",
        200 if problem is None else 422,
        typed=typed,
        problem=problem,
        field=_FIELD_OF.get(problem.code) if problem else None,
        step=step_while_new(request, 2),
    )


async def _sites(
    request: Request,
    view: TheView,
    account: Account,
    chosen: SiteRequest | None = None,
    problem: SaysNo | None = None,
) -> Response:
    """What was chosen stands; a refusal that is about one site's tick is shown beside it."""
    return await view.page(
        request,
        "flexmeasures_site.html",
        200 if problem is None else 422,
        account=account,
        chosen=chosen,
        problem=problem,
        beside_tick=problem is not None and problem.code == "fm_box_lives",
        step=step_while_new(request, 2),
    )
