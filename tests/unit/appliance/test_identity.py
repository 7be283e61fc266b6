"""At a start: keys are made once, wishes are followed once, secrets leave the card's FAT."""

import json
import re
from pathlib import Path

import pytest

from edge.appliance.identity import Places, follow_wishes, make_keys


@pytest.fixture
def places(tmp_path: Path) -> Places:
    places = Places(tmp_path / "data")
    for folder in (places.state, places.keys):
        folder.mkdir(parents=True)
    return places


@pytest.fixture
def first(tmp_path: Path) -> Path:
    folder = tmp_path / "first"
    folder.mkdir()
    return folder


def plain(name: str, secret: bytes, path: Path) -> None:
    """Seals nothing: what is under test is when and what."""
    path.write_bytes(secret)


def test_keys_are_made_once_and_differ_between_boxes(places: Places, tmp_path: Path) -> None:
    make_keys(places, plain)
    key = (places.keys / "edge-key").read_bytes()
    driver = json.loads((places.keys / "driver.json").read_text())
    make_keys(places, plain)
    assert (places.keys / "edge-key").read_bytes() == key
    other = Places(tmp_path / "other")
    make_keys(other, plain)
    assert (other.keys / "edge-key").read_bytes() != key
    keys = [*driver["securityKeys"].values(), *driver["securityKeysLongRange"].values()]
    assert len(set(keys)) == 6


def test_the_pre_seed_is_applied_once_and_its_secrets_leave_the_card(
    places: Places, first: Path
) -> None:
    wish = '[wifi]\nnetwork = "home"\npassword = "CANARY-wifi"\n'
    (first / "edge.toml").write_text(f'name = "attic"\nclaim_code = "CANARY-code"\n{wish}')
    follow_wishes(first, places)
    assert "CANARY" not in "".join(path.read_text() for path in first.iterdir())
    assert not (first / "edge.toml").exists()
    handed = places.state / "preseed.json"
    assert json.loads(handed.read_text()) == {"claim_code": "CANARY-code"}
    assert "psk=CANARY-wifi" in (places.data / "network/preset.nmconnection").read_text()
    assert (places.data / "network/preset.nmconnection").stat().st_mode & 0o077 == 0
    handed.unlink()
    follow_wishes(first, places)
    assert not handed.exists()


def test_a_faulty_pre_seed_is_explained_beside_it_and_changes_nothing(
    places: Places, first: Path
) -> None:
    (first / "edge.toml").write_text('name = "Not A Name"\nclaim_code = "CANARY-code"\n')
    follow_wishes(first, places)
    assert "name" in (first / "edge.toml.wrong.txt").read_text()
    assert not (places.state / "preseed.json").exists()
    assert "CANARY" not in "".join(path.read_text() for path in first.iterdir())


def test_the_reset_file_is_handed_to_the_agent_once(places: Places, first: Path) -> None:
    (first / "edge-reset-password.txt").touch()  # as some computers name it
    follow_wishes(first, places)
    assert (places.state / "reset-password").exists()
    assert not list(first.iterdir())


def test_the_first_code_notices_every_file_that_is_followed(places: Places, first: Path) -> None:
    code = (Path(__file__).parents[3] / "image/initrd/init").read_text()
    (pattern,) = re.findall(r"for file in (/first/edge\.toml .*); do", code)
    files = ["edge.toml", "firstrun.sh", "edge-reset-password", "edge-reset-password.txt"]
    for name in files:
        (first / name).touch()
    noticed = {path for each in pattern.split() for path in first.glob(Path(each).name)}
    assert noticed == {first / name for name in files}
    follow_wishes(first, places)
    assert not [path for path in noticed if path.exists()]
