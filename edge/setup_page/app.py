"""Puts the page together: guard, screens, and what is said when something is refused."""

from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response

from edge.errors import Malformed, Unreachable
from edge.setup_page.agent_link import AgentLink, SaysNo
from edge.setup_page.assets import Assets
from edge.setup_page.fronts import Fronts
from edge.setup_page.guard import Guard
from edge.setup_page.screens import (
    box,
    control,
    entrance,
    flexmeasures,
    health,
    live,
    mapping,
    meters,
    network,
    updates,
    wifi,
)
from edge.setup_page.view import View, drop_session, see_other, view_of, words_for

_COMPRESS_FROM_BYTES = 700
_SCREENS = (
    entrance,
    live,
    flexmeasures,
    meters,
    network,
    mapping,
    health,
    box,
    control,
    updates,
    wifi,
)


def build(socket: Path, https_port: int | None = None) -> FastAPI:
    """The page for the agent behind `socket`; `https_port` is where it is served encrypted."""
    link = AgentLink(socket)
    fronts = Fronts(link)
    assets = Assets()
    # No schema, no interactive documentation: nothing a visitor needs.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.view = View(link, fronts, assets, https_port)
    app.add_middleware(GZipMiddleware, minimum_size=_COMPRESS_FROM_BYTES, compresslevel=5)
    app.add_middleware(Guard, is_ours=fronts.is_ours)
    app.add_exception_handler(SaysNo, _refused)
    app.add_exception_handler(Unreachable, _away)
    app.add_exception_handler(Malformed, _away)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ValidationError, _unfit)
    app.add_exception_handler(HTTPException, _http)
    app.add_route("/static/{name}", assets.serve, methods=["GET"])
    for screen in _SCREENS:
        app.include_router(screen.router)
    return app


async def _refused(request: Request, problem: Exception) -> Response:
    """Log in first, or a page that says why not."""
    assert isinstance(problem, SaysNo)  # noqa: S101 # registered for it alone
    if problem.status == 401:
        if request.headers.get("hx-request"):
            response = Response(status_code=401, headers={"hx-redirect": "/log-in"})
        elif request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            response = see_other("/log-in")
        else:
            response = await _problem_page(request, problem.code, 401)
        drop_session(response, request)
        return response
    return await _problem_page(request, problem.code, problem.status, problem.text)


async def _away(request: Request, _: Exception) -> Response:
    """The agent starts or hangs: the page tries again by itself."""
    if request.headers.get("hx-request"):  # a part of a page: it keeps what it shows
        return Response(status_code=503, headers={"retry-after": "5", "hx-reswap": "none"})
    piece = view_of(request).piece(request, "away.html")
    return Response(piece, 503, {"retry-after": "5"}, media_type="text/html; charset=utf-8")


async def _invalid(request: Request, problem: Exception) -> Response:
    """Names the fields that were wrong, never what stood in them."""
    assert isinstance(problem, RequestValidationError)  # noqa: S101 # registered for it alone
    fields = sorted({str(error["loc"][-1]) for error in problem.errors()})
    return await _problem_page(request, "invalid", 422, ", ".join(fields)[:200])


async def _unfit(request: Request, _: Exception) -> Response:
    """A form that fits no message. Neither page nor log repeats what stood in it."""
    return await _problem_page(request, "invalid", 422)


async def _http(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)  # noqa: S101 # registered for it alone
    code = "not_found" if problem.status_code == 404 else "not_possible"
    return await _problem_page(request, code, problem.status_code)


async def _problem_page(request: Request, code: str, status: int, text: str = "") -> Response:
    words = words_for(request)
    said = words.sentence(text) or text
    explained = words.first(f"problem.{code}", otherwise=said or words("problem.fault"))
    if request.headers.get("hx-request"):
        piece = view_of(request).piece(request, "_problem.html", text=explained)
        return Response(piece, status, media_type="text/html; charset=utf-8")
    return await view_of(request).page(request, "problem.html", status, text=explained, detail=said)
