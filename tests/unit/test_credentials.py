import os
from pathlib import Path

import pytest

from edge.credentials import Credentials
from edge.errors import ConfigFault

KEY = bytes(range(32))
CANARY = "canary-4711"


@pytest.fixture(params=[None, KEY], ids=["plain", "sealed"])
def key(request: pytest.FixtureRequest) -> bytes | None:
    found: bytes | None = request.param
    return found


def test_secret_comes_back_after_a_restart(tmp_path: Path, key: bytes | None) -> None:
    Credentials(tmp_path / "c.json", key).put("flexmeasures", CANARY)
    again = Credentials(tmp_path / "c.json", key)
    assert again.get("flexmeasures") == CANARY
    again.delete("flexmeasures")
    assert Credentials(tmp_path / "c.json", key).get("flexmeasures") is None


def test_only_the_owner_can_read_the_file(tmp_path: Path, key: bytes | None) -> None:
    Credentials(tmp_path / "c.json", key).put("a", CANARY)
    assert {oct(path.stat().st_mode)[-3:] for path in tmp_path.iterdir()} == {"600"}


def test_sealed_file_does_not_contain_the_secret(tmp_path: Path) -> None:
    Credentials(tmp_path / "c.json", KEY).put("a", CANARY)
    assert all(CANARY.encode() not in path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.parametrize("other", [None, bytes(32)], ids=["no key", "another key"])
def test_sealed_file_on_another_box_says_what_to_do(tmp_path: Path, other: bytes | None) -> None:
    Credentials(tmp_path / "c.json", KEY).put("a", CANARY)
    with pytest.raises(ConfigFault, match="pair again"):
        Credentials(tmp_path / "c.json", other).get("a")


def test_values_cannot_be_swapped_between_names(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    secrets = Credentials(path, KEY)
    secrets.put("a", CANARY)
    secrets.put("b", "other")
    text = path.read_text()
    sealed_a, sealed_b = (line.split('"')[3] for line in text.splitlines()[1:3])
    path.write_text(text.replace(sealed_a, "X").replace(sealed_b, sealed_a).replace("X", sealed_b))
    with pytest.raises(ConfigFault):
        Credentials(path, KEY).get("a")


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", os.urandom(64)])
def test_torn_file_falls_back_to_the_last_good_one(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "c.json"
    Credentials(path).put("a", CANARY)
    path.write_bytes(damage)
    assert Credentials(path).get("a") == CANARY
