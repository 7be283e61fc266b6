"""Every lock file names versions and hashes and no address, so that any mirror can serve it."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON_LOCKS = sorted((ROOT / "locks").glob("*.txt"))
NPM_LOCKS = sorted(
    path
    for folder in ("edge", "image", "tests")
    for path in (ROOT / folder).rglob("package-lock.json")
    if "node_modules" not in path.parts
)
_PINNED = re.compile(r"[A-Za-z0-9._-]+(\[[^\]]+\])?==[^\s;]+( ; .+)?( --hash=sha256:[0-9a-f]{64})+")
_INTEGRITY = re.compile(r"sha512-[A-Za-z0-9+/]{86}==")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_are_lock_files_for_both_languages() -> None:
    assert {"box.txt", "dev.txt", "flexmeasures.txt"} <= {path.name for path in PYTHON_LOCKS}
    assert len(NPM_LOCKS) >= 2


@pytest.mark.parametrize("path", [*PYTHON_LOCKS, *NPM_LOCKS], ids=name_of)
def test_lock_file_names_no_address(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    address = re.compile(r"://|--index-url|--find-links|\bfile:|git\+")
    assert [word for word in text.split() if address.search(word)] == []
    assert '"resolved"' not in text


@pytest.mark.parametrize("path", PYTHON_LOCKS, ids=name_of)
def test_every_python_package_is_pinned_with_hashes(path: Path) -> None:
    whole = re.sub(r"\s*\\\n\s*", " ", path.read_text(encoding="utf-8"))
    lines = [line for line in whole.splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not _PINNED.fullmatch(line)] == []
    assert lines


@pytest.mark.parametrize("path", NPM_LOCKS, ids=name_of)
def test_every_npm_package_is_pinned_with_its_hash(path: Path) -> None:
    lock = json.loads(path.read_text(encoding="utf-8"))
    packages = {name: told for name, told in lock["packages"].items() if name}
    assert lock["lockfileVersion"] >= 3
    assert [
        name
        for name, told in packages.items()
        if not told.get("version") or not _INTEGRITY.fullmatch(told.get("integrity", ""))
    ] == []
    assert packages
