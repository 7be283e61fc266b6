"""The page as its own process: started by a request, gone when nobody asks, light meanwhile."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from tests.page.stand import PASSWORD, Stand
from tests.page.visitor import Visitor

ANSWERS_WITHIN_S = 20.0


def handed_over(listening: socket.socket, arguments: list[str]) -> "subprocess.Popen[bytes]":
    """`edge setup-page` with `listening` as systemd hands it over: descriptor 3, its own pid."""

    def as_systemd_does() -> None:
        os.dup2(listening.fileno(), 3)
        os.environ["LISTEN_PID"] = str(os.getpid())
        os.environ["LISTEN_FDS"] = "1"
        os.execv(sys.executable, [sys.executable, "-m", "edge", "setup-page", *arguments])

    return subprocess.Popen(
        [sys.executable], preexec_fn=as_systemd_does, pass_fds=[3], stderr=subprocess.PIPE
    )


@contextmanager
def started(stand: Stand, *arguments: str) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        process = handed_over(listening, ["--socket", str(stand.agent), *arguments])
        try:
            yield process, port
        finally:
            process.kill()
            process.wait(10)
            assert process.stderr is not None
            process.stderr.close()


def first_answer(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), ANSWERS_WITHIN_S) as connection:
        connection.sendall(b"GET /claim HTTP/1.1\r\nHost: edge.local\r\nConnection: close\r\n\r\n")
        said = b""
        while piece := connection.recv(65536):
            said += piece
        return said.decode()


def pss_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise AssertionError("no Pss")


def test_the_page_serves_the_socket_it_is_handed(stand: Stand) -> None:
    with started(stand) as (_, port):
        assert first_answer(port).startswith("HTTP/1.1 200 OK")


def test_the_page_leaves_when_nobody_asks(stand: Stand) -> None:
    with started(stand, "--idle-s", "1") as (process, port):
        assert "200 OK" in first_answer(port)
        assert process.wait(15) == 0


def test_an_open_stream_does_not_hold_up_a_stop(stand: Stand) -> None:
    with started(stand) as (process, port):
        first_answer(port)
        with socket.create_connection(("127.0.0.1", port), 5):
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.wait(15)
            assert time.monotonic() - begun < 10


def test_the_page_imports_no_store_and_no_secrets(stand: Stand) -> None:
    """What it never loads it cannot leak: seen in the running process."""
    with started(stand) as (process, port):
        first_answer(port)
        loaded = Path(f"/proc/{process.pid}/maps").read_text()
    for library in ("sqlite3", "_cffi_backend", "aiohttp"):
        assert library not in loaded


def log_in(port: int, password: str) -> int:
    """The status that answers a log-in."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWERS_WITHIN_S)
    headers = {
        "host": "edge.local",
        "origin": "http://edge.local",
        "content-type": "application/x-www-form-urlencoded",
    }
    connection.request("POST", "/log-in", urlencode({"password": password}), headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_form_that_is_the_first_request_finds_its_screen(claimed: Stand) -> None:
    with started(claimed) as (_, port):
        assert log_in(port, PASSWORD) == 303


def test_agent_that_is_away_is_said_whatever_is_asked_for(stand: Stand) -> None:
    stand.stop_door()
    with started(stand) as (_, port):
        for path in ("/claim", "/log-in", "/box"):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWERS_WITHIN_S)
            connection.request("GET", path, headers={"host": "edge.local", "cookie": "edge=some"})
            answer = connection.getresponse()
            assert (answer.status, answer.headers["retry-after"]) == (503, "2")
            assert b"data-reload-s" in answer.read()
            connection.close()


def test_tries_and_sessions_outlive_the_sleep_of_the_page(claimed: Stand) -> None:
    """They are the agent's: a guesser who waits until the page has left gains nothing."""
    owner = Visitor(claimed, "127.0.0.2")
    owner.log_in()
    with started(claimed, "--idle-s", "1") as (process, port):
        first_answer(port)
        assert [log_in(port, f"a wrong guess {i}") for i in range(5)] == [403] * 5
        assert process.wait(15) == 0
    with started(claimed) as (_, port):
        first_answer(port)
        assert log_in(port, PASSWORD) == 429
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWERS_WITHIN_S)
        cookie = f"edge={owner.cookies['edge']}"
        connection.request("GET", "/session", headers={"host": "edge.local", "cookie": cookie})
        assert connection.getresponse().status != 401
        connection.close()
