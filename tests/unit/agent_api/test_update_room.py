"""The room for updates, in front of a real socket and a folder that stands for the box."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, UnixConnector

from edge.agent_api.door import Application, serve
from edge.agent_api.update_room import Places, UpdateRoom
from edge.privileged import Privileged
from tests.house.fake_clock import FakeClock

BUNDLE = b"manifest.json\0" + bytes(5000)


class Box:
    """A box's folder; `away` says whether a device is switched off."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.door = folder / "door"
        self.door.touch()
        self.places = Places(
            folder / "update", folder, folder / "progress.json", folder / "result.json"
        )
        (folder / "release.json").write_text('{"board": "pi", "release": "r1"}')
        (folder / "release-address").write_text("https://updates.example/")
        (folder / "update-key.pem").write_text("-----BEGIN-----\nQUJD\n-----END-----\n")
        self.away = False
        self.events: list[str] = []

    def room(self, release: str = "r1") -> UpdateRoom:
        async def note(kind: str, text: str, _: dict[str, str]) -> None:
            self.events.append(f"{kind}: {text}")

        return UpdateRoom(
            self.places,
            release,
            "2030-01-01",
            Privileged(self.door),
            lambda: self.away,
            FakeClock(),
            note,
        )


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


async def asked(box: Box, method: str, path: str, body: Any = None, release: str = "r1") -> Any:
    """The status and the answer."""
    socket = box.folder / "agent.sock"
    runner = await serve(socket, Application(box.room(release).routes()), mode=0o600)
    try:
        async with (
            ClientSession(connector=UnixConnector(str(socket))) as session,
            session.request(method, f"http://agent{path}", data=body) as answer,
        ):
            text = await answer.text()
            return answer.status, json.loads(text) if text else None
    finally:
        await runner.close()


async def shown(box: Box, release: str = "r1") -> dict[str, Any]:
    status, view = await asked(box, "GET", "/updates", release=release)
    assert status == 200
    found: dict[str, Any] = view
    return found


async def test_a_bundle_that_arrived_whole_lies_where_systemd_looks(box: Box) -> None:
    assert (await asked(box, "POST", "/updates/bundle", BUNDLE))[0] == 204
    assert box.places.bundle.read_bytes() == BUNDLE
    assert (await shown(box))["busy"] == "handed_in"
    assert box.events == ["update: an update was handed in"]


async def test_a_file_that_is_no_bundle_leaves_nothing_behind(box: Box) -> None:
    status, said = await asked(box, "POST", "/updates/bundle", b"PK\x03\x04" + bytes(500))
    assert (status, said["code"]) == (422, "update_unreadable")
    assert list(box.places.update.iterdir()) == []


async def test_a_bundle_larger_than_a_system_is_not_even_read(box: Box) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield BUNDLE

    status, said = await asked(box, "POST", "/updates/bundle", endless())  # without a length
    assert (status, said["code"]) == (413, "update_too_large")


async def test_one_update_at_a_time(box: Box) -> None:
    box.places.progress.write_text('{"state": "writing", "release": "r2", "percent": 40}')
    status, said = await asked(box, "POST", "/updates/bundle", BUNDLE)
    assert (status, said["code"]) == (409, "update_busy")
    view = await shown(box)
    assert (view["busy"], view["coming"], view["percent"]) == ("writing", "r2", 40)


async def test_on_a_machine_that_is_no_box_nothing_is_installed(box: Box) -> None:
    box.door.unlink()
    status, said = await asked(box, "POST", "/updates/bundle", BUNDLE)
    assert (status, said["code"]) == (409, "update_no_box")
    assert (await shown(box))["possible"] is False


async def test_what_became_of_the_last_update_is_told(box: Box) -> None:
    box.places.result.write_text('{"release": "r2", "outcome": "gone back", "text": "no answer"}')
    result = (await shown(box))["result"]
    assert (result["release"], result["outcome"]) == ("r2", "gone_back")


async def test_a_device_that_is_away_is_told_as_the_reason_to_wait(box: Box) -> None:
    box.away = True
    assert (await shown(box))["held_back"] is True


async def test_nightly_updates_are_on_until_somebody_opts_out(box: Box) -> None:
    assert (await shown(box))["nightly"] is True
    assert (await asked(box, "PUT", "/updates/nightly", '{"on": false}'))[0] == 204
    assert (box.places.update / "opted-out").exists()  # where edge.appliance.release looks
    assert (await shown(box))["nightly"] is False
    await asked(box, "PUT", "/updates/nightly", '{"on": true}')
    assert (await shown(box))["nightly"] is True


async def test_who_signs_is_shown_and_a_development_key_is_called_so(box: Box) -> None:
    view = await shown(box, "r1-development")
    assert view["is_development"] is True
    assert view["signer"].startswith("b5d4 045c")  # the SHA-256 of ABC
    assert (await shown(box))["is_development"] is False


async def test_files_of_the_updater_that_cannot_be_read_are_no_fault(box: Box) -> None:
    box.places.progress.write_bytes(b"\xff\xfe")
    box.places.result.write_text("[1]")
    (box.folder / "update-key.pem").write_text("not a key")
    view = await shown(box)
    assert (view["busy"], view["result"], view["signer"]) == ("", None, "")


async def test_the_act_of_a_drive_goes_through_the_door(box: Box) -> None:
    box.door.unlink()
    heard: list[str] = []

    async def door(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append((await reader.readline()).decode())
        writer.write(b'{"ok": true}\n')
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(door, box.door):
        assert (await asked(box, "POST", "/updates/usb"))[0] == 204
    assert json.loads(heard[0]) == {"act": "usb-install"}
