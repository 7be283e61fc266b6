"""Asking the agent from the command line: HTTP on its Unix socket, with nothing but the library."""

import http.client
import socket
from pathlib import Path

from pydantic import ValidationError

from edge.contract import Message, Problem
from edge.errors import Malformed, Refused, Unreachable

TIMEOUT_S = 60.0  # pairing talks to a server that may be slow


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("agent", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask[Answer: Message](
    path: Path, method: str, route: str, kind: type[Answer], body: Message | None = None
) -> Answer:
    """The agent's answer to one question. Raises Unreachable, Refused or Malformed."""
    connection = _UnixConnection(path)
    try:
        connection.request(
            method,
            route,
            body=None if body is None else body.model_dump_json().encode(),
            headers={"Content-Type": "application/json"},
        )
        answer = connection.getresponse()
        text = answer.read().decode()
    except PermissionError as problem:
        raise Refused(f"only root and the box's own user may ask the agent ({path})") from problem
    except (OSError, http.client.HTTPException) as problem:
        raise Unreachable(
            f"the agent does not answer on {path}: is it running? (systemctl status edge-agent)"
        ) from problem
    finally:
        connection.close()
    try:
        if answer.status < http.HTTPStatus.BAD_REQUEST:
            return kind.model_validate_json(text)
        raise Refused(Problem.model_validate_json(text).text)
    except ValidationError as problem:
        raise Malformed(f"the agent answered {answer.status}", text) from problem
