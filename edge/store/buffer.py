"""Readings on their way to FlexMeasures, in buffer.db.

put() takes a reading into memory; commit() writes all of them, and every change the outbox made
meanwhile, as one transaction: one packed row, one sync of the card. "Stored" means committed. Until
they are, `oldest_uncommitted` shows how much a power cut would cost. The file is bounded: when it
is full the oldest readings go, counted. While the card takes nothing, readings wait in memory.
"""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from edge.clock import MILLISECOND, Clock
from edge.model import BoxTime, Sample
from edge.store import damage
from edge.store.boots import BOOTS, Boots
from edge.store.database import Connection, Database, Layout
from edge.store.readings import (
    EPOCH,
    READINGS,
    Readings,
    count_up,
    epoch_ms,
    total,
    utc,
)
from edge.store.slots import OUTBOX
from edge.store.transaction import Transaction
from edge.supervise import until

log = logging.getLogger(__name__)

type _Put = tuple[str, BoxTime | datetime, float]

COMMIT_EVERY = timedelta(seconds=30)
BYTES_MAX = 64 << 20  # two months of 30 series every 10 s
PAGE_BYTES = 1024
CHECKPOINT_PAGES = 128
PENDING_MAX = 20_000  # readings that wait in memory while the card takes none: two hours of 30
# series every 10 s, 4 MB
MANY = 5_000  # that wait are committed at once: a family may tell a fortnight within a minute
FORGET_EVERY = timedelta(minutes=20)  # each time touches pages all over the file
ROOM_GROUPS = 16  # how many groups go at once when the file is full


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


class Buffer:
    """The readings. Everything is called from the loop and never blocks it."""

    def __init__(self, transaction: Transaction, clock: Clock, commit_every: timedelta) -> None:
        self.transaction = transaction
        self.clock = clock
        self._commit_every = commit_every
        self._readings = Readings(Boots())
        self._pending = _Pending(self._readings, clock)
        self._arrived = asyncio.Event()
        self._many = asyncio.Event()
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
        layout = Layout(PAGE_BYTES, bytes_max, CHECKPOINT_PAGES, ballast=True)
        database = await Database.open(path, BOOTS, READINGS, OUTBOX, layout=layout)
        buffer = cls(Transaction(database), clock, commit_every)
        await buffer.transaction.join(buffer._pending)
        await buffer.note_time()
        return buffer

    @property
    def boot(self) -> int:
        """The number of this boot, for BoxTime."""
        return self._readings.boots.current

    @property
    def problem(self) -> str | None:
        """What a person should know of the file; None on a sound card."""
        database = self.transaction.database
        problems = (database.problem, database.full_card, self._fault)
        return "; ".join(problem for problem in problems if problem) or None

    def put(self, channel_key: str, taken_at: BoxTime | datetime, value: float) -> None:
        """Take one reading into memory. Never blocks; a full memory drops its oldest, counted."""
        waiting = self._pending.put((channel_key, taken_at, value))
        self._arrived.set()
        if waiting >= MANY and self._fault is None:
            self._many.set()

    async def run(self) -> None:
        """Commit for ever; where commit_every is zero, each reading as it comes."""
        while True:
            if self._commit_every:
                await until(self._many, self.clock.sleep(self._commit_every))
            else:
                await self._arrived.wait()
            await self.note_time()
            await self.commit()

    async def commit(self) -> None:
        """Write what is pending and what the outbox changed. A card that takes nothing now is no
        error here: stats().problem says so, and everything waits for the next commit."""
        self._arrived.clear()
        self._many.clear()
        try:
            await self.transaction.commit()
        except sqlite3.DatabaseError as fault:
            self._fault = f"the card takes nothing now ({fault}); readings wait in memory"
            log.warning(self._fault)
        else:
            self._fault = None

    async def note_time(self) -> None:
        """If the clock is trusted: this boot's readings have a time, those stored already too."""
        if self.clock.is_trusted():
            now_ms, wall_ms = self.clock.boottime_ms(), epoch_ms(self.clock.wall_now())
            await self.transaction.change(lambda db: self._readings.boots.note(db, now_ms, wall_ms))

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
        return await self.transaction.look(lambda db: self._readings.samples(db, keys, start, end))

    async def oldest(
        self, keys: Collection[str] | None = None, since: datetime = EPOCH
    ) -> datetime | None:
        """When the oldest committed reading of these keys since then was taken; keys that have none
        cost a look at every group."""
        since_ms = epoch_ms(since)
        at_ms = await self.transaction.look(lambda db: self._readings.oldest_ms(db, keys, since_ms))
        return None if at_ms is None else utc(at_ms)

    async def late(self) -> dict[str, datetime]:
        """Per channel the earliest reading that was committed after an outbox watermark had passed
        its time. Stays until late_done()."""
        marks = await self.transaction.look(lambda db: self._readings.late(db))
        return {key: utc(at_ms) for key, at_ms in marks.items()}

    async def late_done(self, marks: Mapping[str, datetime]) -> None:
        """The slots of these marks, as late() gave them, were made again (next commit)."""
        done = {key: epoch_ms(moment) for key, moment in marks.items()}
        await self.transaction.change(lambda db: self._readings.late_done(db, done))

    async def forget_before(self, horizon: datetime) -> int:
        """Release readings older than horizon (next commit); return how many. Call it often: it
        acts a few times an hour, and what is close to the horizon stays a little longer."""
        before = self._forgot_before
        if before is not None and timedelta(0) <= horizon - before < FORGET_EVERY:
            return 0
        self._forgot_before = horizon
        return await self.transaction.change(
            lambda db: self._readings.forget_before(db, epoch_ms(horizon))
        )

    async def stats(self) -> BufferStats:
        return await self.transaction.look(self._stats)

    async def close(self) -> None:
        """Commit and leave."""
        await self.commit()
        await self.transaction.database.close()

    def late_before(self, moment_ms: int) -> None:
        """Slots were made up to here: from now on an older reading is late."""
        self._readings.late_before_ms = max(self._readings.late_before_ms, moment_ms)

    def _stats(self, db: Connection) -> BufferStats:
        readings, pending, conn = self._readings, self._pending, db
        page_bytes = conn.execute("PRAGMA page_size").fetchone()[0]
        oldest_ms = readings.oldest_ms(conn, None)
        return BufferStats(
            stored=readings.count(),
            stored_since_start=pending.stored_since_start,
            uncommitted=pending.count(),
            oldest=None if oldest_ms is None else utc(oldest_ms),
            oldest_uncommitted=pending.waited(),
            held_without_time=readings.count_without_time(),
            dropped_full=total(conn, "dropped_full"),
            dropped_memory=pending.dropped,
            damaged_groups=len(readings.box.damaged) + len(readings.source.damaged),
            file_bytes=damage.bytes_of(conn),
            free_bytes=conn.execute("PRAGMA freelist_count").fetchone()[0] * page_bytes,
            bytes_max=conn.execute("PRAGMA max_page_count").fetchone()[0] * page_bytes,
            problem=self.problem,
        )


class _Pending:
    """Readings in memory until they are committed; the buffer's part in the transaction."""

    def __init__(self, readings: Readings, clock: Clock) -> None:
        self.dropped = 0
        self.stored_since_start = 0
        self._readings = readings
        self._clock = clock
        self._boot_id = clock.boot_id()
        self._lock = threading.Lock()  # put() is in the loop, the rest in the file's thread
        self._waiting: list[_Put] = []
        self._writing: list[_Put] = []
        self._since_ms: int | None = None
        self._writing_since_ms: int | None = None

    def put(self, reading: _Put) -> int:
        """How many wait for a commit to begin."""
        with self._lock:
            if self._since_ms is None:
                self._since_ms = self._clock.boottime_ms()
            self._waiting.append(reading)
            self._trim()
            return len(self._waiting)

    def count(self) -> int:
        with self._lock:
            return len(self._waiting) + len(self._writing)

    def waited(self) -> timedelta | None:
        with self._lock:
            since_ms = self._since_ms if self._writing_since_ms is None else self._writing_since_ms
        return None if since_ms is None else (self._clock.boottime_ms() - since_ms) * MILLISECOND

    def load(self, db: Connection) -> None:
        self._readings.boots.load(db, self._boot_id)
        self._readings.load(db)
        with self._lock:
            self._waiting[:0] = self._writing
            self._writing = []
            if self._writing_since_ms is not None:
                self._since_ms, self._writing_since_ms = self._writing_since_ms, None
            self._trim()

    def before_commit(self, db: Connection) -> None:
        with self._lock:
            self._writing += self._waiting
            self._waiting = []
            if self._writing_since_ms is None:
                self._writing_since_ms = self._since_ms
            self._since_ms = None
        self._readings.add(db, self._writing)

    def committed(self) -> None:
        self._readings.committed()
        with self._lock:
            self.stored_since_start += len(self._writing)
            self._writing = []
            self._writing_since_ms = None

    def make_room(self, db: Connection) -> int:
        lost = self._readings.forget_oldest(db, ROOM_GROUPS)
        if lost:
            count_up(db, "dropped_full", lost)
        return lost

    def _trim(self) -> None:
        if (surplus := len(self._waiting) - PENDING_MAX) > 0:
            del self._waiting[:surplus]
            self.dropped += surplus
