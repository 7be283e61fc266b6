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
from edge.store.prepare import is_prepared, main, prepare, write_down
from edge.store.settings import Settings, open_state
from tests.house.fake_clock import FakeClock


def names(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as db:
        return {name for (name,) in db.execute("SELECT name FROM sqlite_master")}


def tables(path: Path) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(path)) as db:
        made = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
        taken = "SELECT migration_set, name FROM _sqlite_migrations ORDER BY rowid"
        laid_out = [
            db.execute(f"PRAGMA {each}").fetchone() for each in ("page_size", "user_version")
        ]
        return [*db.execute(made), *db.execute(taken), *laid_out]


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


def test_what_the_image_has_written_down_spares_the_process_and_makes_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, spared, again = folder / "usual", folder / "spared", folder / "again"
    main(usual)
    write_down(folder / "tables")
    write_down(again)
    monkeypatch.setattr(sys, "executable", "/nothing/there")
    prepare(spared, folder / "tables")
    assert is_prepared(spared)
    for name in ("state.db", "buffer.db"):
        assert tables(spared / name) == tables(usual / name)
        assert oct((spared / name).stat().st_mode) == oct((usual / name).stat().st_mode)
        written = f"{name}.sql"
        assert (folder / "tables" / written).read_bytes() == (again / written).read_bytes()


def test_file_that_a_power_cut_left_without_tables_gets_them_from_the_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = folder / "broken"
    write_down(broken)
    with (broken / "state.db.sql").open("a") as words:
        words.write("\nBEGIN; DELETE FROM _sqlite_migrations; this is no SQL;")
    (broken / "buffer.db.sql").write_text("BEGIN; CREATE TABLE half (id int);")
    prepare(folder / "state", broken)
    assert is_prepared(folder / "state")
    assert "half" not in names(folder / "state" / "buffer.db")


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
