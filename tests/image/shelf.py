"""A web server of this machine that the guest reaches by https, and how it comes to trust it."""

import http.server
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.image.machine import Machine

HOST = "10.0.2.2"  # this machine, as the emulator's network calls it
_TRUST = "/run/shelf.pem"


@contextmanager
def shelf_server(shelf: Path, certificate: Path, asked: list[str] | None = None) -> Iterator[str]:
    """Its address: hands out the files of `shelf`; its certificate and key are made as a file.
    What it is asked for is added to `asked`."""
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    named = ["-subj", "/CN=shelf", "-addext", f"subjectAltName=IP:{HOST}", "-nodes", "-days", "2"]
    files = ["-keyout", f"{certificate}.key", "-out", str(certificate)]
    subprocess.run([*made, *named, *files], check=True, capture_output=True)
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(_Quiet, [] if asked is None else asked, directory=str(shelf))
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, f"{certificate}.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"https://{HOST}:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def trust(box: Machine, certificate: Path, service: str) -> None:
    """One service of the guest trusts that certificate, until the next restart."""
    drop_in = f"/run/systemd/system/{service}.d"
    box.run(
        f"echo '{certificate.read_text()}' >{_TRUST}; mkdir -p {drop_in};"
        f"printf '[Service]\\nEnvironment=SSL_CERT_FILE={_TRUST}\\n' >{drop_in}/trust.conf;"
        "systemctl daemon-reload"
    )


def put(box: Machine, text: str, path: str) -> None:
    """Lay other text over a file of the read-only root, until the next restart."""
    name = path.replace("/", "-")
    box.run(f"printf '{text}' >/run/put{name}; mount --bind /run/put{name} {path}")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def __init__(self, asked: list[str], *of: Any, **more: Any) -> None:
        self._asked = asked
        super().__init__(*of, **more)  # which answers one request

    def do_GET(self) -> None:
        self._asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass
