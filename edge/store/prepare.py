"""Give both files their tables before they are opened, by a process that ends again.

What adds tables (schema.py) need not stay in memory for the life of the box. Whatever goes wrong
here is passed over: the agent finds it again when it opens the files, and deals with it there.
"""

import contextlib
import os
import sqlite3
import subprocess
import sys
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

_FILES: dict[str, tuple[int, tuple[Schema, ...]]] = {
    "state.db": (Layout().page_bytes, (STATE, COMMANDS)),
    "buffer.db": (PAGE_BYTES, (BOOTS, READINGS, OUTBOX)),
}


def prepare(folder: Path) -> None:
    """Bring the files in folder up to date; costs nothing where they are."""
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
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        damage.create(path, page_bytes)
    elif damage.find(path):
        return
    with _opened(path) as db:
        for schema in schemas:
            schema.bring_up_to_date(db)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    # A file that somebody holds is not waited for: the agent, which must have it, will.
    with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as db:
        db.execute("PRAGMA locking_mode=exclusive")
        db.execute("PRAGMA synchronous=full")
        yield db


if __name__ == "__main__":
    main(Path(sys.argv[1]))
