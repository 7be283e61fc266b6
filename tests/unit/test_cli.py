import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge.cli import main
from edge.cli.status_text import as_text
from edge.contract import (
    BufferStatus,
    ChannelStatus,
    ClockStatus,
    FlexMeasuresStatus,
    Problem,
    ReadingsStatus,
    Status,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

STATUS = Status(
    name="flexbox",
    version="0.1.0",
    release="test",
    parts=[],
    alarms={"buffer": "a damaged file was set aside"},
    stick=None,
    devices=[],
    channels=[
        ChannelStatus(
            key="zwave/1-2/1/active_power/import",
            name="Washing machine",
            unit="W",
            value=420,
            age_s=12,
            sensor_id=7,
            set_aside=1,
            energy_deviation_percent=-1.5,
        )
    ],
    set_aside=[],
    readings=ReadingsStatus(believed=9, confirmed=2, counter_resets=1, unknown=4),
    buffer=BufferStatus(
        readings=10,
        stored_since_start=20,
        bytes_used=4096,
        bytes_max=1 << 30,
        oldest=NOON,
        uncommitted=3,
        oldest_uncommitted_s=4,
        dropped=0,
        damaged_groups=1,
        unresolved=0,
    ),
    clock=ClockStatus(trusted=False, wall=NOON, uptime_s=60),
    flexmeasures=FlexMeasuresStatus(
        paired=True,
        url="https://fm.example",
        paired_as="box@example",
        server_version="1.0.1",
        site="Home",
        sensors=1,
        last_accepted=NOON,
        slots_accepted=5,
        slots_waiting=2,
        slots_rejected=0,
        slots_dropped=3,
        slots_per_minute=200,
        oldest_waiting=NOON,
        catching_up_percent=50,
        done_by=NOON + timedelta(minutes=5),
        last_error="the password was refused",
        advice="pair again",
    ),
    rejected=[],
    counts={},
)


@contextmanager
def answering(folder: Path, code: int, body: str) -> Iterator[Path]:
    """A one-answer agent on a Unix socket; yields the settings file that names it."""
    (folder / "agent.toml").write_text(f"runtime_dir = '{folder}'\n")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "agent.sock"))
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            head = f"HTTP/1.1 {code} X\r\nContent-Length: {len(body.encode())}\r\n\r\n"
            connection.sendall(head.encode() + body.encode())

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield folder / "agent.toml"
    finally:
        thread.join()
        listener.close()


def test_status_for_people_says_what_is_wrong_and_what_to_do() -> None:
    text = as_text(STATUS)
    assert "NOT trusted" in text
    assert "Washing machine 1: 420 W 12 s ago → sensor 7" in text
    assert "→ pair again" in text
    assert "a damaged file was set aside" in text
    assert "9 believed, 2 of them after a second one agreed, 1 counter resets, 4 of chan" in text
    assert "1 damaged groups of readings are left out" in text
    assert "0 rejected, 3 dropped in a full buffer" in text
    assert "catching up: 50 %, 200 slots a minute, 5 min left" in text


def test_status_for_programs_is_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(tmp_path, 200, STATUS.model_dump_json()) as config:
        assert main(["--config", str(config), "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "flexbox"


def test_refusal_of_the_agent_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    no = Problem(code="refused", text="pair the box first").model_dump_json()
    with answering(tmp_path, 409, no) as config:
        assert main(["--config", str(config), "status"]) == 1
    assert capsys.readouterr().err == "edge: pair the box first\n"


@pytest.mark.parametrize(("code", "body"), [(500, "<html>"), (200, "{}x")])
def test_unreadable_answer_is_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code: int, body: str
) -> None:
    with answering(tmp_path, code, body) as config:
        assert main(["--config", str(config), "status"]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_agent_that_is_not_running_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "agent.toml").write_text(f"runtime_dir = '{tmp_path}'\n")
    assert main(["--config", str(tmp_path / "agent.toml"), "status"]) == 1
    assert "is it running?" in capsys.readouterr().err


def test_check_names_every_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "agent.toml").write_text("a = 1\nb = 2\n")
    assert main(["--config", str(tmp_path / "agent.toml"), "check"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 2
