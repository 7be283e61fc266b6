"""Claim, log in, log out, and the choice of language: what follows from the doorstep's pages."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from pydantic import SecretStr, ValidationError
from starlette.responses import Response

from edge.contract.page import ClaimRequest, LogInRequest, SessionAnswer
from edge.setup_page.agent_link import SaysNo
from edge.setup_page.languages import LANGUAGES
from edge.setup_page.screens import Anybody, SignedIn, TheView
from edge.setup_page.view import LANGUAGE_COOKIE, drop_session, keep_session, see_other

router = APIRouter()

_YEAR_S = 365 * 24 * 3600

type Password = Annotated[SecretStr, Form(max_length=1000)]
type Code = Annotated[str, Form(max_length=64)]


@router.post("/claim")
async def claim(
    request: Request, view: TheView, who: Anybody, password: Password, code: Code = ""
) -> Response:
    try:
        wanted = ClaimRequest(password=password, code=code)
        opened = await view.link.send("POST", "/claim", wanted, SessionAnswer, who)
    except ValidationError:
        return await _claim_again(request, view, "password_short", 422)
    except SaysNo as problem:
        if problem.status >= 500:
            raise
        return await _claim_again(request, view, problem.code, problem.status)
    view.fronts.forget()
    response = see_other("/flexmeasures")
    keep_session(response, request, opened.session, opened.seconds)
    return response


@router.post("/log-in")
async def log_in(request: Request, view: TheView, who: Anybody, password: Password) -> Response:
    try:
        wanted = LogInRequest(password=password)
        opened = await view.link.send("POST", "/log-in", wanted, SessionAnswer, who)
    except ValidationError:
        return await _log_in_again(request, view, "password_wrong", 422)
    except SaysNo as problem:
        if problem.status >= 500:
            raise
        return await _log_in_again(request, view, problem.code, problem.status)
    response = see_other("/")
    keep_session(response, request, opened.session, opened.seconds)
    return response


@router.post("/log-out")
async def log_out(request: Request, view: TheView, who: SignedIn) -> Response:
    await view.link.do("POST", "/log-out", None, who)
    response = see_other("/log-in")
    drop_session(response, request)
    return response


@router.post("/language")
async def choose_language(
    language: Annotated[str, Form(max_length=8)], back: Annotated[str, Form(max_length=200)] = "/"
) -> Response:
    """Remember the visitor's language and return to where they were on this box."""
    inside = back if back.startswith("/") and not back.startswith(("//", "/\\")) else "/"
    response = see_other(inside)
    if language in LANGUAGES:
        response.set_cookie(LANGUAGE_COOKIE, language, max_age=_YEAR_S, samesite="strict", path="/")
    return response


async def _claim_again(request: Request, view: TheView, problem: str, status: int) -> Response:
    view.fronts.forget()
    return await view.page(request, "claim.html", status, problem=problem, step=1)


async def _log_in_again(request: Request, view: TheView, problem: str, status: int) -> Response:
    return await view.page(request, "log_in.html", status, problem=problem)
