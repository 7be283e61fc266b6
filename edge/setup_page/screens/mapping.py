"""What leaves the house: one row per sensor, what feeds it, and its live value beside it."""

from fastapi import APIRouter, Request
from starlette.datastructures import FormData
from starlette.responses import Response

from edge.contract.setup import MapRequest, MapRow, MapView, TermView
from edge.errors import Unreachable
from edge.setup_page.agent_link import SaysNo
from edge.setup_page.screens import SignedIn, TheView
from edge.setup_page.screens.flow import step_while_new
from edge.setup_page.view import see_other

router = APIRouter()

SERVER_ANSWERS_WITHIN_S = 60.0  # making thirty sensors on a small server
_FORM_FIELDS_MAX = 5_000  # a few per row, and every channel once
_SUM = "sum:"  # the ident of a row that a person added


@router.get("/map")
async def show(request: Request, view: TheView, who: SignedIn) -> Response:
    found = await view.link.get("/map", MapView, who, SERVER_ANSWERS_WITHIN_S)
    return await _page(request, view, found)


@router.get("/map/values")
async def show_values(request: Request, view: TheView, who: SignedIn) -> Response:
    """Only the live values, for the page to put beside its rows."""
    found = await view.link.get("/map", MapView, who, SERVER_ANSWERS_WITHIN_S)
    piece = view.piece(request, "_map_values.html", map=found)
    return Response(piece, media_type="text/html; charset=utf-8")


@router.post("/map")
async def keep(request: Request, view: TheView, who: SignedIn) -> Response:
    """Keep the rows; sensors that do not exist yet are made."""
    known = await view.link.get("/map", MapView, who, SERVER_ANSWERS_WITHIN_S)
    form = await request.form(max_files=0, max_fields=_FORM_FIELDS_MAX)
    rows = [_row(form, row, known) for row in (*known.rows, *_sums_shown_again(form, known))]
    if (added := _new_row(form, known)) is not None:
        rows.append(added)
    try:
        wanted = MapRequest(rows=rows, twice="twice" in form)
        await view.link.do("PUT", "/map", wanted, who, SERVER_ANSWERS_WITHIN_S)
    except (SaysNo, Unreachable) as problem:
        if isinstance(problem, SaysNo) and problem.status == 401:
            raise
        typed = known.model_copy(update={"rows": rows})
        return await _page(request, view, typed, problem)
    return see_other("/live" if not request.state.standing.live else "/map", "map_kept")


async def _page(
    request: Request, view: TheView, found: MapView, problem: Exception | None = None
) -> Response:
    return await view.page(
        request,
        "map.html",
        200 if problem is None else 422,
        map=found,
        named={channel.key: channel for channel in found.channels},
        problem=problem,
        step=step_while_new(request, 4),
    )


def _row(form: FormData, row: MapRow, known: MapView) -> MapRow:
    """What the person made of a row. A part of the form that did not arrive leaves it as it was."""
    if f"{row.ident}.name" not in form:
        return row
    sensor = str(form.get(f"{row.ident}.sensor", ""))
    return MapRow(
        ident=row.ident,
        name=str(form[f"{row.ident}.name"]).strip()[:200] or row.name,
        send=f"{row.ident}.send" in form,
        sensor_id=int(sensor) if sensor.isdecimal() else None,
        terms=_terms(form, row.ident, known),
    )


def _sums_shown_again(form: FormData, known: MapView) -> list[MapRow]:
    """Sums that were added in a form that was refused: the agent does not know them yet."""
    idents = {row.ident for row in known.rows}
    shown = [key.removesuffix(".name") for key in form if key.startswith(_SUM)]
    return [
        MapRow(ident=ident, name=ident, send=True, sensor_id=None, terms=[])
        for ident in shown
        if ident not in idents and f"{ident}.name" in form
    ]


def _new_row(form: FormData, known: MapView) -> MapRow | None:
    """A sum the person added."""
    name = str(form.get("new.name", "")).strip()
    terms = _terms(form, "new", known)
    if not name or not terms:
        return None
    ident = f"{_SUM}{name}"[:200]
    return MapRow(ident=ident, name=name[:200], send=True, sensor_id=None, terms=terms)


def _terms(form: FormData, ident: str, known: MapView) -> list[TermView]:
    """Each channel that stands with + or − in the row, and the one picked to be added."""
    added = str(form.get(f"{ident}.add", ""))
    chosen = {added[1:]: added[:1]} if added else {}
    for channel in known.channels:
        if sign := str(form.get(f"{ident}.term.{channel.key}", "")):
            chosen[channel.key] = sign
    signs = {"+": 1, "-": -1}
    keys = {channel.key for channel in known.channels}
    return [
        TermView.model_validate({"channel_key": key, "sign": signs[sign]})
        for key, sign in chosen.items()
        if key in keys and sign in signs
    ]
