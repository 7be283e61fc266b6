"""Serving both sockets, and turning errors into Problem messages."""

import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from aiohttp import web
from pydantic import ValidationError

from edge.agent_api.refusals import NotAllowed, TooManyTries
from edge.contract import Message, Problem
from edge.errors import ConfigFault, EdgeError, Refused, Unreachable

BODY_BYTES_MAX = 64 * 1024  # the longest message is a mapping of some hundred channels
_STOP_WITHIN_S = 2.0  # open event streams do not hold up a restart

type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def serve(path: Path, app: web.Application, *, mode: int) -> web.AppRunner:
    """Serve `app` on the Unix socket `path` (a stale one is replaced); the caller cleans up."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_STOP_WITHIN_S)
    await runner.setup()
    await web.SockSite(runner, _bound(path, mode)).start()
    return runner


def _bound(path: Path, mode: int) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~mode)  # never open wider, not even for a moment
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    return listener


def application(
    routes: Sequence[web.RouteDef],
    middlewares: Sequence[Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]] = (),
) -> web.Application:
    """An application whose every failure is a Problem a person can read."""
    app = web.Application(
        middlewares=[problems, *middlewares],  # type: ignore[list-item]
        client_max_size=BODY_BYTES_MAX,
    )
    app.add_routes(routes)
    return app


def answer(message: Message, status: int = 200) -> web.Response:
    """A message as a response."""
    return web.Response(
        text=message.model_dump_json(), status=status, content_type="application/json"
    )


async def asked[Asked: Message](request: web.Request, kind: type[Asked]) -> Asked:
    """The message a request carries. A fault names the field, never what stood in it."""
    try:
        return kind.model_validate_json(await request.read())
    except ValidationError as problem:
        raise ConfigFault(
            *(f"{_field_of(kind, e['loc'])}: {e['msg']}" for e in problem.errors())
        ) from None


def _field_of(kind: type[Message], place: tuple[int | str, ...]) -> str:
    """The message's own field; a name that was sent along may hold anything."""
    return str(place[0]) if place and place[0] in kind.model_fields else "body"


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors become answers; a bug becomes a 500 without details and a traceback in the log."""
    try:
        return await handler(request)
    except web.HTTPException as problem:
        return answer(Problem(code="http", text=problem.reason), problem.status)
    except NotAllowed as problem:
        return _not_allowed(problem)
    except ConfigFault as problem:
        return answer(Problem(code="invalid", text=str(problem)), 422)
    except Refused as problem:
        return answer(Problem(code="refused", text=str(problem)), 409)
    except Unreachable as problem:
        return answer(Problem(code="unreachable", text=str(problem)), 503)
    except EdgeError as problem:
        return answer(Problem(code="failed", text=str(problem)), 500)


def _not_allowed(problem: NotAllowed) -> web.Response:
    response = answer(Problem(code=problem.code, text=str(problem)), problem.status)
    if isinstance(problem, TooManyTries):
        response.headers["retry-after"] = str(problem.retry_after_s)
    return response
