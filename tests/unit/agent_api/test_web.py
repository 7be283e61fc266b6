"""What the doors speak, with all that may come through a socket."""

import asyncio
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edge.agent_api import web
from edge.agent_api.door import Application, answer, asked, serve
from edge.agent_api.refusals import TooManyTries
from edge.contract import Done
from edge.contract.page import LogInRequest
from edge.errors import Unreachable

LONG = 4_000_000  # bytes; far more than a socket holds


async def parts(request: web.Request) -> web.Response:
    return answer(Done(text=f"{request.values} {dict(request.query)}"))


async def taken(request: web.Request) -> web.Response:
    return answer(Done(text=str(len(await request.read()))))


async def away(_: web.Request) -> web.Response:
    raise Unreachable("nobody is there")


async def tired(_: web.Request) -> web.Response:
    raise TooManyTries(7)


async def broken(_: web.Request) -> web.Response:
    raise ZeroDivisionError("the password is hunter2")


async def typed(request: web.Request) -> web.Response:
    await asked(request, LogInRequest)
    return web.Response(status=204)


ROUTES = [
    web.get("/rooms/{room}", parts),
    web.get("/series/{ident:.+}", parts),
    web.put("/taken", taken),
    web.get("/away", away),
    web.get("/tired", tired),
    web.get("/broken", broken),
    web.post("/typed", typed),
]


@asynccontextmanager
async def door(folder: Path) -> AsyncIterator[Path]:
    path = folder / "a.sock"
    opened = await serve(path, Application(ROUTES), mode=0o600)
    try:
        yield path
    finally:
        await opened.close()


async def said(path: Path, *pieces: bytes) -> tuple[int, str]:
    """What comes back for these bytes: the status, and all the rest."""
    reader, writer = await asyncio.open_unix_connection(path)
    for piece in pieces:
        writer.write(piece)
    heard = (await reader.read()).decode()
    writer.close()
    return (int(heard.split(" ", 2)[1]) if heard else 0), heard


def question(method: str, path: str, body: bytes = b"", length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    return (
        f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n".encode() + body
    )


async def test_parts_of_a_path_arrive_as_they_were_meant(tmp_path: Path) -> None:
    async with door(tmp_path) as path:
        _, one = await said(path, question("GET", "/rooms/a%2Fb%20c?since=3"))
        _, rest = await said(path, question("GET", "/series/zwave/4-50-1%2F2"))
    assert "{'room': 'a/b c'} {'since': '3'}" in one
    assert "{'ident': 'zwave/4-50-1/2'} {}" in rest


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/rooms/", 404, "not_found"),
        ("GET", "/rooms/a/b", 404, "not_found"),
        ("GET", "/%72ooms/a", 404, "not_found"),
        ("DELETE", "/rooms/a", 405, "not_found"),
        ("GET", "/away", 503, "nobody is there"),
        ("GET", "/tired", 429, "retry-after: 7"),
    ],
)
async def test_every_no_is_a_problem(
    tmp_path: Path, method: str, path: str, status: int, text: str
) -> None:
    async with door(tmp_path) as socket:
        found, heard = await said(socket, question(method, path))
    assert (found, text in heard) == (status, True)


async def test_a_bug_says_nothing_to_whoever_asked_and_all_to_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with door(tmp_path) as path:
        status, heard = await said(path, question("GET", "/broken"))
        assert (status, "hunter2" in heard) == (500, False)
        assert (await said(path, question("GET", "/rooms/a")))[0] == 200
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"x" * 100_000, b"GET /away HTTP/1.1\r\n\r\n"],
)
async def test_garbage_gets_a_400(tmp_path: Path, garbage: bytes) -> None:
    async with door(tmp_path) as path:
        status, _ = await said(path, garbage + b"\r\n\r\n")
        assert status == 400
        assert (await said(path, question("GET", "/rooms/a")))[0] == 200


async def test_who_sends_too_much_hears_it_while_still_sending(tmp_path: Path) -> None:
    async with door(tmp_path) as path:
        status, heard = await said(path, question("PUT", "/taken", b"x" * LONG))
        assert (status, "too_large" in heard) == (413, True)
        status, heard = await said(path, question("PUT", "/taken", b"x" * web.BODY_BYTES_MAX))
        assert (status, str(web.BODY_BYTES_MAX) in heard) == (200, True)


async def test_a_body_that_breaks_off_is_no_bug(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with door(tmp_path) as path:
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(question("PUT", "/taken", b"half", 8))
        writer.close()
        assert (await said(path, question("GET", "/rooms/a")))[0] == 200
    assert caplog.text == ""


@pytest.mark.parametrize("body", [b"", b"{", b'{"password": 7}', b"\xff\xfe", b"[]"])
async def test_what_is_no_message_is_refused_by_field(tmp_path: Path, body: bytes) -> None:
    async with door(tmp_path) as path:
        status, heard = await said(path, question("POST", "/typed", body))
    assert (status, '"code":"invalid"' in heard) == (422, True)


async def test_a_stale_socket_is_replaced_and_never_open_to_others(tmp_path: Path) -> None:
    (tmp_path / "a.sock").touch(0o777)
    async with door(tmp_path) as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert (await said(path, question("GET", "/rooms/a")))[0] == 200


async def test_what_never_answers_does_not_hold_up_a_restart(tmp_path: Path) -> None:
    entered = asyncio.Event()

    async def asleep(_: web.Request) -> web.Response:
        entered.set()
        await asyncio.Event().wait()
        return web.Response()

    door = web.Door(asleep, stop_within_s=0.0)
    await door.open(tmp_path / "a.sock", 0o600)
    waiting = asyncio.create_task(said(tmp_path / "a.sock", question("GET", "/")))
    await entered.wait()
    await door.close()
    assert (await waiting)[0] == 500
