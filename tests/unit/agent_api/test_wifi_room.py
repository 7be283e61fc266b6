"""Wi-Fi from the page to nmcli: the room, the real door, and a script in nmcli's place."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, UnixConnector

from edge.agent_api.door import Application, serve
from edge.agent_api.wifi_room import WifiRoom
from edge.appliance import door
from edge.appliance.identity import Places
from edge.privileged import Privileged

# As NetworkManager 1.52 says it; which of its answers comes is told by the file "mood".
NMCLI = r"""#!/bin/sh
here=$(dirname "$0")
echo "$*" >>"$here/asked"
case "$*" in
  *"wifi list"*) printf '%s\n' '*:Home:82:WPA2' ' :Home:40:WPA2' ' :Ba\:kery:20:' ' ::60:WPA2' ;;
  *"connection up"*)
    case $(cat "$here/mood") in
      wrong) echo "Error: Connection activation failed: Secrets were required, but not provided" >&2
        exit 4 ;;
      gone) echo "Error: Connection activation failed: The Wi-Fi network could not be found" >&2
        exit 4 ;;
      odd) echo "Error: the moon is full" >&2; exit 4 ;;
    esac ;;
esac
"""


class Machine:
    """A box with Wi-Fi in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places = Places(folder / "data")
        (folder / "data" / "network").mkdir(parents=True)
        (folder / "net" / "wlan0" / "phy80211").mkdir(parents=True)
        (folder / "bin").mkdir()
        script = folder / "bin" / "nmcli"
        script.write_text(NMCLI)
        script.chmod(0o755)
        self.be("well")
        self.events: list[dict[str, str]] = []

    def be(self, mood: str) -> None:
        (self.folder / "bin" / "mood").write_text(mood)

    @property
    def file(self) -> Path:
        return self.folder / "data" / "network" / "preset.nmconnection"

    @asynccontextmanager
    async def door(self) -> AsyncIterator[Path]:
        """As systemd serves it: a process per connection there, a thread here."""

        async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            said = (await reader.readline()).decode()
            answer = await asyncio.to_thread(door.answer, said, self.places)
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
            writer.close()

        path = self.folder / "door"
        async with await asyncio.start_unix_server(answered, path):
            yield path

    async def ask(self, method: str, body: Any = None) -> tuple[int, Any]:
        async def note(_: str, __: str, detail: dict[str, str]) -> None:
            self.events.append(detail)

        async with self.door() as path:
            room = WifiRoom(Privileged(path), note, self.folder / "net")
            socket = self.folder / "agent.sock"
            runner = await serve(socket, Application(room.routes()), mode=0o600)
            try:
                sent = None if body is None else json.dumps(body)
                async with (
                    ClientSession(connector=UnixConnector(str(socket))) as session,
                    session.request(method, "http://agent/wifi", data=sent) as answer,
                ):
                    text = await answer.text()
                    return answer.status, json.loads(text) if text else None
            finally:
                await runner.close()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return found


async def test_networks_in_reach_are_listed_once_each_the_own_first(machine: Machine) -> None:
    _, view = await machine.ask("GET")
    found = [(each["network"], each["signal_percent"]) for each in view["networks"]]
    assert found == [("Home", 82), ("Ba:kery", 20)]
    assert [each["is_joined"] for each in view["networks"]] == [True, False]
    assert [each["is_open"] for each in view["networks"]] == [False, True]


async def test_a_network_is_joined_with_its_password(machine: Machine) -> None:
    status, _ = await machine.ask("POST", {"network": "Home", "password": "a long secret"})
    assert status == 204
    assert "psk=a long secret" in machine.file.read_text()
    assert machine.events == [{"network": "Home"}]


@pytest.mark.parametrize(
    ("mood", "code"),
    [("wrong", "wifi_password"), ("gone", "wifi_not_found"), ("odd", "wifi_failed")],
)
async def test_a_failed_join_says_why_and_the_box_stays_where_it_was(
    machine: Machine, mood: str, code: str
) -> None:
    await machine.ask("POST", {"network": "Home", "password": "a long secret"})
    before = machine.file.read_bytes()
    machine.be(mood)
    status, said = await machine.ask("POST", {"network": "Attic", "password": "another secret"})
    assert (status, said["code"]) == (409, code)
    assert "another secret" not in said["text"]
    assert machine.file.read_bytes() == before


async def test_a_first_join_that_fails_leaves_no_network_behind(machine: Machine) -> None:
    machine.be("wrong")
    await machine.ask("POST", {"network": "Home", "password": "a wrong secret"})
    assert not machine.file.exists()


async def test_a_password_no_network_can_have_is_not_tried(machine: Machine) -> None:
    status, said = await machine.ask("POST", {"network": "Home", "password": "short"})
    assert (status, said["code"]) == (422, "wifi_password_short")
    assert not (machine.folder / "bin" / "asked").exists()


async def test_a_network_can_be_forgotten(machine: Machine) -> None:
    await machine.ask("POST", {"network": "Home", "password": "a long secret"})
    assert (await machine.ask("DELETE"))[0] == 204
    assert not machine.file.exists()


async def test_a_box_without_wifi_offers_none(machine: Machine) -> None:
    (machine.folder / "net" / "wlan0" / "phy80211").rmdir()
    _, view = await machine.ask("GET")
    assert view["there"] is False
    status, said = await machine.ask("POST", {"network": "Home"})
    assert (status, said["code"]) == (409, "wifi_none")
