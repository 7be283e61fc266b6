"""The house's FlexMeasures itself: it comes back with its data, and leaves nothing behind."""

import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.house.flexmeasures import FlexMeasuresServer, ServerTrouble

GONE_WITHIN_S = 10


def postgres_below(data: Path) -> list[str]:
    """The processes that have this data directory on their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(data) in command and "postgres" in command:
            found.append(command)
    return found


def wait_until_gone(data: Path) -> None:
    give_up_s = time.monotonic() + GONE_WITHIN_S
    while postgres_below(data) and time.monotonic() < give_up_s:
        time.sleep(0.05)
    assert postgres_below(data) == []


def test_killed_server_comes_back_with_its_data_on_its_port(tmp_path: Path) -> None:
    with FlexMeasuresServer(tmp_path / "a place" / ("deep" * 25)) as server:
        account = server.make_account("Home")
        url = server.url
        server.kill()
        server.start()
        assert server.url == url
        again = server.ensure_user("Home", account.email, "another", admin=True)
        assert again.user_id == account.user_id
        with urlopen(f"{url}/api/v3_0/health/ready", timeout=10) as answer:
            assert answer.status == 200
        assert postgres_below(tmp_path)
    wait_until_gone(tmp_path)


def test_server_ends_with_whoever_started_it(tmp_path: Path) -> None:
    code = f"""
import os, pathlib, time
from tests.house.flexmeasures import FlexMeasuresServer
server = FlexMeasuresServer(pathlib.Path({str(tmp_path)!r})).start()
os._exit(9)
"""
    owner = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120
    )
    assert owner.returncode == 9, owner.stderr
    wait_until_gone(tmp_path)


def test_trouble_at_the_start_is_one_clear_line(flexmeasures_server: FlexMeasuresServer) -> None:
    with pytest.raises(ServerTrouble) as caught:
        FlexMeasuresServer(port=flexmeasures_server.port).start()
    port = flexmeasures_server.port
    assert str(caught.value) == f"FlexMeasures: port {port} on 127.0.0.1: Address already in use"
