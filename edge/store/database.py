"""One SQLite file, with one thread and one connection of its own.

Opens it safely (WAL, synchronous=FULL, bounded), brings its schema up to date, and keeps the box
running when the file lets it down: a damaged file is renamed aside and a new one (or the last good
copy) takes its place; a read-only or failing card gets a stand-in in memory. Each time `problem`
says so. Nothing outside this room sees a connection.
"""

import asyncio
import contextlib
import logging
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate

from edge.errors import StoreBroken
from edge.store import damage
from edge.store.ballast import Ballast
from edge.store.schema import Schema

log = logging.getLogger(__name__)

BUSY_MAX_S = 10.0  # an agent that is just leaving still holds the file
STAND_IN_BYTES_MAX = 16 << 20  # what a Pi with 512 MB can spare while its card is read-only
WAL_BYTES_MAX = 256 << 10  # a small log that is used again costs the card less than a long one

type Connection = sqlite3.Connection
type Work[**P, T] = Callable[Concatenate[Connection, P], T]


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file lies on the card. `good_copy`: keep one, and go back to it after damage.
    `ballast`: hold space to throw away, so that the file stays usable on a full card."""

    page_bytes: int = 4096
    bytes_max: int = 64 << 20
    checkpoint_pages: int = 64
    good_copy: bool = False
    ballast: bool = False


class Database:
    """The file at `path`. Work is a function that gets the connection; it runs in our thread."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path = path
        self.problem: str | None = None  # the sentence for the health page
        self.started_anew = False  # damage, and nothing could be brought back
        self._layout = layout
        self._schemas: list[Schema] = []
        self._listeners: list[Callable[[Connection], None]] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=path.stem)
        self._db: Connection | None = None
        self._standing_in = False
        self._busy_max_s = BUSY_MAX_S
        self._ballast = Ballast(path)
        self.full_card: str | None = None

    @classmethod
    async def open(
        cls,
        path: Path,
        *schemas: Schema,
        layout: Layout,
        busy_max_s: float = BUSY_MAX_S,
    ) -> "Database":
        """Raises StoreBroken only where nothing helps: another process holds the file."""
        database = cls(path, layout)
        database._busy_max_s = busy_max_s
        database._schemas += schemas
        try:
            await database._in_thread(database._start)
        except BaseException:
            database._thread.shutdown(wait=False)
            raise
        return database

    async def migrate(self, *schemas: Schema) -> None:
        """Add the tables of another part of the room; not while a transaction is open."""

        def add(db: Connection) -> None:
            for schema in schemas:
                self._bring_up_to_date(db, schema)
                self._schemas.append(schema)

        await self.run(add)

    async def listen(self, load: Callable[[Connection], None]) -> None:
        """Call load now, and again whenever the file was replaced or changes were taken back."""

        def add(db: Connection) -> None:
            load(db)
            self._listeners.append(load)

        await self.run(add)

    async def run[**P, T](self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do work in the thread. A file that fails is replaced, then the work is done once more.

        Raises sqlite3.Error for what is no fault of the file (SQLITE_FULL is one of them).
        """
        return await self._in_thread(lambda: self.guarded(work, *args, **kwargs))

    async def atomically[**P, T](self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """run() in a transaction: all of it is on the card when this returns, or none of it."""

        def transaction(db: Connection) -> T:
            with db:  # commits, or takes all of it back
                db.execute("BEGIN")
                return work(db, *args, **kwargs)

        return await self.run(transaction)

    async def save_good_copy(self) -> None:
        """Keep what stands in the file now as the copy to go back to after damage."""
        if not self._standing_in:
            await self._in_thread(self._save_good_copy)

    async def close(self) -> None:
        """Leave the file; work that was not committed is gone."""
        await self._in_thread(self._leave)
        self._thread.shutdown()

    @property
    def is_standing_in(self) -> bool:
        """Whether everything is in memory only, because the card can't be written."""
        return self._standing_in

    # --- in the thread --------------------------------------------------------------------------

    def guarded[**P, T](self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """run(), for those who are in the thread already."""
        try:
            return work(self._connection, *args, **kwargs)
        except sqlite3.DatabaseError as fault:
            self._roll_back()
            if self._make_room(fault):
                return self.guarded(work, *args, **kwargs)
            if not self._replace(fault):
                self._tell(self._connection)
                raise
        return work(self._connection, *args, **kwargs)

    def take_back(self) -> None:
        """Undo what is not committed, and let every listener know."""
        self._roll_back()
        self._tell(self._connection)

    def bound_to_card(self) -> bool:
        """After SQLITE_FULL: if it is the card that is full, let the file live in the pages it has
        until there is space again; False if the file itself is at its bound."""
        connection = self._connection
        pages, pages_max = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "max_page_count")
        )
        if pages >= pages_max or self._standing_in:
            return False
        self._roll_back()
        self._ballast.drop()
        with contextlib.suppress(sqlite3.OperationalError):  # others took the space meanwhile
            connection.execute("PRAGMA wal_checkpoint(truncate)")
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages}")
        self.full_card = f"the card is full: {self.path.name} drops its oldest to take in the new"
        log.warning(self.full_card)
        return True

    def unbind_when_free(self) -> None:
        """Undo bound_to_card() once there is space for the ballast."""
        if self.full_card is not None and self._ballast.take():
            self.full_card = None
            self._bind(self._connection)

    @property
    def _connection(self) -> Connection:
        if self._db is None:
            raise StoreBroken(f"{self.path.name} is closed")
        return self._db

    async def _in_thread[T](self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _start(self) -> None:
        """Open the file, or what can stand for it: the good copy, a new one, memory."""
        try:
            if self.path.exists() and (wrong := damage.find(self.path, self._busy_max_s)):
                self._put_aside(wrong)
            self._open_file()
        except (sqlite3.DatabaseError, OSError) as fault:
            if isinstance(fault, sqlite3.Error) and damage.kind_of(fault) is damage.Kind.BUSY:
                self._leave()
                raise StoreBroken(f"{self.path} is in use by another process") from fault
            self._stand_in(str(fault))

    def _open_file(self) -> None:
        if not self.path.exists():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            damage.create(self.path, self._layout.page_bytes)
        if self._layout.ballast:
            has_room = self._ballast.take()
            self.full_card = None if has_room else f"the card is full: {self.path.name} can't grow"
        self._adopt(sqlite3.connect(self.path, timeout=self._busy_max_s, isolation_level=None))

    def _adopt(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        for pragma in (
            "locking_mode=exclusive",  # no shared memory file: one process, one connection
            "journal_mode=wal",
            "synchronous=full",  # of the cheap modes the only one that survives a power cut
            f"wal_autocheckpoint={self._layout.checkpoint_pages}",
            f"journal_size_limit={WAL_BYTES_MAX}",
            "cache_size=-1000",  # KiB
            "temp_store=memory",
            "secure_delete=off",  # Debian turns it on: every freed page would be written once more
        ):
            connection.execute(f"PRAGMA {pragma}")
        self._bind(connection)
        connection.execute("BEGIN IMMEDIATE")  # finds a read-only card now
        connection.execute("ROLLBACK")
        for schema in self._schemas:
            self._bring_up_to_date(connection, schema)
        self._tell(connection)

    def _bring_up_to_date(self, db: Connection, schema: Schema) -> None:
        """Additive only, and what a newer release added is left alone. A step that fails leaves
        nothing behind and takes only those parts down that need it, never the box."""
        try:
            schema.bring_up_to_date(db)
        except sqlite3.OperationalError as fault:
            if damage.kind_of(fault) is not damage.Kind.SOUND:
                raise
            self.problem = f"{self.path.name} lacks what this release adds ({fault})"
            log.exception(self.problem)

    def _bind(self, connection: sqlite3.Connection) -> None:
        bytes_max = STAND_IN_BYTES_MAX if self._standing_in else self._layout.bytes_max
        page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={bytes_max // page_bytes}")

    def _tell(self, db: Connection) -> None:
        for load in self._listeners:
            load(db)

    def _roll_back(self) -> None:
        if self._db is not None and self._db.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")

    def _replace(self, fault: sqlite3.Error) -> bool:
        """Put something usable in the place of a file that failed; False if the file is sound."""
        kind = damage.kind_of(fault)
        if kind is damage.Kind.DAMAGED:
            try:
                self._put_aside(str(fault))
                self._open_file()
            except (sqlite3.DatabaseError, OSError) as second:
                self._stand_in(f"{fault}; {second}")
            return True
        if self._standing_in:
            return False
        if kind is damage.Kind.UNWRITABLE or (kind is damage.Kind.FULL and self._layout.good_copy):
            self._stand_in(str(fault))
            return True
        return False

    def _make_room(self, fault: sqlite3.Error) -> bool:
        """Whether a full card has room again for what must be kept (a claim): the ballast's."""
        is_full = damage.kind_of(fault) is damage.Kind.FULL and self._layout.good_copy
        return is_full and not self._standing_in and self._ballast.drop()

    def _save_good_copy(self) -> None:
        """A card too full for a new copy keeps the one it has: the file itself is sound."""
        try:
            damage.save_good_copy(self._connection, self.path)
        except (sqlite3.DatabaseError, OSError) as fault:
            if isinstance(fault, sqlite3.Error) and self._make_room(fault):
                self._save_good_copy()
                return
            log.warning("%s: no new copy was made (%s)", self.path.name, fault)
        else:
            if self._layout.ballast:
                self._ballast.take()

    def _put_aside(self, wrong: str) -> None:
        self._leave()
        aside = damage.put_aside(self.path)
        self.problem = f"{self.path.name} was damaged ({wrong}) and is kept as {aside.name}"
        if self._layout.good_copy and damage.restore_good_copy(self.path):
            self.problem += "; the last good copy is in use"
        else:
            self.started_anew = True
            self.problem += "; a new one was started"
        log.error(self.problem)

    def _stand_in(self, wrong: str) -> None:
        """Go on in memory with what the card holds, if that can be read and is not too much."""
        memory = sqlite3.connect(":memory:", isolation_level=None)
        memory.execute(f"PRAGMA page_size={self._layout.page_bytes}")
        copied = self._db is not None and _copy(self._db, memory)
        self._leave()
        copied = copied or self._copy_card(memory)
        self._standing_in = True
        self.started_anew = self.started_anew or not copied
        self._adopt(memory)
        lasts = "kept in memory only, until the next start"
        self.problem = f"{self.path.name} can't be written ({wrong}): {lasts}"
        log.error(self.problem)

    def _copy_card(self, memory: sqlite3.Connection) -> bool:
        """Whether memory now holds all there was on the card: the file, or its good copy."""
        try:
            versions = damage.versions_of(self.path)
        except OSError:
            return False
        for path in versions:
            with contextlib.suppress(OSError), tempfile.TemporaryDirectory() as folder:
                for part in damage.parts_of(path):  # elsewhere, because its log may need repair
                    shutil.copy(part, folder)
                copy = Path(folder, path.name)
                if damage.find(copy) is None:
                    with contextlib.closing(sqlite3.connect(copy)) as source:
                        if _copy(source, memory):
                            return True
        return not versions

    def _leave(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None


def _copy(source: sqlite3.Connection, memory: sqlite3.Connection) -> bool:
    """Whether memory now holds all that source holds."""
    try:
        if damage.bytes_of(source) > STAND_IN_BYTES_MAX:
            return False
        source.backup(memory)
    except sqlite3.Error:
        return False
    return True


__all__ = ["Connection", "Database", "Layout"]
