"""The main job, whole: `make run` in the simulated house, against a real FlexMeasures."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest

from edge.cli.door import ask
from edge.contract import Done, Status
from edge.contract.control import (
    ControlHistory,
    ControlRequest,
    CurtailAnswer,
    CurtailRequest,
    DeviceRequest,
)
from tests.house import arrived
from tests.house.child import ROOT
from tests.house.flexmeasures.process import Account, FlexMeasuresServer
from tests.house.run.scene import Scene
from tests.house.run.screen import Screen
from tests.house.run.wishes import wishes


def variables(state: Path, **more: str) -> dict[str, str]:
    """Wishes with ports nobody uses."""
    ports = dict(zip(("PAGE_PORT", "FLEXMEASURES_PORT", "ZWAVE_PORT"), _free_ports(3), strict=True))
    return ports | {"STATE": str(state)} | more


def _free_ports(count: int) -> Iterator[str]:
    with_sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(each.getsockname()[1]) for each in with_sockets]
    for each in with_sockets:
        each.close()
    return iter(ports)


def run(state: Path, **more: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.house.run"],
        cwd=ROOT,
        env=os.environ | variables(state, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def left_running(state: Path) -> list[str]:
    """Command lines of processes that name the scene's folder, the asker excepted."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(state) in line:
            found.append(line)
    return found


def test_run_for_ends_with_figures_and_leaves_nothing_behind(tmp_path: Path) -> None:
    state = tmp_path / "state"
    first = run(state, RUN_FOR="40")
    out, errors = first.communicate(timeout=180)
    assert first.returncode == 0, out + errors
    figures = json.loads(out.splitlines()[-1])
    assert figures["readings_stored"] > 10_000
    assert figures["slots_accepted"] >= 6 * 280
    assert figures["slots_rejected"] == 0
    assert left_running(state) == []
    assert _second_start_finds_everything_again(state) >= figures["slots_accepted"]


def _second_start_finds_everything_again(state: Path) -> int:
    """Started once more on the same state and stopped by Ctrl-C; the slots accepted in all."""
    again = run(state)
    assert again.stdout is not None
    for line in again.stdout:
        if "Ctrl-C" in line:
            break
    again.send_signal(signal.SIGINT)
    out, errors = again.communicate(timeout=60)
    assert again.returncode == 0, out + errors
    assert left_running(state) == []
    return int(json.loads(out.splitlines()[-1])["slots_accepted"])


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"STICK": "/dev/no-such-stick"}, "no such port"),
        ({"HOUSE_DATA": "README.md"}, "not a readable gzip file"),
        ({"FLEXMEASURES_URL": "https://fm.example", "EMAIL": "me@fm.example"}, "at a terminal"),
    ],
)
def test_wish_that_cannot_be_is_one_line(tmp_path: Path, more: dict[str, str], says: str) -> None:
    line = failed_with_one_line(tmp_path / "state", "", **more)
    assert says in line


@pytest.mark.parametrize(
    ("who", "password", "says"),
    [
        ("nobody", "irrelevant", "knows no user"),
        ("owner", "not-the-password", "password"),
        ("plain", None, "make a site"),
        ("elsewhere", "irrelevant", "does not answer"),
    ],
)
def test_account_that_cannot_be_used_is_one_line_and_leaves_nothing(
    tmp_path: Path,
    flexmeasures_server: FlexMeasuresServer,
    who: str,
    password: str | None,
    says: str,
) -> None:
    owner = flexmeasures_server.make_account()
    user = flexmeasures_server.make_user(owner) if who == "plain" else owner
    url = "http://127.0.0.1:9" if who == "elsewhere" else flexmeasures_server.url
    email = "nobody@house.example" if who == "nobody" else user.email
    line = failed_with_one_line(
        tmp_path / "state", password or user.password, FLEXMEASURES_URL=url, EMAIL=email
    )
    assert says in line


def failed_with_one_line(state: Path, typed: str, **more: str) -> str:
    """What it says on the way out; nothing runs on, nothing lies about."""
    failed = subprocess.run(
        [sys.executable, "-m", "tests.house.run"],
        cwd=ROOT,
        env=os.environ | variables(state, RUN_FOR="5", **more),
        input=typed + "\n" if typed else "",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert failed.returncode != 0
    assert "Traceback" not in failed.stdout + failed.stderr
    assert len(failed.stderr.splitlines()) == 1, failed.stderr
    assert not state.exists()
    assert left_running(state) == []
    return failed.stderr


async def test_household_arrives_to_the_watt(
    tmp_path: Path, flexmeasures_server: FlexMeasuresServer
) -> None:
    """The stick's meters, and Smappee and the P1 port beside it. A slot of the P1 port takes up to
    ten minutes to be over, so that is looked at on the box (test_family_values.py: its values)."""
    account = flexmeasures_server.make_account()
    url = flexmeasures_server.url
    asked = wishes(variables(tmp_path / "state", FLEXMEASURES_URL=url, EMAIL=account.email))
    async with Scene(asked, Screen(StringIO()), account.password) as scene:
        status = await _caught_up(scene)
        assert status.flexmeasures.sensors == 12
        models = {device.model for device in status.devices if device.key.startswith("zwave/")}
        assert models == {"AEON Labs ZW095", "Aeotec Ltd. ZW175"}
        live = {channel.key: channel.value for channel in status.channels}
        assert live["p1/3153414731313030303037313930/0/active_power/export"] == 198.0
        await _curtailed_by_hand(scene, "zwave/7e570001-4")
        await _smappee_arrives(url, account)
        assert (await scene.status()).flexmeasures.slots_rejected == 0
    compared = await asyncio.to_thread(_compare, flexmeasures_server.url, account)
    assert compared > 6 * 270


async def _smappee_arrives(url: str, account: Account) -> None:
    """Two hours less the cloud's own delay, each interval as it was measured."""
    async with asyncio.timeout(120):
        while True:
            now = arrived.on_the_grid(datetime.now(UTC))
            found = await asyncio.to_thread(
                arrived.held, url, account, now - timedelta(hours=3), now
            )
            if all(len(found.get(sensor, {})) >= 20 for sensor in arrived.SMAPPEE):
                break
            await asyncio.sleep(3)
    assert arrived.smappee_is_off(found) == {}


async def _curtailed_by_hand(scene: Scene, plug: str) -> None:
    """What `edge curtail` and `edge give-back` ask, and what `edge status` then says."""
    allowed = ControlRequest(
        device=plug,
        is_used=True,
        consent=True,
        nominal_power_w=100,
        away_longest_min=60,
        rest_shortest_min=0,
        left_alone=[],
    )
    await asyncio.to_thread(ask, scene.socket, "PUT", "/control/device", Done, allowed)
    wanted = CurtailRequest(device=plug, minutes=15)
    answer = await asyncio.to_thread(
        ask, scene.socket, "POST", "/control/curtail", CurtailAnswer, wanted
    )
    assert answer.until > datetime.now(UTC) + timedelta(minutes=14)
    await _until_state(scene, "away")
    back = DeviceRequest(device=plug)
    await asyncio.to_thread(ask, scene.socket, "POST", "/control/give-back", Done, back)
    await _until_state(scene, "normal")
    history = await asyncio.to_thread(ask, scene.socket, "GET", "/control/history", ControlHistory)
    assert [(act.device, act.origin) for act in history.commands] == [(plug, "hand")]


async def _until_state(scene: Scene, state: str) -> None:
    async with asyncio.timeout(30):
        while True:
            control = (await scene.status()).control
            assert control is not None
            if [each.state for each in control.devices] == [state]:
                return
            await asyncio.sleep(0.2)


async def _caught_up(scene: Scene) -> Status:
    async with asyncio.timeout(120):
        while True:
            status = await scene.status()
            server = status.flexmeasures
            if server.slots_accepted >= 6 * 280 and not server.slots_waiting:
                return status
            await asyncio.sleep(1)


def _compare(url: str, account: Account) -> int:
    """Every slot FlexMeasures has, against the file; how many were compared. But for the first
    of each sensor: the box may have begun to measure in the middle of it."""
    now = arrived.on_the_grid(datetime.now(UTC))
    found = arrived.held(url, account, now - timedelta(hours=26), now)
    whole = {sensor: dict(sorted(values.items())[1:]) for sensor, values in found.items()}
    differences = arrived.differences_w(whole, before=now - timedelta(minutes=15))
    assert {place: by_w for place, by_w in differences.items() if abs(by_w) > 1} == {}
    return len(differences)
