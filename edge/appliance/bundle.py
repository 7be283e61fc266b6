"""Update bundles: a tar file with a signed list of contents first, then exactly those files.

    manifest.json   {"format": 1, "board", "release", "version", "files": [{name, size, sha256}]}
    manifest.sig    Ed25519 over the bytes of manifest.json
    the files, in the order of the list

Nothing of a bundle is used before its signature was checked, and no file counts before its hash
matched. A higher version is newer; it is the time of the last commit in seconds.
"""

import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edge.errors import Refused

FORMAT = 1
MANIFEST_BYTES_MAX = 256 * 1024  # some hundred files
FILE_BYTES_MAX = 480 * 1024 * 1024  # the partition holds 512 MiB
_CHUNK_BYTES = 1024 * 1024
_NAME = re.compile(r"(overlays/)?[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a system partition."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle holds, as its signer said."""

    board: str
    release: str
    version: int
    files: tuple[Entry, ...]


def read_manifest(bundle: tarfile.TarFile, public_key_pem: bytes) -> Manifest:
    """The signed list of contents. Raises Refused where the signature or the form is wrong."""
    content = _small_member(bundle, "manifest.json")
    signature = _small_member(bundle, "manifest.sig")
    _verify(public_key_pem, signature, content)
    return _manifest(content)


def check_fit(manifest: Manifest, installed: dict[str, Any]) -> None:
    """Refuse a bundle of another board, and anything that is not newer than what runs."""
    if manifest.board != installed["board"]:
        raise Refused(
            f"this update is for {manifest.board}; this box is {installed['board']}: "
            "download the one for this board"
        )
    if manifest.version < int(installed["version"]):
        raise Refused(
            f"this update ({manifest.release}) is older than what runs "
            f"({installed['release']}): download a newer one"
        )
    if manifest.version == int(installed["version"]):
        raise Refused(f"{manifest.release} is installed already")


def copy_files(
    bundle: tarfile.TarFile,
    manifest: Manifest,
    target: Path,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Write every file of the manifest below `target`. Raises Refused at the first mismatch."""
    written = 0
    for entry in manifest.files:
        member = bundle.next()
        if member is None:
            raise Refused("the update is cut short: download it again")
        if member.name != entry.name or not member.isreg() or member.size != entry.size:
            raise Refused("the update does not hold what its list says: download it again")
        source = bundle.extractfile(member)
        assert source is not None  # noqa: S101  (isreg() was just true)
        path = target / entry.name
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            hashed = hashlib.sha256()
            for chunk in _chunks(source):
                hashed.update(chunk)
                file.write(chunk)
                written += len(chunk)
                progress(written)
        if hashed.hexdigest() != entry.sha256:
            raise Refused(f"{entry.name} of the update is damaged: download it again")


def check_written(manifest: Manifest, target: Path) -> None:
    """Read every file back. Raises Refused where the card does not hold what was written."""
    for entry in manifest.files:
        hashed = hashlib.sha256()
        with (target / entry.name).open("rb") as file:
            for chunk in _chunks(file):
                hashed.update(chunk)
        if hashed.hexdigest() != entry.sha256:
            raise Refused(f"the card did not keep {entry.name}: the card may be worn out")


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    try:
        while chunk := source.read(_CHUNK_BYTES):
            yield chunk
    except tarfile.ReadError as problem:
        raise Refused("the update is cut short: download it again") from problem


def _small_member(bundle: tarfile.TarFile, name: str) -> bytes:
    member = bundle.next()
    if member is None or member.name != name or not member.isreg():
        raise Refused("this file is not an update for this box")
    if member.size > MANIFEST_BYTES_MAX:
        raise Refused("this update's list of contents is too long")
    source = bundle.extractfile(member)
    assert source is not None  # noqa: S101  (isreg() was just true)
    return source.read(MANIFEST_BYTES_MAX)


def _verify(public_key_pem: bytes, signature: bytes, content: bytes) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(public_key_pem)
    if not isinstance(key, Ed25519PublicKey):
        raise Refused("this box has no key to check updates with")
    try:
        key.verify(signature, content)
    except InvalidSignature as problem:
        raise Refused(
            "this update is not signed by the maker of this box: it was not installed"
        ) from problem


def _manifest(content: bytes) -> Manifest:
    try:
        held = json.loads(content)
        if held["format"] != FORMAT:
            raise Refused("this update needs a newer system first: install the one in between")
        files = tuple(
            Entry(str(each["name"]), int(each["size"]), str(each["sha256"]))
            for each in held["files"]
        )
        manifest = Manifest(str(held["board"]), str(held["release"]), int(held["version"]), files)
    except (ValueError, KeyError, TypeError) as problem:
        raise Refused("this update's list of contents cannot be read") from problem
    for entry in files:
        if not _NAME.fullmatch(entry.name) or not 0 <= entry.size <= FILE_BYTES_MAX:
            raise Refused(f"this update names an impossible file: {entry.name[:60]!r}")
    return manifest
