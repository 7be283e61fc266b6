"""How the door reads a question and words an answer. No answer ever repeats what was sent."""


from collections.abc import Awaitable, Callable

from aiohttp import web
from pydantic import BaseModel, ValidationError

from edge.agent_api.access import NotAllowed, Visitor
from edge.agent_api.tries import TooManyTries
from edge.contract import Problem
from edge.errors import EdgeError, Malformed, Refused, Unreachable

BODY_BYTES_MAX = 64 * 1024  # the largest message is a mapping of a few hundred channels

type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def read[M: BaseModel](request: web.Request, kind: type[M]) -> M:
    """The body as `kind`. Raises NotAllowed 422, which names the fields and not their content."""
    try:
        return kind.model_validate_json(await request.read() or b"{}")
    except ValidationError as problem:
        fields = sorted({".".join(map(str, e["loc"])) or "body" for e in problem.errors()})
        raise NotAllowed(f"invalid:{','.join(fields)[:200]}", 422) from None


def answer(message: BaseModel, status: int = 200) -> web.Response:
    return web.Response(
        body=message.model_dump_json().encode(), content_type="application/json", status=status
    )


def done() -> web.Response:
    return web.Response(status=204)


def refuse(code: str, status: int, text: str = "", **headers: str) -> web.Response:
    body = Problem(code=code, text=text or code).model_dump_json().encode()
    return web.Response(body=body, content_type="application/json", status=status, headers=headers)


def visitor(request: web.Request) -> Visitor:
    """Whom the page is asking for. The page is trusted to say so, and with nothing else."""
    headers = request.headers
    return Visitor(
        headers.get("x-edge-visitor", "")[:64], headers.get("x-edge-browser", "")[:200]
    )


@web.middleware
async def say_no_plainly(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn the box's own errors into a Problem with a status."""
    try:
        return await handler(request)
    except TooManyTries as problem:
        return refuse(problem.code, 429, **{"retry-after": str(problem.retry_after_s)})
    except NotAllowed as problem:
        return refuse(problem.code, problem.status)
    except Unreachable as problem:
        return refuse("unreachable", 502, str(problem))
    except Malformed as problem:
        return refuse("malformed", 502, str(problem))
    except Refused as problem:
        return refuse("refused", 409, str(problem))
    except EdgeError as problem:
        return refuse("fault", 500, str(problem))
