"""Taking a backup and bringing it back: one JSON file, no archive, nothing that names a path.

It holds the box's documents (pairing, mapping, families, names) and copies of the stick's memory.
Secrets go in only under a passphrase, sealed with a key made from it. Who owns the box (claim,
sessions, claim code) and what proves that it is this box (its certificate) are never part of it: a
backup opens no door.
"""

import asyncio
import base64
import hashlib
import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from edge.agent_api.refusals import NotAllowed
from edge.contract import Message
from edge.credentials import Credentials
from edge.documents import Documents

BACKUP_BYTES_MAX = 8 * 1024 * 1024  # a 500 series stick's memory is 256 KB; five copies at most
DOCUMENTS_MAX = 200
NEVER_KEPT = frozenset({"claim", "sessions", "lost", "certificate"})
SECRETS_NEVER_KEPT = frozenset({"claim.code", "tls.key"})
_SCRYPT_N = 2**15  # 32 MiB once, when a person waits for it
_ABOUT = b"edge-backup secrets 1"

type Name = Annotated[str, Field(min_length=1, max_length=100)]


class Sealed(Message):
    """Secrets under a passphrase: AES-256-GCM, key by scrypt (n = 2^15, r = 8, p = 1)."""

    salt: Annotated[str, Field(max_length=64)]
    nonce: Annotated[str, Field(max_length=32)]
    content: Annotated[str, Field(max_length=200_000)]


class Backup(Message):
    """The whole file."""

    format: Literal["edge-backup"]
    version: Literal[1]
    taken_at: datetime
    release: Annotated[str, Field(max_length=100)]
    documents: Annotated[dict[Name, Any], Field(max_length=DOCUMENTS_MAX)]
    memories: Annotated[dict[Name, str], Field(max_length=5)]
    secrets: Sealed | None


async def take(
    documents: Documents,
    credentials: Credentials,
    memories: Mapping[str, bytes],
    taken_at: datetime,
    release: str,
    passphrase: str,
    more_secrets: Mapping[str, str],
) -> bytes:
    """The file's content. `memories`: the stick's, by file name."""
    names = [name for name in await documents.names() if name not in NEVER_KEPT]
    sealed = None
    if passphrase:
        sealed = await asyncio.to_thread(_seal, credentials, more_secrets, passphrase)
    return (
        Backup(
            format="edge-backup",
            version=1,
            taken_at=taken_at,
            release=release,
            documents={name: await documents.get(name) for name in names},
            memories={name: base64.b64encode(raw).decode() for name, raw in memories.items()},
            secrets=sealed,
        )
        .model_dump_json(indent=1)
        .encode()
    )


def read(content: bytes) -> Backup:
    """Raises NotAllowed where the content is no backup of ours, or not a whole one."""
    try:
        found = Backup.model_validate_json(content)
        for raw in found.memories.values():
            base64.b64decode(raw, validate=True)
    except (ValidationError, ValueError):
        raise NotAllowed("backup_unreadable", 422) from None
    return found


def open_secrets(backup: Backup, passphrase: str) -> dict[str, str]:
    """The secrets in it; none without a passphrase. Raises NotAllowed where it is wrong."""
    if backup.secrets is None or not passphrase:
        return {}
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        salt, nonce, content = (
            base64.b64decode(part, validate=True)
            for part in (backup.secrets.salt, backup.secrets.nonce, backup.secrets.content)
        )
        found = json.loads(AESGCM(_key(passphrase, salt)).decrypt(nonce, content, _ABOUT))
    except (InvalidTag, ValueError):
        raise NotAllowed("passphrase_wrong", 403) from None
    return {str(n): str(secret) for n, secret in found.items() if n not in SECRETS_NEVER_KEPT}


def _seal(credentials: Credentials, more: Mapping[str, str], passphrase: str) -> Sealed:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    kept = [name for name in credentials.names() if name not in SECRETS_NEVER_KEPT]
    secrets = {name: credentials.get(name) or "" for name in kept} | dict(more)
    salt, nonce = os.urandom(16), os.urandom(12)
    content = AESGCM(_key(passphrase, salt)).encrypt(nonce, json.dumps(secrets).encode(), _ABOUT)
    salt_text, nonce_text, content_text = (
        base64.b64encode(part).decode() for part in (salt, nonce, content)
    )
    return Sealed(salt=salt_text, nonce=nonce_text, content=content_text)


def _key(passphrase: str, salt: bytes) -> bytes:
    return hashlib.scrypt(
        passphrase.encode(), salt=salt, n=_SCRYPT_N, r=8, p=1, dklen=32, maxmem=64 * 2**20
    )


def memories_in(folder: Path) -> dict[str, bytes]:
    """The copies of the stick's memory, by file name; the newest ones that fit."""
    found: dict[str, bytes] = {}
    left = BACKUP_BYTES_MAX // 2
    for path in sorted(folder.glob("*.nvm"), reverse=True)[:5]:
        raw = path.read_bytes()
        left -= len(raw) * 4 // 3
        if left < 0:
            break
        found[path.name] = raw
    return found
