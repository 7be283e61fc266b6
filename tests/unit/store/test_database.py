import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from edge.errors import StoreBroken
from edge.store.damage import ASIDE_MAX
from edge.store.database import Connection, Database, Layout
from edge.store.schema import Schema, Tables

PLAIN, PRECIOUS = Layout(), Layout(good_copy=True)
NOTES = Schema("notes")


@NOTES.step
def notes(db: Tables) -> None:
    db.table("note").create({"id": int, "text": str}, pk="id")


async def open_notes(path: Path, layout: Layout = PLAIN, *more: Schema) -> Database:
    return await Database.open(path, NOTES, *more, layout=layout)


async def write(database: Database, text: str) -> None:
    await database.atomically(lambda db: db.execute("INSERT INTO note (text) VALUES (?)", [text]))


async def read(database: Database) -> list[str]:
    return await database.run(lambda db: [text for (text,) in db.execute("SELECT text FROM note")])


async def written(path: Path, layout: Layout = PLAIN) -> Path:
    """A file with enough in it that each kind of damage hits something."""
    database = await open_notes(path, layout)
    for number in range(100):
        await write(database, f"{number} " + "x" * 500)
    await database.save_good_copy()
    await database.close()
    return path


def asides(folder: Path) -> list[Path]:
    return sorted(folder.glob("a.db.damaged-*"))


def _overwrite(at: int, data: bytes) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(at)
            file.write(data)

    return damage


DAMAGE: dict[str, Callable[[Path], None]] = {
    "zero length": lambda path: os.truncate(path, 0),
    "truncated": lambda path: os.truncate(path, 20_000),
    "cut in the first page": lambda path: os.truncate(path, 700),
    "wrong header": _overwrite(0, b"PK\x03\x04 this is no database"),
    "garbage page": _overwrite(8192, bytes(range(256)) * 16),
    "zeroed page": _overwrite(12_288, bytes(4096)),
}


async def test_pragmas_are_those_that_survive_a_power_cut(folder: Path) -> None:
    database = await open_notes(folder / "a.db")

    def pragma(name: str) -> Callable[[Connection], object]:
        return lambda db: db.execute(f"PRAGMA {name}").fetchone()[0]

    assert await database.run(pragma("journal_mode")) == "wal"
    assert await database.run(pragma("synchronous")) == 2
    assert await database.run(pragma("locking_mode")) == "exclusive"
    await database.close()


@pytest.mark.parametrize("kind", DAMAGE)
async def test_damaged_file_is_kept_aside_and_a_new_one_started(folder: Path, kind: str) -> None:
    path = await written(folder / "a.db")
    DAMAGE[kind](path)
    damaged = path.read_bytes()
    database = await open_notes(path)
    assert await read(database) == []
    assert database.problem is not None
    assert database.started_anew
    (aside,) = asides(folder)
    assert aside.name in database.problem
    assert aside.read_bytes() == damaged
    await write(database, "after")
    await database.close()
    database = await open_notes(path)
    assert await read(database) == ["after"]
    assert database.problem is None
    await database.close()


@pytest.mark.parametrize("kind", DAMAGE)
async def test_good_copy_takes_the_place_of_a_damaged_file(folder: Path, kind: str) -> None:
    path = await written(folder / "a.db", PRECIOUS)
    DAMAGE[kind](path)
    database = await open_notes(path, PRECIOUS)
    assert len(await read(database)) == 100
    assert database.problem is not None
    assert not database.started_anew
    await database.close()


@pytest.mark.parametrize("kind", DAMAGE)
async def test_damaged_good_copy_is_not_used(folder: Path, kind: str) -> None:
    path = await written(folder / "a.db", PRECIOUS)
    DAMAGE[kind](path)
    DAMAGE[kind](path.with_name("a.db.good"))
    database = await open_notes(path, PRECIOUS)
    assert await read(database) == []
    assert database.started_anew
    await database.close()


async def test_damage_found_while_running_is_repaired_while_running(folder: Path) -> None:
    path = await written(folder / "a.db")
    database = await open_notes(path)
    for at in range(4096, path.stat().st_size, 4096):
        _overwrite(at, bytes(range(256)) * 16)(path)
    assert await read(database) == []
    assert database.started_anew
    await write(database, "after")
    assert await read(database) == ["after"]
    await database.close()


async def test_torn_log_loses_nothing_that_was_committed_before(folder: Path) -> None:
    path = folder / "a.db"
    database = await open_notes(path)
    await write(database, "first")
    size = path.with_name("a.db-wal").stat().st_size
    await write(database, "second")
    torn = folder / "torn.db"
    torn.write_bytes(path.read_bytes())
    log = path.with_name("a.db-wal").read_bytes()
    torn.with_name("torn.db-wal").write_bytes(log[: size + 100] + bytes(len(log) - size - 100))
    await database.close()
    database = await open_notes(torn)
    assert await read(database) == ["first"]
    assert database.problem is None
    await database.close()


async def test_only_the_newest_damaged_files_are_kept(folder: Path) -> None:
    path = await written(folder / "a.db")
    for _ in range(ASIDE_MAX + 2):
        os.truncate(path, 0)
        await (await open_notes(path)).close()
    assert len(asides(folder)) == ASIDE_MAX


async def test_file_of_a_newer_release_is_no_damage_and_stays_whole(folder: Path) -> None:
    newer = Schema("notes")
    newer.step(notes)

    @newer.step
    def colour(db: Tables) -> None:
        db.table("note").add_column("colour", str)
        db.table("shelf").create({"id": int}, pk="id")

    path = folder / "a.db"
    database = await Database.open(path, newer, layout=PLAIN)
    await database.atomically(
        lambda db: db.execute("INSERT INTO note (text, colour) VALUES ('a', 'red')")
    )
    await database.close()
    older = await open_notes(path)
    await write(older, "b")
    assert await read(older) == ["a", "b"]
    assert older.problem is None
    await older.close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT colour FROM note").fetchall() == [("red",), (None,)]


async def test_failed_migration_leaves_no_half_and_the_box_runs(folder: Path) -> None:
    path = await written(folder / "a.db")
    broken = Schema("broken")

    @broken.step
    def half(db: Tables) -> None:
        db.table("half").create({"id": int}, pk="id")
        db.execute("INSERT INTO nowhere VALUES (1)")

    database = await open_notes(path, PLAIN, broken)
    assert database.problem is not None
    named_half = "SELECT 1 FROM sqlite_master WHERE name = 'half'"
    assert await database.run(lambda db: db.execute(named_half).fetchone()) is None
    assert len(await read(database)) == 100
    await database.close()


async def test_file_in_use_by_another_process_is_no_damage(folder: Path) -> None:
    path = await written(folder / "a.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreBroken, match="in use"):
            await Database.open(path, NOTES, layout=PLAIN, busy_max_s=0.01)
    assert asides(folder) == []


async def test_file_is_private(folder: Path) -> None:
    path = await written(folder / "state" / "a.db", PRECIOUS)
    assert path.stat().st_mode & 0o077 == 0
    assert path.with_name("a.db.good").stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


async def test_place_that_is_no_folder_gets_a_stand_in(folder: Path) -> None:
    (folder / "file").write_text("in the way")
    database = await open_notes(folder / "file" / "a.db")
    assert database.is_standing_in
    assert database.problem is not None
    await write(database, "kept in memory")
    assert await read(database) == ["kept in memory"]
    await database.close()


async def test_error_in_a_statement_is_no_fault_of_the_file(folder: Path) -> None:
    database = await open_notes(folder / "a.db")
    with pytest.raises(sqlite3.OperationalError):
        await database.run(lambda db: db.execute("SELECT * FROM nowhere"))
    assert database.problem is None
    await database.close()


async def test_transaction_that_fails_leaves_nothing(folder: Path) -> None:
    database = await open_notes(folder / "a.db")

    def half(db: Connection) -> None:
        db.executemany("INSERT INTO note (text) VALUES (?)", [[str(n)] for n in range(1_000)])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.atomically(half)
    assert await read(database) == []
    await database.close()
