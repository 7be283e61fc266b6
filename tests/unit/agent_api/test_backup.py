"""A backup holds what is needed, no secret without a passphrase, and opens no door."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from edge.agent_api.backup import BACKUP_BYTES_MAX, read
from edge.agent_api.backup_desk import NETWORK_KEYS, BackupDesk
from edge.agent_api.refusals import NotAllowed
from edge.credentials import Credentials
from edge.privileged import Privileged
from edge.store.settings import Settings, open_state
from tests.house.fake_clock import FakeClock

SECRET = "CANARY-password"
PASSPHRASE = "Sätze mit Umlauten"
MEMORY = "7e570001-20260301T120000.nvm"


class Box:
    """One box's backups over its own real store."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self.credentials = Credentials(folder / "credentials.json")
        self.desk = BackupDesk(
            folder,
            "1.2.3",
            settings,
            self.credentials,
            FakeClock(),
            Privileged(folder / "door"),
        )


@pytest_asyncio.fixture
async def boxes(tmp_path: Path) -> AsyncIterator[tuple[Box, Box]]:
    """The old box, set up; and a new one."""
    states = []
    found = []
    for name in ("old", "new"):
        folder = tmp_path / name
        folder.mkdir()
        states.append(await open_state(folder / "state.db"))
        found.append(Box(folder, await Settings.open(states[-1])))
    old, new = found
    await old.settings.put("pairing", {"url": "https://demo.flexmeasures.io"})
    await old.settings.put("claim", {"password": "scrypt:CANARY"})
    await old.settings.put("sessions", {"CANARY": {}})
    old.credentials.put("flexmeasures.password", SECRET)
    (old.folder / "zwave").mkdir()
    (old.folder / "zwave" / MEMORY).write_bytes(b"stick memory")
    yield old, new
    for state in states:
        await state.close()


async def test_documents_and_the_sticks_memory_come_back(boxes: tuple[Box, Box]) -> None:
    old, new = boxes
    answer = await new.desk.bring_back(await old.desk.take(""), "")
    assert await new.settings.get("pairing") == {"url": "https://demo.flexmeasures.io"}
    assert (new.folder / "zwave" / MEMORY).read_bytes() == b"stick memory"
    assert answer.secrets == 0


async def test_without_a_passphrase_no_secret_is_in_it(boxes: tuple[Box, Box]) -> None:
    assert b"CANARY" not in await boxes[0].desk.take("")


async def test_with_a_passphrase_secrets_are_in_it_and_not_to_be_seen(
    boxes: tuple[Box, Box],
) -> None:
    old, new = boxes
    content = await old.desk.take(PASSPHRASE)
    assert b"CANARY" not in content
    await new.desk.bring_back(content, PASSPHRASE)
    assert new.credentials.get("flexmeasures.password") == SECRET


async def test_a_wrong_passphrase_changes_nothing(boxes: tuple[Box, Box]) -> None:
    old, new = boxes
    with pytest.raises(NotAllowed, match="passphrase_wrong"):
        await new.desk.bring_back(await old.desk.take(PASSPHRASE), "another one")
    assert await new.settings.get("pairing") is None


async def test_who_owns_the_box_is_never_part_of_it(boxes: tuple[Box, Box]) -> None:
    old, new = boxes
    document = json.loads(await old.desk.take(""))
    document["documents"]["claim"] = {"password": "scrypt:of somebody else"}
    await new.desk.bring_back(json.dumps(document).encode(), "")
    assert await new.settings.get("claim") is None


async def test_a_backup_writes_no_file_of_another_name(boxes: tuple[Box, Box]) -> None:
    old, new = boxes
    document = json.loads(await old.desk.take(""))
    document["memories"] = dict.fromkeys(("../state.db", "/etc/x", "a.nvm"), "aGVsbG8=")
    await new.desk.bring_back(json.dumps(document).encode(), "")
    assert list((new.folder / "zwave").iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{}", b"PK\x03\x04", b'{"format": "other"}', b"[" * 99])
def test_what_is_no_backup_is_refused(content: bytes) -> None:
    with pytest.raises(NotAllowed, match="backup_unreadable"):
        read(content)


async def test_the_z_wave_keys_go_through_the_box_s_own_door(boxes: tuple[Box, Box]) -> None:
    """Asked for when the backup is made, handed back when it is restored."""
    old, new = boxes
    keys = {"securityKeys": {"S0_Legacy": "00" * 16}}
    asked: list[dict[str, object]] = []

    async def door(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(json.loads(await reader.readline()))
        answer = keys if asked[-1]["act"] == "driver-keys" else {}
        writer.write(json.dumps({"ok": True, **answer}).encode() + b"\n")
        await writer.drain()
        writer.close()

    doors = [await asyncio.start_unix_server(door, box.folder / "door") for box in boxes]
    content = await old.desk.take(PASSPHRASE)
    answer = await new.desk.bring_back(content, PASSPHRASE)
    for each in doors:
        each.close()
        await each.wait_closed()
    assert asked == [{"act": "driver-keys"}, {"act": "driver-keys-restore", **keys}]
    assert NETWORK_KEYS not in new.credentials.names()
    assert answer.secrets == 2


def test_the_bound_is_large_enough_for_five_copies_of_a_stick() -> None:
    assert BACKUP_BYTES_MAX // 2 > 5 * 256 * 1024
