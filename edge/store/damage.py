"""What to do about database files that went bad: find out, put aside, bring back, make anew.

A file is made under another name and renamed when it is whole, so a file of no length is damage,
never a beginning.
"""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum, auto
from pathlib import Path

FILE_VERSION, COPY_VERSION = 1, 2  # user_version of a file, and of a good copy put in its place
ASIDE_MAX = 2  # files kept for a look at what happened; more would fill the card
_ASIDE = ".damaged-"
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_UNWRITABLE = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
}


class Kind(Enum):
    """What a database error says about the file."""

    DAMAGED = auto()
    UNWRITABLE = auto()
    FULL = auto()
    BUSY = auto()
    SOUND = auto()


def kind_of(fault: sqlite3.Error) -> Kind:
    code = getattr(fault, "sqlite_errorcode", 0) & 0xFF
    if code in _DAMAGED:
        return Kind.DAMAGED
    if code in _UNWRITABLE:
        return Kind.UNWRITABLE
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Kind.BUSY
    return Kind.FULL if code == sqlite3.SQLITE_FULL else Kind.SOUND


def find(path: Path, busy_max_s: float = 0) -> str | None:
    """What is wrong with an existing file, or None. Raises sqlite3.Error if it can't be read."""
    if path.stat().st_size == 0:
        return "it is empty"
    with contextlib.closing(sqlite3.connect(path, timeout=busy_max_s, isolation_level=None)) as db:
        try:
            db.execute("PRAGMA locking_mode=exclusive")
            first: str = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.DatabaseError as fault:
            if kind_of(fault) is Kind.DAMAGED:
                return str(fault)
            raise
    return None if first == "ok" else first.replace("\n", " ")


def create(path: Path, page_bytes: int) -> None:
    """An empty database in WAL mode at path, all of it or nothing."""
    new = path.with_name(f"{path.name}.new")
    for part in parts_of(new):
        part.unlink()
    with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as db:
        db.execute(f"PRAGMA page_size={page_bytes}")
        db.execute("PRAGMA journal_mode=wal")
        db.execute("PRAGMA synchronous=full")
        db.execute(f"PRAGMA user_version={FILE_VERSION}")
    new.chmod(0o600)
    _put_in_place(new, path)


def put_aside(path: Path) -> Path:
    """Rename the file and its log; return the new name. Only the newest few are kept."""
    stamp = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    aside = path.with_name(f"{path.name}{_ASIDE}{stamp:%Y%m%dT%H%M%S}")
    number = 1
    while aside.exists():
        number += 1
        aside = aside.with_name(f"{aside.name.partition('+')[0]}+{number}")
    for part in list(parts_of(path)):
        part.rename(aside.with_name(aside.name + part.name.removeprefix(path.name)))
    _sync(path.parent)
    kept = sorted(
        (file for file in path.parent.glob(f"{path.name}{_ASIDE}*") if _is_database(file)),
        key=lambda file: file.stat().st_ctime_ns,
    )
    for old in kept[:-ASIDE_MAX]:
        for part in list(parts_of(old)):
            part.unlink()
    return aside


def save_good_copy(db: sqlite3.Connection, path: Path) -> None:
    """Copy what is committed beside the file. A power cut leaves the old copy or the new one."""
    new = path.with_name(f"{path.name}.good.new")
    new.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(new)) as copy:
        db.backup(copy)
        copy.execute("PRAGMA journal_mode=delete")
        copy.execute(f"PRAGMA user_version={COPY_VERSION}")  # it tells itself from the file
    new.chmod(0o600)
    _put_in_place(new, _good_copy_of(path))


def restore_good_copy(path: Path) -> bool:
    """Put the last good copy in the place of the file; False where there is none."""
    good = _good_copy_of(path)
    if not good.exists() or find(good) is not None:
        return False
    new = path.with_name(f"{path.name}.new")
    shutil.copy(good, new)
    _put_in_place(new, path)
    return True


def bytes_of(db: sqlite3.Connection) -> int:
    pages: int = db.execute("PRAGMA page_count").fetchone()[0]
    page_bytes: int = db.execute("PRAGMA page_size").fetchone()[0]
    return pages * page_bytes


def parts_of(path: Path) -> Iterator[Path]:
    """The file and what SQLite keeps beside it, as far as they exist."""
    for ending in ("", "-wal", "-shm", "-journal"):
        part = path.with_name(path.name + ending)
        if part.exists():
            yield part


def versions_of(path: Path) -> list[Path]:
    """The file and its good copy, as far as they exist."""
    return [version for version in (path, _good_copy_of(path)) if version.exists()]


def _is_database(path: Path) -> bool:
    return not path.name.endswith(("-wal", "-shm", "-journal"))


def _good_copy_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.good")


def _put_in_place(new: Path, path: Path) -> None:
    _sync(new)
    new.rename(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
