import socket
from pathlib import Path

import pytest

from edge.config import Config, load
from edge.errors import ConfigFault

REPOSITORY = Path(__file__).parents[2]


def written(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(text)
    return path


def test_defaults_trust_no_clock_and_no_loopback() -> None:
    assert not Config().clock.trust_always
    assert not Config().flexmeasures.allow_loopback


def test_no_image_carries_what_only_the_simulated_house_may() -> None:
    carried = [
        path
        for folder in ("image", "systemd")
        for path in (REPOSITORY / folder).rglob("*")
        if path.is_file()
        and any(flag in path.read_bytes() for flag in (b"allow_loopback", b"trust_always"))
    ]
    assert carried == []


def test_settings_are_read(tmp_path: Path) -> None:
    config = load(written(tmp_path, "name = 'cellar'\n[buffer]\ncommit_every_s = 5\n"))
    assert config.name == "cellar"
    assert config.buffer.commit_every.total_seconds() == 5


def test_a_box_is_called_as_its_machine_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for host, name in (("attic", "attic"), ("Cellar.lan", "cellar"), ("my_pc", "flexbox")):
        monkeypatch.setattr(socket, "gethostname", lambda host=host: host)
        assert Config().name == name


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, "nmae = 'x'\n[house]\nphases = 2\nfuse_a = -1\n")
    with pytest.raises(ConfigFault) as caught:
        load(path)
    assert len(caught.value.faults) == 3
    assert "nmae" in str(caught.value)
    assert "house.phases" in str(caught.value)


@pytest.mark.parametrize("text", ["name =", "\x00"])
def test_file_that_is_not_toml_is_one_clear_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigFault, match="is not TOML"):
        load(written(tmp_path, text))


def test_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigFault, match="cannot be read"):
        load(tmp_path / "nowhere.toml")
