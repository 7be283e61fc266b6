"""`make run` where a part of the house does not start, or its person stops it meanwhile: one line,
an exit code, and nothing left behind."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flow.test_main_job import failed_with_one_line, left_running, run
from tests.house.child import ROOT
from tests.house.flexmeasures.process import FlexMeasuresServer

# Read by every Python before its program: the chosen one fails as soon as it starts.
TRAP = """
import os, sys
if os.environ["TRAP"] in (os.path.basename(each) for each in sys.orig_argv):
    sys.exit("OSError: made to fail")
"""


def trap(folder: Path, program: str) -> dict[str, str]:
    (folder / "sitecustomize.py").write_text(TRAP)
    return {"TRAP": program, "PYTHONPATH": str(folder)}


def test_machine_without_python_3_13_is_told_in_one_line(tmp_path: Path) -> None:
    """On a machine that has the rest of what `make run` asks for, and an older Python."""
    programs, clone = tmp_path / "bin", tmp_path / "clone"
    programs.mkdir()
    for name in ("bash", "cat", "dirname", "env", "grep", "make", "mkdir", "rm", "sha256sum"):
        (programs / name).symlink_to(str(shutil.which(name)))
    (programs / "python3").write_text("#!/bin/bash\nexit 1\n")  # "are you 3.13?"
    (programs / "python3").chmod(0o755)
    for part in ("Makefile", "tests/house/setup", "locks/dev.txt"):
        (clone / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / part, clone / part)
    there = {path for path in clone.rglob("*") if path.is_file()}
    failed = subprocess.run(
        ["make", "run"],
        cwd=clone,
        env={"PATH": str(programs), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert failed.returncode != 0
    said = [line for line in failed.stderr.splitlines() if not line.startswith("make: ***")]
    assert len(said) == 1, failed.stderr
    assert "no Python 3.13 found; install it" in said[0]
    assert {path for path in clone.rglob("*") if path.is_file()} == there


def test_server_of_the_house_that_fails_is_named(tmp_path: Path) -> None:
    line = failed_with_one_line(tmp_path / "state", "", **trap(tmp_path, "server.py"))
    assert "FlexMeasures" in line
    assert "made to fail" in line


@pytest.mark.parametrize(
    ("part", "how", "says"),
    [
        ("the simulated Z-stick", {"NODE_OPTIONS": "--require=/nowhere.js"}, "Cannot find module"),
        ("the Z-Wave driver", {"STICK": "/dev/null"}, "is /dev/null a Z-stick"),
        ("Home Assistant", {"HA": "1", "HOMEASSISTANT": "/bin/false"}, "no log"),
        ("the box", {"TRAP": "agent"}, "made to fail"),
        ("the setup page", {"TRAP": "setup-page"}, "made to fail"),
    ],
)
def test_part_that_does_not_start_is_named(
    tmp_path: Path,
    flexmeasures_server: FlexMeasuresServer,
    part: str,
    how: dict[str, str],
    says: str,
) -> None:
    owner = flexmeasures_server.make_account()
    if program := how.get("TRAP"):
        how = trap(tmp_path, program)
    line = failed_with_one_line(
        tmp_path / "new" / "state",
        owner.password,
        FLEXMEASURES_URL=flexmeasures_server.url,
        EMAIL=owner.email,
        **how,
    )
    assert f"{part} did not start" in line
    assert says in line
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("state", ["/proc/nowhere/state", "README.md"])
def test_state_that_cannot_be_kept_is_one_line(state: str) -> None:
    failed = subprocess.run(
        [sys.executable, "-m", "tests.house.run"],
        env=os.environ | {"STATE": state, "PAGE_PORT": "21081", "FLEXMEASURES_PORT": "21051"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert failed.returncode == 1
    assert failed.stderr.splitlines() == [failed.stderr.strip()]
    assert "choose another" in failed.stderr


def test_stopped_while_it_starts_it_leaves_nothing(tmp_path: Path) -> None:
    state = tmp_path / "state"
    starting = run(state)
    assert starting.stdout is not None
    assert "a day of" in starting.stdout.readline()  # FlexMeasures is next
    starting.send_signal(signal.SIGINT)
    out, errors = starting.communicate(timeout=60)
    assert starting.returncode == 128 + signal.SIGINT
    assert errors.splitlines() == ["make run: stopped before everything had started"]
    assert "FlexMeasures answers" not in out
    assert left_running(state) == []
    assert not state.exists()


def test_stick_that_dies_while_it_plays_ends_the_scene(tmp_path: Path) -> None:
    """The house no longer measures: figures of such a run would mean nothing."""
    state = tmp_path / "state"
    playing = run(state, OTHERS="0")
    assert playing.stdout is not None
    for line in playing.stdout:
        if "Ctrl-C" in line:
            break
    for stick in mock_sticks(playing.pid):
        os.kill(stick, signal.SIGKILL)
    out, errors = playing.communicate(timeout=60)
    assert playing.returncode == 1
    assert len(errors.splitlines()) == 1, errors
    assert "the simulated Z-stick stopped" in errors
    assert "Traceback" not in out
    assert left_running(state) == []


def mock_sticks(parent: int) -> list[int]:
    """The mock sticks that this process started."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    lines = {child: Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0") for child in children}
    return [int(child) for child, line in lines.items() if any(b"mock_stick" in w for w in line)]
