"""The device families in one frame: what is in use, what could be, and every device there is."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from pydantic import SecretStr
from starlette.responses import Response

from edge.contract.setup import FamilyFound, FamilyRequest, FamilyView, MetersView
from edge.errors import Unreachable
from edge.setup_page.agent_link import SaysNo, part
from edge.setup_page.screens import SignedIn, TheView
from edge.setup_page.screens.flow import step_while_new
from edge.setup_page.screens.network import under_way
from edge.setup_page.view import see_other

router = APIRouter()

LOOKS_WITHIN_S = 60.0  # a cloud of somebody else, asked for a week of data
_SECRET = "secret."  # noqa: S105 # how the form marks what belongs among the credentials
_CHOSEN = "chosen."
_FORM_FIELDS_MAX = 400  # Home Assistant may show a few hundred statistics to choose from


@router.get("/meters")
async def show(request: Request, view: TheView, who: SignedIn) -> Response:
    meters = await view.link.get("/meters", MetersView, who)
    return await view.page(
        request,
        "meters.html",
        meters=meters,
        task=await under_way(view, who),
        step=step_while_new(request, 3),
    )


@router.get("/meters/family/{name}")
async def show_family(request: Request, view: TheView, who: SignedIn, name: str) -> Response:
    """What a family needs to know of its person."""
    return await _family(request, view, await _find(view, who, name), {})


@router.post("/meters/family/{name}")
async def look(request: Request, view: TheView, who: SignedIn, name: str) -> Response:
    """Try what was entered; show what was found, to be kept with one more touch."""
    family = await _find(view, who, name)
    wanted = await _entered(request)
    keeping = "keep" in (await request.form())
    ticked = {f.name: wanted.chosen[f.name][0] for f in family.fields if wanted.chosen.get(f.name)}
    typed = wanted.values | ticked
    try:
        if keeping:
            await view.link.do("PUT", f"/families/{part(name)}", wanted, who, LOOKS_WITHIN_S)
            return see_other("/meters", "family_kept")
        found = await view.link.send(
            "POST", f"/families/{part(name)}/check", wanted, FamilyFound, who, LOOKS_WITHIN_S
        )
    except (SaysNo, Unreachable) as problem:
        if isinstance(problem, SaysNo) and problem.status == 401:
            raise
        return await _family(request, view, family, typed, problem=problem)
    return await _family(request, view, family, typed, found=found)


@router.post("/meters/family/{name}/leave")
async def leave(view: TheView, who: SignedIn, name: str) -> Response:
    await view.link.do("DELETE", f"/families/{part(name)}", None, who)
    return see_other("/meters", "family_left")


async def _find(view: TheView, who: SignedIn, name: str) -> FamilyView:
    meters = await view.link.get("/meters", MetersView, who)
    for family in meters.families:
        if family.family == name:
            return family
    raise SaysNo(404, "not_found")


async def _entered(request: Request) -> FamilyRequest:
    """The form's fields, sorted into answers, secrets and what was ticked among things found."""
    form = await request.form(max_files=0, max_fields=_FORM_FIELDS_MAX)
    values: dict[str, str] = {}
    secrets: dict[str, SecretStr] = {}
    chosen: dict[str, list[str]] = {}
    for key, value in form.multi_items():
        text = str(value)
        if key.startswith(_SECRET):
            if text:
                secrets[key.removeprefix(_SECRET)] = SecretStr(text)
        elif key.startswith(_CHOSEN):
            chosen.setdefault(key.removeprefix(_CHOSEN), []).append(text)
        elif key != "keep":
            values[key] = text
    return FamilyRequest(values=values, secrets=secrets, chosen=chosen)


def missing_fields(family: FamilyView, problem: Exception | None) -> list[str]:
    """Which of the family's answers the agent misses, in the words of edge/family.py."""
    said = getattr(problem, "text", "").split("; ")
    return [f.name for f in family.fields if f"{family.family}: {f.name} is missing" in said]


async def _family(
    request: Request,
    view: TheView,
    family: FamilyView,
    typed: dict[str, str],
    *,
    found: FamilyFound | None = None,
    problem: Exception | None = None,
) -> Response:
    return await view.page(
        request,
        "family.html",
        200 if problem is None else 422,
        family=family,
        typed=typed,
        found=found,
        missing=missing_fields(family, problem),
        problem=problem,
        step=step_while_new(request, 3),
    )


type Text = Annotated[str, Form(max_length=200)]
