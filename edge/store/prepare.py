"""Give both files their tables before they are opened, by a process that ends again.

What adds tables (schema.py) need not stay in memory for the life of the box. A new file does even
without that process where the image says in SQL what it would make: half of a first start. Whatever
goes wrong here is passed over: the agent finds it again when it opens the files, and deals with it.
"""

import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edge.store import damage
from edge.store.boots import BOOTS
from edge.store.buffer import PAGE_BYTES
from edge.store.commands import COMMANDS
from edge.store.database import Layout
from edge.store.readings import READINGS
from edge.store.schema import Schema
from edge.store.settings import STATE
from edge.store.slots import OUTBOX

WITHIN_S = 60.0  # a slow card
WRITTEN_DOWN = Path(__file__).with_name("tables")  # by write_down(), while the image is made

_FILES: dict[str, tuple[int, tuple[Schema, ...]]] = {
    "state.db": (Layout().page_bytes, (STATE, COMMANDS)),
    "buffer.db": (PAGE_BYTES, (BOOTS, READINGS, OUTBOX)),
}


def prepare(folder: Path, written_down: Path = WRITTEN_DOWN) -> None:
    """Bring the files in folder up to date; costs nothing where they are."""
    for name, (page_bytes, _) in _FILES.items():
        tables = written_down / f"{name}.sql"
        if tables.exists() and not (folder / name).exists():
            with contextlib.suppress(sqlite3.Error, OSError):
                _make(folder / name, page_bytes)
                with _opened(folder / name) as db:
                    db.executescript(tables.read_text(encoding="utf-8"))  # one transaction
    if not is_prepared(folder):
        command = [sys.executable, "-m", "edge.store.prepare", str(folder)]
        # As this process runs: the image has bytecode of one kind only, and compiling takes longer
        # than all the rest of a start.
        alike = os.environ | {"PYTHONOPTIMIZE": str(sys.flags.optimize)}
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(command, timeout=WITHIN_S, check=False, env=alike)  # noqa: S603 # ours


def is_prepared(folder: Path) -> bool:
    """Whether there is nothing to add; true also of files that only the agent can mend."""
    return all(_is_up_to_date(folder / name, schemas) for name, (_, schemas) in _FILES.items())


def main(folder: Path) -> None:
    """What that process does."""
    for name, (page_bytes, schemas) in _FILES.items():
        with contextlib.suppress(sqlite3.Error, OSError):
            _bring_up_to_date(folder / name, page_bytes, schemas)


def write_down(written_down: Path) -> None:
    """What that process makes of new files, as SQL that is the same each time."""
    written_down.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
        for name in _FILES:
            with _opened(Path(folder, name)) as db:
                db.execute("UPDATE _sqlite_migrations SET applied_at = 'when the image was made'")
                tables = "\n".join(db.iterdump())
            (written_down / f"{name}.sql").write_text(tables, encoding="utf-8")


def _is_up_to_date(path: Path, schemas: tuple[Schema, ...]) -> bool:
    if not path.exists():
        return False
    with contextlib.suppress(sqlite3.Error, OSError):
        if path.stat().st_size:
            with _opened(path) as db:
                return all(schema.is_in(db) for schema in schemas)
    return True


def _bring_up_to_date(path: Path, page_bytes: int, schemas: tuple[Schema, ...]) -> None:
    if not path.exists():
        _make(path, page_bytes)
    elif damage.find(path):
        return
    with _opened(path) as db:
        for schema in schemas:
            schema.bring_up_to_date(db)


def _make(path: Path, page_bytes: int) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    damage.create(path, page_bytes)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    # A file that somebody holds is not waited for: the agent, which must have it, will.
    with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as db:
        db.execute("PRAGMA locking_mode=exclusive")
        db.execute("PRAGMA synchronous=full")
        yield db


if __name__ == "__main__":
    main(Path(sys.argv[1]))
