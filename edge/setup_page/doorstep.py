"""What a visitor without a session is shown: the claim of a new box, or the log-in.

The first answers of a box that starts, so they need nothing that is slow to load.
"""

from collections.abc import Awaitable, Callable

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response

from edge.setup_page.view import see_other, view_of


class Doorstep:
    """`somebody_came` is told once a page was answered."""

    def __init__(self, somebody_came: Callable[[], Awaitable[None]]) -> None:
        self._somebody_came = somebody_came

    async def claim(self, request: Request) -> Response:
        """The first screen of a new box."""
        view = view_of(request)
        if (await view.fronts.current()).claimed:
            return see_other("/")
        return self._then(await view.page(request, "claim.html", problem=None, step=1))

    async def log_in(self, request: Request) -> Response:
        view = view_of(request)
        if not (await view.fronts.current()).claimed:
            return see_other("/claim")
        return self._then(await view.page(request, "log_in.html", problem=None))

    def _then(self, response: Response) -> Response:
        response.background = BackgroundTask(self._somebody_came)
        return response
