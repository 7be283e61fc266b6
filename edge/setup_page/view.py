"""Turns what the agent said into a page in the visitor's language."""

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from edge.contract.attention import reason_of
from edge.contract.page import Standing
from edge.setup_page.agent_link import AgentLink, Caller, SaysNo
from edge.setup_page.assets import Assets
from edge.setup_page.fronts import Fronts
from edge.setup_page.guard import host_of
from edge.setup_page.languages import LANGUAGES, Words, choose
from edge.setup_page.templating import environment

HTTPS_PORT = 443
LANGUAGE_COOKIE = "language"
# The prefix makes browsers refuse the cookie from anything but https on this very host.
SESSION_COOKIES = {"http": "edge", "https": "__Host-edge"}


class View:
    """Templates with all they need: words, assets, and what the box says of itself."""

    def __init__(
        self, link: AgentLink, fronts: Fronts, assets: Assets, https_port: int | None = None
    ) -> None:
        self._https_port = https_port
        self.link = link
        self.fronts = fronts
        self._templates = environment()
        self._templates.globals.update(
            asset=assets.address, languages=LANGUAGES, reason_of=reason_of
        )

    async def page(
        self, request: Request, template: str, code: int = 200, /, **context: object
    ) -> HTMLResponse:
        """A whole page."""
        context.setdefault("front", await self.fronts.current())
        return HTMLResponse(self.piece(request, template, **context), code)

    def piece(self, request: Request, template: str, /, **context: object) -> str:
        """Part of a page, or a page that asks the agent nothing."""
        words = words_for(request)
        context.setdefault("front", None)
        standing = getattr(request.state, "standing", None)
        return self._templates.get_template(template).render(
            t=words,
            lang=words.language,
            path=request.url.path,
            https=self._encrypted(request),
            standing=standing,
            said=words.first(f"said.{request.query_params.get('said', '')}"),
            **context,
        )

    def _encrypted(self, request: Request) -> str | None:
        """The address of this page by https, where it is offered and not in use already."""
        if self._https_port is None or request.url.scheme == "https":
            return None
        port = "" if self._https_port == HTTPS_PORT else f":{self._https_port}"
        host = host_of(request.headers.get("host", ""))
        named = f"[{host}]" if ":" in host else host
        return f"https://{named}{port}{request.url.path}"


def view_of(request: Request) -> View:
    found = request.app.state.view
    assert isinstance(found, View)  # noqa: S101 # build() put it there
    return found


def words_for(request: Request) -> Words:
    accepted = request.headers.get("accept-language", "")
    return Words(choose(request.cookies.get(LANGUAGE_COOKIE), accepted))


def caller(request: Request) -> Caller:
    """Whoever asks, with or without a session."""
    session = request.cookies.get(SESSION_COOKIES[request.url.scheme], "")
    address = request.client.host if request.client else ""
    return Caller(session, address, request.headers.get("user-agent", ""))


async def signed_in(request: Request) -> Caller:
    """A caller whose session the agent has just confirmed. Raises SaysNo 401."""
    found = caller(request)
    if not found.session:
        raise SaysNo(401, "log_in_first")
    request.state.standing = await view_of(request).link.get("/session", Standing, found)
    return found


def see_other(path: str, said: str = "") -> RedirectResponse:
    """After a form: show `path`, with the message `said` (a key of the catalogue) on top."""
    return RedirectResponse(f"{path}?said={quote(said)}" if said else path, 303)


def keep_session(response: Response, request: Request, session: str, seconds: int) -> None:
    secure = request.url.scheme == "https"
    response.set_cookie(
        SESSION_COOKIES[request.url.scheme],
        session,
        max_age=seconds,
        httponly=True,
        samesite="strict",
        secure=secure,
        path="/",
    )


def drop_session(response: Response, request: Request) -> None:
    response.delete_cookie(
        SESSION_COOKIES[request.url.scheme],
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
