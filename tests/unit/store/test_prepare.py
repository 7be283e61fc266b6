"""Tables are there before the agent opens its files; what is wrong is left for it to find."""

import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.store.buffer import PAGE_BYTES, Buffer
from edge.store.commands import CommandTable
from edge.store.outbox import Outbox
from edge.store.prepare import is_prepared, main, prepare
from edge.store.settings import Settings, open_state
from tests.house.fake_clock import FakeClock


def names(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as db:
        return {name for (name,) in db.execute("SELECT name FROM sqlite_master")}


def test_the_process_that_adds_tables_reads_the_bytecode_this_one_reads(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = folder / "asked"
    python = folder / "python"
    python.write_text(f'#!/bin/sh\necho "$PYTHONOPTIMIZE $*" >{asked}\n')
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    prepare(folder)
    assert asked.read_text() == f"{sys.flags.optimize} -m edge.store.prepare {folder}\n"


async def test_nothing_is_left_to_add_for_the_agent(folder: Path) -> None:
    assert not is_prepared(folder)
    main(folder)
    assert is_prepared(folder)
    before = {name: names(folder / name) for name in ("state.db", "buffer.db")}
    clock = FakeClock(datetime(2026, 6, 1, tzinfo=UTC))
    state = await open_state(folder / "state.db")
    settings = await Settings.open(state)
    await settings.put("kept", 1)
    await CommandTable.open(state)
    buffer = await Buffer.open(folder / "buffer.db", clock)
    await Outbox.open(buffer)
    await buffer.close()
    await state.close()
    assert {name: names(folder / name) for name in before} == before
    assert (folder / "state.db").stat().st_mode & 0o777 == 0o600


def test_pages_are_as_small_as_the_buffer_wants_them(folder: Path) -> None:
    main(folder)
    with closing(sqlite3.connect(folder / "buffer.db")) as db:
        assert db.execute("PRAGMA page_size").fetchone()[0] == PAGE_BYTES
        assert db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_file_of_an_earlier_release_gets_what_it_lacks_and_keeps_what_it_has(folder: Path) -> None:
    main(folder)
    with closing(sqlite3.connect(folder / "state.db")) as db:
        db.execute("DROP TABLE command")
        db.execute("DELETE FROM _sqlite_migrations WHERE migration_set = 'commands'")
        db.execute("INSERT INTO document (name, content) VALUES ('kept', '1')")
        db.commit()
    assert not is_prepared(folder)
    main(folder)
    with closing(sqlite3.connect(folder / "state.db")) as db:
        assert db.execute("SELECT content FROM document").fetchall() == [("1",)]
        assert db.execute("SELECT * FROM command").fetchall() == []


def test_damage_is_left_as_it_is_for_the_agent_to_find(folder: Path) -> None:
    main(folder)
    (folder / "state.db").write_bytes(b"")
    (folder / "buffer.db").write_bytes(b"not a database" * 100)
    assert is_prepared(folder)  # nothing that this could do
    main(folder)
    assert (folder / "state.db").read_bytes() == b""
    assert (folder / "buffer.db").read_bytes() == b"not a database" * 100


def test_file_that_another_process_holds_is_left_alone(folder: Path) -> None:
    main(folder)
    with closing(sqlite3.connect(folder / "state.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=exclusive")
        other.execute("BEGIN EXCLUSIVE")
        assert is_prepared(folder)
