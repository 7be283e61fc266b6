"""The page's room for what holds for the whole house: its time zone.

"Today" and the hours in which a device is left alone are the household's own. A browser knows its
zone, so the set-up brings it along; a person may choose another.
"""

from collections.abc import Awaitable, Callable
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from edge.agent_api import web
from edge.agent_api.door import answer, asked
from edge.agent_api.refusals import NotAllowed
from edge.clock import own_zone, use_zone
from edge.contract.setup import HouseholdRequest, HouseholdView
from edge.documents import Documents

_DOCUMENT = "household"

type MoveDevices = Callable[[str], Awaitable[None]]


async def restore_zone(documents: Documents) -> None:
    """Let the whole agent live in the zone that was chosen earlier."""
    if (zone := await _chosen(documents)) is not None:
        use_zone(zone)


class HouseholdRoom:
    """`move_devices` gives the devices' own hours the new zone."""

    def __init__(self, documents: Documents, move_devices: MoveDevices) -> None:
        self._documents = documents
        self._move_devices = move_devices

    def routes(self) -> list[web.Route]:
        return [web.get("/household", self._show), web.put("/household", self._keep)]

    async def _show(self, _: web.Request) -> web.Response:
        chosen = await _chosen(self._documents)
        return answer(HouseholdView(timezone=chosen or own_zone(), is_chosen=chosen is not None))

    async def _keep(self, request: web.Request) -> web.Response:
        wanted = await asked(request, HouseholdRequest)
        if not _exists(wanted.timezone):
            raise NotAllowed("no_such_zone", 422)
        if not (wanted.only_if_none and await _chosen(self._documents) is not None):
            await self._documents.put(_DOCUMENT, {"timezone": wanted.timezone})
            use_zone(wanted.timezone)
            await self._move_devices(wanted.timezone)
        return web.Response(status=204)


async def _chosen(documents: Documents) -> str | None:
    kept = await documents.get(_DOCUMENT)
    zone = kept.get("timezone") if isinstance(kept, dict) else None
    return zone if isinstance(zone, str) and _exists(zone) else None


def _exists(zone: str) -> bool:
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
