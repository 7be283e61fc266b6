"""The page by https: its own certificate, kept, and cookies that stay there."""

import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.page.real_door import RealDoor
from tests.page.stand import PASSWORD


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealDoor]:
    with RealDoor(tmp_path_factory.mktemp("d")) as opened:
        yield opened


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@contextmanager
def page(door: RealDoor) -> Iterator[int]:
    """The page's process; the port of its https."""
    port = free_port()
    arguments = ["--socket", str(door.socket), "--port", str(free_port()), "--tls-port", str(port)]
    process = subprocess.Popen([sys.executable, "-m", "edge", "setup-page", *arguments])
    try:
        yield port
    finally:
        process.terminate()
        process.wait(15)


def ask(port: int, request: str) -> tuple[str, bytes]:
    """What is answered, and the certificate it came with."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    until = time.monotonic() + 20
    while True:
        try:
            raw = socket.create_connection(("127.0.0.1", port), 10)
            break
        except ConnectionRefusedError:
            assert time.monotonic() < until
            time.sleep(0.1)
    with raw, context.wrap_socket(raw, server_hostname="flexbox.local") as connection:
        connection.sendall(request.encode())
        said = b""
        while piece := connection.recv(65536):
            said += piece
        return said.decode(), connection.getpeercert(binary_form=True) or b""


def log_in(port: int) -> str:
    body = urlencode({"password": PASSWORD})
    return (
        f"POST /log-in HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n"
        f"Origin: https://localhost:{port}\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}"
    )


def test_the_session_of_https_stays_on_https(door: RealDoor) -> None:
    with page(door) as port:
        said, _ = ask(port, log_in(port))
    assert said.startswith("HTTP/1.1 303")
    cookie = next(line for line in said.splitlines() if line.lower().startswith("set-cookie"))
    assert "__Host-edge=" in cookie
    assert "secure" in cookie.lower()


def test_the_certificate_is_kept_and_names_the_box(door: RealDoor, tmp_path: Path) -> None:
    request = "GET /log-in HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    seen = []
    for _ in range(2):  # two lives of the page's process
        with page(door) as port:
            said, certificate = ask(port, request)
            assert "200 OK" in said
            seen.append(certificate)
    assert seen[0] == seen[1]
    path = tmp_path / "box.pem"
    path.write_text(ssl.DER_cert_to_PEM_cert(seen[0]))
    trusting = ssl.create_default_context(cafile=str(path))
    with (
        page(door) as port,
        socket.socket() as raw,
    ):
        ask(port, request)  # until it answers
        raw.connect(("127.0.0.1", port))
        with trusting.wrap_socket(raw, server_hostname="flexbox.local") as connection:
            assert connection.version() in ("TLSv1.2", "TLSv1.3")


def test_the_key_lies_nowhere_in_the_open(door: RealDoor) -> None:
    for path in door.state.rglob("*"):
        if path.is_file() and not path.name.startswith("credentials"):
            assert b"PRIVATE KEY" not in path.read_bytes(), path.name
