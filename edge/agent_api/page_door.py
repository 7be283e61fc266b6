"""The page's socket: whoever passes the entrance may use the rooms behind it."""

from collections.abc import Iterable, Sequence

from aiohttp import web

from edge.agent_api.access import Access
from edge.agent_api.door import application
from edge.agent_api.entrance import Entrance, session_needed


def page_application(
    access: Access, entrance: Entrance, rooms: Iterable[Sequence[web.RouteDef]] = ()
) -> web.Application:
    """Every route but those open to all needs a session; so does every path that is no route."""
    routes = [*entrance.routes(), *(route for room in rooms for route in room)]
    return application(routes, [session_needed(access)])
