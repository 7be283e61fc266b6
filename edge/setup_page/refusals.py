"""What is said when something is refused, or when the agent is away."""

from typing import Final

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ExceptionHandler

from edge.errors import Malformed, Unreachable
from edge.setup_page.agent_link import SaysNo
from edge.setup_page.view import drop_session, see_other, view_of, words_for

_RETRY = {"retry-after": "2"}  # mostly the agent starts, and is there in a moment


async def problem_page(request: Request, code: str, status: int, text: str = "") -> Response:
    """`code` is for the catalogue, `text` the agent's own words."""
    words = words_for(request)
    said = words.sentence(text) or text
    explained = words.first(f"problem.{code}", otherwise=said or words("problem.fault"))
    if request.headers.get("hx-request"):
        piece = view_of(request).piece(request, "_problem.html", text=explained)
        return HTMLResponse(piece, status)
    return await view_of(request).page(request, "problem.html", status, text=explained, detail=said)


async def _refused(request: Request, problem: Exception) -> Response:
    """Log in first, or a page that says why not."""
    assert isinstance(problem, SaysNo)  # noqa: S101 # registered for it alone
    if problem.status == 401:
        if request.headers.get("hx-request"):
            response = Response(status_code=401, headers={"hx-redirect": "/log-in"})
        elif request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            response = see_other("/log-in")
        else:
            response = await problem_page(request, problem.code, 401)
        drop_session(response, request)
        return response
    return await problem_page(request, problem.code, problem.status, problem.text)


async def _away(request: Request, _: Exception) -> Response:
    """The agent starts or hangs: the page tries again by itself."""
    if request.headers.get("hx-request"):  # a part of a page: it keeps what it shows
        return Response(status_code=503, headers={**_RETRY, "hx-reswap": "none"})
    return HTMLResponse(view_of(request).piece(request, "away.html"), 503, _RETRY)


async def _unfit(request: Request, _: Exception) -> Response:
    """A form that fits no message. Neither page nor log repeats what stood in it."""
    return await problem_page(request, "invalid", 422)


async def _http(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)  # noqa: S101 # registered for it alone
    code = "not_found" if problem.status_code == 404 else "not_possible"
    return await problem_page(request, code, problem.status_code)


REFUSALS: Final[dict[type[Exception], ExceptionHandler]] = {
    SaysNo: _refused,
    Unreachable: _away,
    Malformed: _away,
    ValidationError: _unfit,
    HTTPException: _http,
}
