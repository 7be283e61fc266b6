"""How the box is, in plain words, each with what to do next."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from edge.setup_page.view import SignedIn, TheView

router = APIRouter()


@router.get("/health")
async def show_health(request: Request, view: TheView, _: SignedIn) -> Response:
    return await view.page(request, "health.html")
