"""The page as its own process: started by a request, gone when nobody asks, light meanwhile."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.page.stand import Stand

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
