"""Serving both sockets, and turning errors into Problem messages."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from edge.agent_api.refusals import NotAllowed, TooManyTries
from edge.agent_api.web import Door, Request, Response, Route, handler_for
from edge.contract import Message, Problem
from edge.errors import ConfigFault, EdgeError, Refused, Unreachable

type Guard = Callable[[Request], Awaitable[None]]


async def _nobody_stopped(_: Request) -> None:
    """Whoever can open the socket may do all."""


@dataclass(frozen=True, slots=True)
class Application:
    """Routes, and a guard who raises for those that may not pass, before any path is looked up.
    Every failure becomes a Problem a person can read."""

    routes: Sequence[Route]
    guard: Guard = _nobody_stopped

    async def answer(self, request: Request) -> Response:
        """Errors become answers; a bug passes on."""
        try:
            await self.guard(request)
            return await handler_for(self.routes, request)(request)
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


async def serve(path: Path, application: Application, *, mode: int) -> Door:
    """Serve `application` on the Unix socket `path`; the caller closes it."""
    door = Door(application.answer)
    await door.open(path, mode)
    return door


def answer(message: Message, status: int = 200) -> Response:
    """A message as a response."""
    return Response(message.model_dump_json().encode(), status)


async def asked[Asked: Message](request: Request, kind: type[Asked]) -> Asked:
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


def _not_allowed(problem: NotAllowed) -> Response:
    message = Problem(code=problem.code, text=str(problem)).model_dump_json().encode()
    wait = {"retry-after": str(problem.retry_after_s)} if isinstance(problem, TooManyTries) else {}
    return Response(message, problem.status, headers=wait)
