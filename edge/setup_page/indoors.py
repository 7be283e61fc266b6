"""The screens put together: all that FastAPI serves, behind what app.py shows to anybody."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import Response

from edge.setup_page.refusals import REFUSALS, problem_page
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
from edge.setup_page.view import View

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


def furnish(view: View) -> FastAPI:
    """All screens."""
    # No schema, no interactive documentation: nothing a visitor needs.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.view = view
    for problem, answer in REFUSALS.items():
        app.add_exception_handler(problem, answer)
    app.add_exception_handler(RequestValidationError, _invalid)
    for screen in _SCREENS:
        app.include_router(screen.router)
    return app


async def _invalid(request: Request, problem: Exception) -> Response:
    """Names the fields that were wrong, never what stood in them."""
    assert isinstance(problem, RequestValidationError)  # noqa: S101 # registered for it alone
    fields = sorted({str(error["loc"][-1]) for error in problem.errors()})
    return await problem_page(request, "invalid", 422, ", ".join(fields)[:200])
