"""The page's room for the FlexMeasures account: look, choose a site, pair, leave.

A log-in that worked is kept in memory until its site is chosen, so that the password is typed once
and a closed browser loses nothing; it is forgotten after a quarter of an hour.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from edge.agent_api import web
from edge.agent_api.door import answer, asked
from edge.agent_api.refusals import NotAllowed
from edge.clock import MILLISECOND, Clock
from edge.contract import FlexMeasuresStatus
from edge.contract.control import PriceSensor, PricesView
from edge.contract.setup import Account as AccountView
from edge.contract.setup import AccountRequest, AssetChoice, PairingView, SiteRequest
from edge.errors import EdgeError
from edge.uplink.account import Account, LogIn
from edge.uplink.pairing import Look, SiteWish, StillHeard
from edge.uplink.trouble import trouble_of

KEPT_FOR = timedelta(minutes=15)
PRICES_MAX = 300  # a server's public markets; more is no list to choose from

type Note = Callable[[str, str, dict[str, str]], Awaitable[None]]
type StatusNow = Callable[[], Awaitable[FlexMeasuresStatus]]


class FlexMeasuresRoom:
    """Routes over uplink/account.py."""

    def __init__(self, account: Account, status: StatusNow, clock: Clock, note: Note) -> None:
        self._account = account
        self._status = status
        self._clock = clock
        self._note = note
        self._pending: tuple[LogIn, Look, float] | None = None

    def routes(self) -> list[web.Route]:
        return [
            web.get("/flexmeasures", self._show),
            web.post("/flexmeasures/look", self._look),
            web.post("/flexmeasures/site", self._site),
            web.get("/flexmeasures/prices", self._prices),
            web.delete("/flexmeasures", self._leave),
        ]

    async def _show(self, _: web.Request) -> web.Response:
        pending = self._kept()
        seen = None if pending is None else _account(*pending)
        return answer(PairingView(status=await self._status(), account=seen))

    async def _look(self, request: web.Request) -> web.Response:
        wanted = await asked(request, AccountRequest)
        with _in_the_pages_words():
            log_in = self._account.log_in(
                wanted.url,
                wanted.email,
                wanted.password.get_secret_value(),
                allow_private=wanted.allow_private,
            )
            seen = await self._account.look(log_in)
        self._pending = (log_in, seen, self._clock.boottime_ms())
        return answer(_account(log_in, seen))

    async def _site(self, request: web.Request) -> web.Response:
        wanted = await asked(request, SiteRequest)
        pending = self._kept()
        if pending is None:
            raise NotAllowed("fm_log_in_again", 409)
        log_in, seen = pending
        left = {c.asset.asset_id: c.still_heard for c in seen.choices if c.left_by}
        adopt = wanted.adopt and wanted.asset_id in left
        knows = adopt and left[wanted.asset_id or 0]  # the page said so beside the tick
        wish = SiteWish(wanted.asset_id, wanted.name, adopt=adopt, although_heard=knows)
        with _in_the_pages_words():
            try:
                made = await self._account.pair(log_in, wish)
            except StillHeard:  # since the person looked: the page shows it as it is now
                seen = await self._account.look(log_in)
                self._pending = (log_in, seen, self._clock.boottime_ms())
                raise
        self._pending = None
        detail = {"url": log_in.address.base, "email": log_in.email, "site": made.site.name}
        if adopt:
            await self._note("adopted", "the assets of an earlier box were taken over", detail)
        await self._note("paired", f"paired with {log_in.address.base}", detail)
        return web.Response(status=204)

    async def _prices(self, _: web.Request) -> web.Response:
        """What a schedule can be made by."""
        with _in_the_pages_words():
            found = await self._account.price_sensors()
        shown = [
            PriceSensor(sensor_id=each.sensor_id, name=each.name[:200], unit=each.unit)
            for each in found[:PRICES_MAX]
        ]
        return answer(PricesView(sensors=shown))

    async def _leave(self, _: web.Request) -> web.Response:
        self._pending = None
        await self._account.unpair()
        await self._note("unpaired", "the FlexMeasures account was forgotten", {})
        return web.Response(status=204)

    def _kept(self) -> tuple[LogIn, Look] | None:
        if self._pending is None:
            return None
        log_in, seen, since_ms = self._pending
        if self._clock.boottime_ms() - since_ms > KEPT_FOR / MILLISECOND:
            self._pending = None
            return None
        return log_in, seen


@contextmanager
def _in_the_pages_words() -> Iterator[None]:
    """What went wrong, as a code the page translates beside the right field."""
    try:
        yield
    except EdgeError as problem:
        raise NotAllowed(trouble_of(problem), 409, str(problem)) from problem


def _account(log_in: LogIn, seen: Look) -> AccountView:
    return AccountView(
        url=log_in.address.base,
        email=log_in.email,
        server_version=seen.version,
        assets=[
            AssetChoice(
                asset_id=choice.asset.asset_id,
                name=choice.asset.name,
                kind=choice.asset.type_name,
                was_a_box=bool(choice.left_by),
                still_heard=choice.still_heard,
            )
            for choice in seen.choices
        ],
        may_create=seen.may_create,
        may_do_more=seen.member.has_role,
    )
