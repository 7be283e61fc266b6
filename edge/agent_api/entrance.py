"""The way in: what anybody may see, the claim, logging in and out, and the lock on all the rest."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from edge.agent_api import web
from edge.agent_api.access import SESSION_LIFE, Access, Visitor
from edge.agent_api.door import Guard, answer, asked
from edge.agent_api.refusals import NotAllowed
from edge.contract.page import (
    ChangePasswordRequest,
    ClaimRequest,
    FirstClaim,
    Front,
    LogInRequest,
    SessionAnswer,
    Standing,
)

SESSION_HEADER = "x-edge-session"
OPEN_TO_ALL = frozenset(
    {
        ("GET", "/front"),
        ("POST", "/claim"),
        ("POST", "/log-in"),
        ("GET", "/certificate"),  # for the page itself, before anybody asks it
    }
)

type FrontNow = Callable[[], Front]
type StandingNow = Callable[[], Awaitable[Standing]]


class Entrance:
    """Routes for Access. `front_now` fills in what only the agent knows; the claim comes here."""

    def __init__(self, access: Access, front_now: FrontNow, standing_now: StandingNow) -> None:
        self._access = access
        self._front_now = front_now
        self._standing_now = standing_now

    def routes(self) -> list[web.Route]:
        return [
            web.get("/front", self._front),
            web.post("/claim", self._claim),
            web.post("/log-in", self._log_in),
            web.post("/log-out", self._log_out),
            web.post("/password", self._change_password),
            web.get("/first-claim", self._first_claim),
            web.get("/session", self._session),
        ]

    async def _front(self, _: web.Request) -> web.Response:
        claim = {
            "claimed": await self._access.is_claimed(),
            "claim_lost": await self._access.is_lost(),
            "claim_open_s": self._access.open_for().total_seconds(),
            "claim_code_needed": self._access.code_needed,
        }
        return answer(self._front_now().model_copy(update=claim))

    async def _claim(self, request: web.Request) -> web.Response:
        wanted = await asked(request, ClaimRequest)
        session = await self._access.claim(
            wanted.password.get_secret_value(), wanted.code, visitor(request)
        )
        return answer(_opened(session), 201)

    async def _log_in(self, request: web.Request) -> web.Response:
        wanted = await asked(request, LogInRequest)
        session = await self._access.log_in(wanted.password.get_secret_value(), visitor(request))
        return answer(_opened(session), 201)

    async def _log_out(self, request: web.Request) -> web.Response:
        await self._access.log_out(request.headers.get(SESSION_HEADER, ""))
        return web.Response(status=204)

    async def _change_password(self, request: web.Request) -> web.Response:
        wanted = await asked(request, ChangePasswordRequest)
        session = await self._access.change_password(
            wanted.current.get_secret_value(), wanted.new.get_secret_value(), visitor(request)
        )
        return answer(_opened(session))

    async def _session(self, _: web.Request) -> web.Response:
        return answer(await self._standing_now())  # session_needed let it pass

    async def _first_claim(self, _: web.Request) -> web.Response:
        claim = await self._access.first_claim()
        if claim is None:
            raise NotAllowed("not_claimed", 404)
        at = None if claim["at"] is None else datetime.fromisoformat(claim["at"])
        return answer(FirstClaim(at=at, address=claim["address"], browser=claim["browser"]))


def session_needed(access: Access) -> Guard:
    """Lets a request pass with an open session, or to what is open to all. Unknown paths too are
    refused before they are looked up, so that a stranger learns nothing."""

    async def check(request: web.Request) -> None:
        if (request.method, request.path) in OPEN_TO_ALL:
            return
        session = request.headers.get(SESSION_HEADER, "")
        if not session or not await access.admits(session):
            raise NotAllowed("log_in_first", 401)

    return check


def visitor(request: web.Request) -> Visitor:
    """Whom the page asks for. The page is trusted to say so, and with nothing else."""
    headers = request.headers
    return Visitor(headers.get("x-edge-visitor", "")[:64], headers.get("x-edge-browser", "")[:200])


def _opened(session: str) -> SessionAnswer:
    return SessionAnswer(session=session, seconds=int(SESSION_LIFE.total_seconds()))
