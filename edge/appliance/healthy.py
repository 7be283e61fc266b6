"""Waits until the agent answers on its socket and the page on port 80: a new system's proof."""

import http.client
import socket
import sys
import time
from pathlib import Path

_AGENT_SOCKET = Path("/run/edge/agent.sock")
_PATIENCE_S = 13 * 60.0  # the unit gives up after 15 minutes
_ASK_WITHIN_S = 30.0
_ASK_EVERY_S = 5.0


class _OnSocket(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_ASK_WITHIN_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_ASK_WITHIN_S)
        self.sock.connect(str(self._path))


def main() -> int:
    end_s = time.monotonic() + _PATIENCE_S
    fault = "nothing was asked"
    while time.monotonic() < end_s:
        fault = agent_fault(_AGENT_SOCKET) or page_fault("127.0.0.1", 80)
        if not fault:
            return 0
        time.sleep(_ASK_EVERY_S)
    print(f"not healthy: {fault}", file=sys.stderr)
    return 1


def agent_fault(path: Path) -> str:
    """What is wrong with the agent; empty when it answers."""
    return _fault("the agent", _OnSocket(path), "/status")


def page_fault(host: str, port: int) -> str:
    """What is wrong with the page; empty when it answers."""
    return _fault("the page", http.client.HTTPConnection(host, port, timeout=_ASK_WITHIN_S), "/")


def _fault(who: str, connection: http.client.HTTPConnection, path: str) -> str:
    try:
        # As a browser asks: without this the page answers visitors with "log in first".
        headers = {"Host": "localhost", "Accept": "text/html, application/json"}
        connection.request("GET", path, headers=headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as problem:
        return f"{who} does not answer: {problem}"
    finally:
        connection.close()
    return "" if status < http.client.BAD_REQUEST else f"{who} answers {status}"


if __name__ == "__main__":
    sys.exit(main())
