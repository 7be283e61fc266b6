"""bundle.py SYSTEM KEY OUT: a signed update of one system's files (edge/appliance/bundle.py)."""

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key


def main(system: Path, key_file: Path, out: Path) -> None:
    release = json.loads((system / "release.json").read_text())
    paths = sorted(path for path in system.rglob("*") if path.is_file())
    files = [
        {
            "name": str(path.relative_to(system)),
            "size": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in paths
    ]
    manifest = json.dumps(
        {
            "format": 1,
            "board": release["board"],
            "release": release["release"],
            "version": release["version"],
            "files": files,
        },
        indent=1,
    ).encode()
    key = load_pem_private_key(key_file.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        sys.exit("image: the signing key is not an Ed25519 key")
    with tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as tar:
        add(tar, "manifest.json", manifest, release["version"])
        add(tar, "manifest.sig", key.sign(manifest), release["version"])
        for path in paths:
            add(tar, str(path.relative_to(system)), path.read_bytes(), release["version"])


def add(tar: tarfile.TarFile, name: str, content: bytes, time_s: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime = len(content), time_s
    tar.addfile(member, io.BytesIO(content))


main(*map(Path, sys.argv[1:4]))
