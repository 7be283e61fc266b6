"""The only room that holds secrets: FlexMeasures' password, the families' passwords and keys.

One file, readable by the agent's user alone. Where the machine hands out a key (systemd puts
`edge-key` into $CREDENTIALS_DIRECTORY) every value is sealed with it, so that a copied file, a
backup or another user learns nothing. Values never appear in a log, an error or a repr.
"""

import base64
import json
import os
from pathlib import Path

from edge.errors import ConfigFault
from edge.files import write_atomically

_NONCE_BYTES = 12


class Credentials:
    """Secrets by name. Raises ConfigFault where the file cannot be read with this key."""

    def __init__(self, path: Path, key: bytes | None = None) -> None:
        self._path = path
        self._key = key
        self._sealed = self._load()

    def get(self, name: str) -> str | None:
        """The secret called `name`, or None."""
        sealed = self._sealed.get(name)
        return None if sealed is None else self._open(name, sealed)

    def put(self, name: str, secret: str) -> None:
        """Keep `secret`; durable when this returns."""
        self._sealed[name] = self._seal(name, secret)
        self._save()

    def delete(self, name: str) -> None:
        if self._sealed.pop(name, None) is not None:
            self._save()

    def names(self) -> list[str]:
        return sorted(self._sealed)

    def _load(self) -> dict[str, str]:
        last_good = self._path.with_suffix(".last")
        for path in (self._path, last_good):
            try:
                found = json.loads(path.read_bytes())
            except (OSError, ValueError):
                continue
            if isinstance(found, dict):
                return {str(name): str(sealed) for name, sealed in found.items()}
        return {}

    def _save(self) -> None:
        content = json.dumps(self._sealed, indent=1).encode()
        write_atomically(self._path, content)
        write_atomically(self._path.with_suffix(".last"), content)

    def _seal(self, name: str, secret: str) -> str:
        if self._key is None:
            return "plain:" + secret
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE_BYTES)
        sealed = AESGCM(self._key).encrypt(nonce, secret.encode(), name.encode())
        return "sealed:" + base64.b64encode(nonce + sealed).decode()

    def _open(self, name: str, sealed: str) -> str:
        form, _, content = sealed.partition(":")
        if form == "plain":
            return content
        if self._key is None:
            raise ConfigFault(f"the secret {name!r} is sealed and this box has no key: pair again")
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        raw = base64.b64decode(content)
        try:
            return (
                AESGCM(self._key)
                .decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], name.encode())
                .decode()
            )
        except InvalidTag as problem:
            raise ConfigFault(
                f"the secret {name!r} was sealed with another key: pair again"
            ) from problem


def machine_key() -> bytes | None:
    """The key systemd hands to this service, if the machine has one."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    path = Path(folder) / "edge-key"
    return path.read_bytes()[:32] if path.exists() else None
