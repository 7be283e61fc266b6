"""Readings on their way to FlexMeasures, in buffer.db.

put() takes a reading into memory; commit() writes all of them, and every change the outbox made
meanwhile, as one transaction: one packed row, one sync of the card. "Stored" means committed. Until
they are, `oldest_uncommitted` shows how much a power cut would cost. The file is bounded: when it
is full the oldest readings go, counted. A commit that fails takes everything back to the last one;
readings stay in memory and are written with the next, the outbox is asked again by its user.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from edge.clock import Clock
from edge.errors import Unreachable
from edge.model import BoxTime, Sample
from edge.store import damage
from edge.store.boots import BOOTS, Boots
from edge.store.database import Connection, Database, Layout
from edge.store.readings import (
    MILLISECOND,
    READINGS,
    Readings,
    count_up,
    epoch_ms,
    total,
    utc,
)

log = logging.getLogger(__name__)

COMMIT_EVERY = timedelta(seconds=30)
BYTES_MAX = 64 << 20  # about a month of 30 series every 10 s
PAGE_BYTES = 1024
CHECKPOINT_PAGES = 128
PENDING_MAX = 20_000  # readings that wait in memory while the card takes none: two hours of 30
# series every 10 s, 4 MB
FORGET_EVERY = timedelta(minutes=20)  # each time touches pages all over the file
ROOM_GROUPS = 16  # how many groups go at once when the file is full
ROOM_TRIES_MAX = 4


@dataclass(frozen=True, slots=True)
class BufferStats:
    """How the buffer stands. Counts of readings, unless the name says otherwise."""

    stored: int
    stored_since_start: int
    uncommitted: int
    oldest: datetime | None
    oldest_uncommitted: timedelta | None
    held_without_time: int
    dropped_full: int
    dropped_memory: int
    damaged_groups: int
    file_bytes: int
    free_bytes: int
    bytes_max: int
    problem: str | None


class Guest(Protocol):
    """Another part with tables in buffer.db, whose changes are committed with ours."""

    def load(self, db: Connection) -> None:
        """Forget what was known of the file and read it anew: changes were taken back."""

    def before_commit(self, db: Connection) -> None:
        """Write what is left to write."""

    def committed(self) -> None:
        """Everything is on the card."""

    def make_room(self, db: Connection) -> int:
        """The file is full and no readings are left: drop the oldest; return how many rows."""


class Buffer:
    """The readings. put() may be called from any thread, everything else from the loop."""

    def __init__(self, database: Database, clock: Clock, commit_every: timedelta) -> None:
        self.database = database
        self.clock = clock
        self._commit_every = commit_every
        self._boot_id = clock.boot_id()
        self._readings = Readings(Boots())
        self._guests: list[Guest] = []
        self._lock = threading.Lock()
        self._pending: list[tuple[str, BoxTime | datetime, float]] = []
        self._pending_since_ms: int | None = None
        self._dropped_memory = 0
        self._stored_since_start = 0
        self._fault: str | None = None
        self._forgot_before: datetime | None = None

    @classmethod
    async def open(
        cls,
        path: Path,
        clock: Clock,
        *,
        commit_every: timedelta = COMMIT_EVERY,
        bytes_max: int = BYTES_MAX,
    ) -> "Buffer":
        """Open or begin the file and register this boot. Raises StoreBroken if it is in use."""
        layout = Layout(PAGE_BYTES, bytes_max, CHECKPOINT_PAGES)
        database = await Database.open(path, BOOTS, READINGS, layout=layout)
        buffer = cls(database, clock, commit_every)
        await database.listen(buffer._load)
        await buffer.note_time()
        return buffer

    @property
    def boot(self) -> int:
        """The number of this boot, for BoxTime."""
        return self._readings.boots.current

    def put(self, channel_key: str, taken_at: BoxTime | datetime, value: float) -> None:
        """Take one reading into memory. Never blocks; a full memory drops its oldest, counted."""
        with self._lock:
            if self._pending_since_ms is None:
                self._pending_since_ms = self.clock.boottime_ms()
            self._pending.append((channel_key, taken_at, value))
            self._trim()

    async def run(self) -> None:
        """Commit for ever; a part for keep_running."""
        while True:
            await self.clock.sleep(self._commit_every)
            await self.note_time()
            await self.commit()

    async def commit(self) -> None:
        """Write what is pending and what the outbox changed. A card that takes nothing now is no
        error here: stats().problem says so, the readings wait."""
        try:
            await self.database.run(self._commit)
        except sqlite3.DatabaseError as fault:
            self._fault = f"the card takes nothing now ({fault}); readings wait in memory"
            log.warning(self._fault)
        else:
            self._fault = None

    async def note_time(self) -> None:
        """If the clock is trusted: this boot's readings have a time, those stored already too."""
        if self.clock.is_trusted():
            now_ms, wall_ms = self.clock.boottime_ms(), epoch_ms(self.clock.wall_now())
            await self.change(lambda db: self._readings.boots.note(db.conn, now_ms, wall_ms))

    def utc(self, moment: BoxTime) -> datetime | None:
        """Wall time of a moment on the box's clock, or None while that is not known."""
        at_ms = self._readings.boots.utc_ms(*moment)
        return None if at_ms is None else utc(at_ms)

    async def samples(
        self, keys: Collection[str], start: datetime, end: datetime
    ) -> dict[str, list[Sample]]:
        """Committed readings of [start, end) by channel key, in order of time. Every key is there.

        Cheapest for many keys and a few hours at once: it reads every group of that time.
        """
        return await self.database.run(lambda db: self._readings.samples(db.conn, keys, start, end))

    async def oldest(self, keys: Collection[str] | None = None) -> datetime | None:
        """When the oldest committed reading of these keys was taken; keys that have none cost a
        look at every group."""
        at_ms = await self.database.run(lambda db: self._readings.oldest_ms(db.conn, keys))
        return None if at_ms is None else utc(at_ms)

    async def late(self) -> dict[str, datetime]:
        """Per channel the earliest reading that was committed after an outbox watermark had passed
        its time. Stays until late_done()."""
        marks = await self.database.run(lambda db: self._readings.late(db.conn))
        return {key: utc(at_ms) for key, at_ms in marks.items()}

    async def late_done(self, marks: Mapping[str, datetime]) -> None:
        """The slots of these marks, as late() gave them, were made again (next commit)."""
        done = {key: epoch_ms(moment) for key, moment in marks.items()}
        await self.change(lambda db: self._readings.late_done(db.conn, done))

    async def forget_before(self, horizon: datetime) -> int:
        """Release readings older than horizon (next commit); return how many. Call it often: it
        acts a few times an hour, and what is close to the horizon stays a little longer."""
        before = self._forgot_before
        if before is not None and timedelta(0) <= horizon - before < FORGET_EVERY:
            return 0
        self._forgot_before = horizon
        return await self.change(
            lambda db: self._readings.forget_before(db.conn, epoch_ms(horizon))
        )

    async def stats(self) -> BufferStats:
        return await self.database.run(self._stats)

    async def close(self) -> None:
        """Commit and leave."""
        await self.commit()
        await self.database.close()

    # --- for the outbox, which lives in the same file and the same transaction -------------------

    async def join(self, guest: Guest) -> None:
        await self.database.listen(guest.load)
        self._guests.append(guest)

    async def change[T](self, work: Callable[[Connection], T]) -> T:
        """Do work inside the transaction that the next commit ends; makes room if it must.

        Raises Unreachable when even that does not help.
        """
        try:
            return await self.database.run(self._changed, work)
        except sqlite3.DatabaseError as fault:
            raise Unreachable(f"{self.database.path.name} takes nothing now: {fault}") from fault

    def late_before(self, moment_ms: int) -> None:
        """Slots were made up to here: from now on an older reading is late."""
        self._readings.late_before_ms = max(self._readings.late_before_ms, moment_ms)

    # --- in the thread --------------------------------------------------------------------------

    def _load(self, db: Connection) -> None:
        self._readings.boots.load(db.conn, self._boot_id)
        self._readings.load(db.conn)

    def _commit(self, db: Connection) -> None:
        with self._lock:
            batch, self._pending = self._pending, []
            since_ms, self._pending_since_ms = self._pending_since_ms, None
        if not batch and not db.conn.in_transaction:
            return
        try:
            self._changed(db, lambda db: self._readings.add(db.conn, batch))
            for guest in self._guests:
                self._changed(db, guest.before_commit)
            db.conn.execute("COMMIT")
        except BaseException:
            with self._lock:
                self._pending[:0] = batch
                self._pending_since_ms = since_ms or self._pending_since_ms
                self._trim()
            raise
        self._stored_since_start += len(batch)
        for guest in self._guests:
            guest.committed()

    def _changed[T](self, db: Connection, work: Callable[[Connection], T]) -> T:
        if not db.conn.in_transaction:
            db.conn.execute("BEGIN IMMEDIATE")
        for _ in range(ROOM_TRIES_MAX):
            try:
                with db.atomic():
                    return work(db)
            except sqlite3.OperationalError as fault:
                if damage.kind_of(fault) is not damage.Kind.FULL or not db.conn.in_transaction:
                    raise
                self._make_room(db)
        with db.atomic():
            return work(db)

    def _make_room(self, db: Connection) -> None:
        lost = self._readings.forget_oldest(db.conn, ROOM_GROUPS)
        if lost:
            count_up(db.conn, "dropped_full", lost)
        elif not any(guest.make_room(db) for guest in self._guests):
            log.error("%s is full and holds nothing that could go", self.database.path.name)

    def _trim(self) -> None:
        if (surplus := len(self._pending) - PENDING_MAX) > 0:
            del self._pending[:surplus]
            self._dropped_memory += surplus

    def _stats(self, db: Connection) -> BufferStats:
        readings, conn = self._readings, db.conn
        page_bytes = conn.execute("PRAGMA page_size").fetchone()[0]
        oldest_ms = readings.oldest_ms(conn, None)
        with self._lock:
            uncommitted, since_ms = len(self._pending), self._pending_since_ms
        waited_ms = 0 if since_ms is None else self.clock.boottime_ms() - since_ms
        problems = [problem for problem in (self.database.problem, self._fault) if problem]
        return BufferStats(
            stored=readings.count(conn),
            stored_since_start=self._stored_since_start,
            uncommitted=uncommitted,
            oldest=None if oldest_ms is None else utc(oldest_ms),
            oldest_uncommitted=None if since_ms is None else waited_ms * MILLISECOND,
            held_without_time=readings.count_without_time(conn),
            dropped_full=total(conn, "dropped_full"),
            dropped_memory=self._dropped_memory,
            damaged_groups=len(readings.box.damaged) + len(readings.source.damaged),
            file_bytes=damage.bytes_of(conn),
            free_bytes=conn.execute("PRAGMA freelist_count").fetchone()[0] * page_bytes,
            bytes_max=conn.execute("PRAGMA max_page_count").fetchone()[0] * page_bytes,
            problem="; ".join(problems) or None,
        )
