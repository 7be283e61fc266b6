"""Sealing with the machine's own key: systemd opens a sealed file for the one service it is for."""

import subprocess
from pathlib import Path

from edge.errors import Unreachable

_WITHIN_S = 60.0


def with_systemd(name: str, secret: bytes, path: Path) -> None:
    """Seal `secret` into `path`; only a service that asks for `name` gets it opened."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    _creds("encrypt", "--with-key=host", f"--name={name}", "-", str(part), given=secret)
    part.chmod(0o600)
    part.replace(path)


def opened(name: str, path: Path) -> bytes:
    """What was sealed. Needs root."""
    return _creds("decrypt", f"--name={name}", str(path), "-", given=b"")


def _creds(*arguments: str, given: bytes) -> bytes:
    done = subprocess.run(
        ["systemd-creds", *arguments], input=given, capture_output=True, check=False,
        timeout=_WITHIN_S,
    )  # fmt: skip
    if done.returncode:
        raise Unreachable(f"sealing failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
