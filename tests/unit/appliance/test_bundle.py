"""An update is installed whole, signed, newer and for this board, or not at all."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.appliance import bundle
from edge.errors import Refused

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
INSTALLED = {"board": "pi", "release": "2026.1", "version": 100}
FILES = {"vmlinuz": b"kernel" * 1000, "overlays/a.dtbo": b"tree", "root.squashfs": b"root" * 5000}


def make(
    path: Path,
    files: dict[str, bytes] = FILES,
    *,
    key: Ed25519PrivateKey = KEY,
    version: int = 101,
    board: str = "pi",
    listed: dict[str, bytes] | None = None,
) -> Path:
    """A bundle of `files`; `listed` is what its list claims they are."""
    claimed = files if listed is None else listed
    manifest = json.dumps(
        {
            "format": 1,
            "board": board,
            "release": "2026.2",
            "version": version,
            "files": [
                {"name": n, "size": len(c), "sha256": hashlib.sha256(c).hexdigest()}
                for n, c in claimed.items()
            ],
        }
    ).encode()
    with tarfile.open(path, "w") as tar:
        whole = {"manifest.json": manifest, "manifest.sig": key.sign(manifest), **files}
        for name, content in whole.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def install(path: Path, target: Path) -> bundle.Manifest:
    target.mkdir(exist_ok=True)
    with tarfile.open(path, "r|") as tar:
        manifest = bundle.read_manifest(tar, PUBLIC)
        bundle.check_fit(manifest, INSTALLED)
        bundle.copy_files(tar, manifest, target)
    bundle.check_written(manifest, target)
    return manifest


def test_a_good_update_arrives_byte_for_byte(tmp_path: Path) -> None:
    install(make(tmp_path / "bundle"), tmp_path / "system")
    for name, content in FILES.items():
        assert (tmp_path / "system" / name).read_bytes() == content


def test_another_signature_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = make(tmp_path / "bundle", key=Ed25519PrivateKey.generate())
    with pytest.raises(Refused, match="not signed by the maker"):
        install(path, tmp_path / "system")
    assert not list((tmp_path / "system").iterdir())


def test_an_older_update_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="older than what runs"):
        install(make(tmp_path / "bundle", version=99), tmp_path / "system")


def test_the_same_update_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="installed already"):
        install(make(tmp_path / "bundle", version=100), tmp_path / "system")


def test_another_boards_update_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="download the one for this board"):
        install(make(tmp_path / "bundle", board="toaster"), tmp_path / "system")


@pytest.mark.parametrize("kept", [10, 700, 2_000, 12_000, 27_000])
def test_a_truncated_update_is_refused(tmp_path: Path, kept: int) -> None:
    path = make(tmp_path / "bundle")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises((Refused, tarfile.TarError)):
        install(path, tmp_path / "system")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    damaged = FILES | {"root.squashfs": b"rooT" * 5000}
    with pytest.raises(Refused, match=r"root\.squashfs of the update is damaged"):
        install(make(tmp_path / "bundle", damaged, listed=FILES), tmp_path / "system")


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/b", ".hidden", "overlays/../x", ""])
def test_impossible_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused, match="impossible file"):
        install(make(tmp_path / "bundle", {name: b"x"}), tmp_path / "system")


def test_a_card_that_does_not_keep_what_was_written_is_noticed(tmp_path: Path) -> None:
    manifest = install(make(tmp_path / "bundle"), tmp_path / "system")
    (tmp_path / "system" / "vmlinuz").write_bytes(b"something else")
    with pytest.raises(Refused, match="worn out"):
        bundle.check_written(manifest, tmp_path / "system")


def test_any_other_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bundle").write_bytes(b"GIF89a" * 1000)
    with pytest.raises((Refused, tarfile.TarError)):
        install(tmp_path / "bundle", tmp_path / "system")
