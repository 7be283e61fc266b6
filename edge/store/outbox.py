"""Slots on their way to FlexMeasures, in buffer.db, committed together with the readings.

A slot is written once, before it is offered, and never recomputed in place; another value for it
becomes a row of its own with its own prior. Every slot gets a verdict: ACCEPT leaves (its value
stays as history for two days), REJECT is set aside with its reason and never offered again, KEEP
stays. Nothing is offered before it is committed.
"""

import math
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import NamedTuple

from sqlite_utils.migrations import Migrations

from edge.model import Slot
from edge.store.buffer import Buffer
from edge.store.database import Connection
from edge.store.groups import Groups, add_table
from edge.store.packing import Point
from edge.store.readings import MILLISECOND, count_up, epoch_ms, total, utc

FRESH = timedelta(hours=1)  # what the house looks like now goes before what it looked like
HISTORY = timedelta(hours=48)  # for charts, and to know a repeated value from a correction
HISTORY_SPAN_MS = 3_600_000
REJECTED_MAX = 5_000  # kept to be looked at; the total goes on counting
_ROOM_ROWS = 200
_FEED_BITS, _VERSION_BITS = 12, 9  # 4096 sensors in the life of a file, 512 corrections of a slot
_VERSIONS = 1 << _VERSION_BITS

OUTBOX = Migrations("outbox")
add_table(OUTBOX, "settled_group")


@OUTBOX()
def outbox(db: Connection) -> None:
    db.table("feed").create(
        {"feed": int, "sensor_id": int, "resolution_ms": int, "watermark_ms": int}, pk="feed"
    )
    db.table("slot").create(
        {
            "row_id": int,  # start, feed, version: see _row_id
            "value": float,
            "prior_ms": int,
            "state": int,
            "attempts": int,
            "posted_ms": int,
            "job": str,
            "reason": str,
        },
        pk="row_id",
    )


class Verdict(StrEnum):
    """What becomes of a slot that was offered."""

    ACCEPT = "accept"
    REJECT = "reject"
    KEEP = "keep"


class SlotState(IntEnum):
    WAITING = 0
    IN_JOB = 1  # the server answered with a job that has not finished
    REJECTED = 2


@dataclass(frozen=True, slots=True)
class OutboxSlot:
    """A slot with its story. `prior`: None means known at the end of the slot (horizon PT0H).
    `posted_at` is set once it was offered, whatever came back."""

    row_id: int
    slot: Slot
    prior: datetime | None
    state: SlotState
    attempts: int
    posted_at: datetime | None
    job: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class OutboxCounts:
    """Slots by what became of them; the totals outlive restarts."""

    waiting: int
    in_jobs: int
    accepted_total: int
    rejected_total: int
    oldest_waiting: datetime | None


class _Feed(NamedTuple):
    sensor_id: int
    resolution_ms: int
    watermark_ms: int


class Outbox:
    """All methods but open() may raise Unreachable while the card takes nothing."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._transaction = buffer.transaction
        self._clock = buffer.clock
        self._feeds: dict[int, _Feed] = {}
        self._by_sensor: dict[int, int] = {}
        self._settled = Groups("settled_group", HISTORY_SPAN_MS)
        self._accepted: dict[tuple[int, int], float] = {}  # to be packed with the next commit
        self._uncommitted: set[int] = set()

    @classmethod
    async def open(cls, buffer: Buffer) -> "Outbox":
        outbox = cls(buffer)
        await buffer.transaction.database.migrate(OUTBOX)
        await buffer.transaction.join(outbox)
        return outbox

    async def enqueue(self, slots: Sequence[Slot], until: Mapping[int, datetime]) -> None:
        """Take slots that are due, and per sensor the time up to which everything is final, gaps
        too. Offered after the next commit. A slot that is known with this value is ignored, with
        another it is corrected. One that is not a number is set aside at once."""
        now_ms = epoch_ms(self._clock.wall_now())
        await self._transaction.change(lambda db: self._enqueue(db.conn, slots, until, now_ms))

    async def watermark(self, sensor_id: int) -> datetime | None:
        """Up to where the slots of a sensor were made."""
        feed = self._feeds.get(self._by_sensor.get(sensor_id, 0))
        return None if feed is None or not feed.watermark_ms else utc(feed.watermark_ms)

    async def next_batch(
        self, limit: int, now: datetime, skip: Collection[int] = ()
    ) -> list[OutboxSlot]:
        """Slots to offer now: of one sensor (none in skip), with one prior, in order of time,
        spanning at most limit resolutions (gaps may lie between). Fresh ones first, then the
        oldest. A correction waits until what it corrects is settled."""
        fresh_ms = epoch_ms(now - FRESH)
        return await self._transaction.look(
            lambda db: self._next_batch(db.conn, limit, fresh_ms, skip)
        )

    async def posted(self, row_ids: Collection[int], job: str | None = None) -> None:
        """These were offered at this moment; with a job the server has yet to say how it ended."""
        state = SlotState.WAITING if job is None else SlotState.IN_JOB
        row = (state, epoch_ms(self._clock.wall_now()), job)
        await self._transaction.change(
            lambda db: db.conn.executemany(
                "UPDATE slot SET state = ?, attempts = attempts + 1, posted_ms = ?, job = ?"
                " WHERE row_id = ?",
                [(*row, row_id) for row_id in row_ids],
            )
        )

    async def settle(self, verdicts: Mapping[int, tuple[Verdict, str]]) -> None:
        """Give slots their verdict, with the reason where it is not ACCEPT."""
        await self._transaction.change(lambda db: self._settle(db.conn, verdicts))

    async def jobs_open(self) -> dict[str, list[OutboxSlot]]:
        """Slots that are in a job of the server, by job."""
        jobs: dict[str, list[OutboxSlot]] = {}
        for slot in await self._select("state = 1"):
            jobs.setdefault(slot.job or "", []).append(slot)
        return jobs

    async def history(self, sensor_id: int, start: datetime, end: datetime) -> list[Slot]:
        """Accepted slots that begin in [start, end), by time; reaches back two days."""
        from_ms, until_ms = epoch_ms(start), epoch_ms(end)
        feeds = {number for number, feed in self._feeds.items() if feed.sensor_id == sensor_id}

        def read(db: Connection) -> dict[tuple[int, int], float]:
            points = self._settled.read(db.conn, 0, from_ms, until_ms, feeds)
            known = {(point.at_ms, point.series): point.value for point in points}
            new = self._accepted.items()
            return known | {
                (at, f): v for (f, at), v in new if f in feeds and from_ms <= at < until_ms
            }

        found = await self._transaction.look(read)
        return [self._slot(feed, at_ms, value) for (at_ms, feed), value in sorted(found.items())]

    async def rejected(self, limit: int) -> list[OutboxSlot]:
        """Slots that were set aside, the newest first."""
        return await self._select("state = 2 ORDER BY row_id DESC LIMIT ?", limit)

    async def counts(self) -> OutboxCounts:
        def read(db: Connection) -> OutboxCounts:
            states = dict(db.execute("SELECT state, count(*) FROM slot GROUP BY state"))
            oldest = db.execute("SELECT min(row_id) FROM slot WHERE state < 2").fetchone()[0]
            return OutboxCounts(
                waiting=states.get(SlotState.WAITING, 0),
                in_jobs=states.get(SlotState.IN_JOB, 0),
                accepted_total=total(db.conn, "accepted"),
                rejected_total=total(db.conn, "rejected"),
                oldest_waiting=None if oldest is None else utc(_start_ms(oldest)),
            )

        return await self._transaction.look(read)

    async def forget_all(self) -> None:
        """Another FlexMeasures: slots, watermarks and history of this one mean nothing there."""

        def forget(db: Connection) -> None:
            for table in ("slot", "feed", "settled_group"):
                db.execute(f"DELETE FROM {table}")  # noqa: S608
            self.load(db)

        await self._transaction.change(forget)
        await self._buffer.commit()

    # --- as the buffer's guest, in its thread ----------------------------------------------------

    def load(self, db: Connection) -> None:
        rows = db.execute("SELECT feed, sensor_id, resolution_ms, watermark_ms FROM feed")
        self._feeds = {number: _Feed(*feed) for number, *feed in rows}
        self._by_sensor = {feed.sensor_id: number for number, feed in self._feeds.items()}
        self._accepted.clear()
        self._uncommitted.clear()
        for feed in self._feeds.values():
            self._buffer.late_before(feed.watermark_ms)

    def before_commit(self, db: Connection) -> None:
        points = [Point(feed, at_ms, value) for (feed, at_ms), value in self._accepted.items()]
        self._settled.merge(db.conn, points)
        if points:
            self._settled.forget(db.conn, 0, self._history_from_ms() - HISTORY_SPAN_MS)

    def committed(self) -> None:
        self._accepted.clear()
        self._uncommitted.clear()

    def make_room(self, db: Connection) -> int:
        if lost := self._settled.forget_oldest(db.conn, 0, 1):
            return lost
        for state, name in ((SlotState.REJECTED, None), (SlotState.WAITING, "dropped_slots")):
            rows = db.conn.execute(
                "DELETE FROM slot WHERE row_id IN"
                " (SELECT row_id FROM slot WHERE state = ? ORDER BY row_id LIMIT ?)",
                [state, _ROOM_ROWS],
            ).rowcount
            if rows and name:
                count_up(db.conn, name, rows)
            if rows:
                return rows
        return 0

    def _enqueue(
        self,
        db: sqlite3.Connection,
        slots: Sequence[Slot],
        until: Mapping[int, datetime],
        now_ms: int,
    ) -> None:
        for slot in slots:
            number = self._feed(db, slot.sensor_id, slot.event_resolution)
            start_ms = epoch_ms(slot.start)
            rows = self._versions(db, number, start_ms)
            known = rows[-1].slot.value if rows else self._accepted_value(db, number, start_ms)
            if known is not None and repr(known) == repr(slot.value):  # NaN is NaN here
                continue
            prior_ms = None
            if known is not None or start_ms < min(
                self._feeds[number].watermark_ms, self._history_from_ms()
            ):
                before = [epoch_ms(row.prior) + 1000 for row in rows if row.prior is not None]
                prior_ms = max([now_ms // 1000 * 1000, *before])
            row_id = rows[-1].row_id + 1 if rows else _row_id(start_ms, number)
            is_number = math.isfinite(slot.value)
            db.execute(
                "INSERT INTO slot (row_id, value, prior_ms, state, attempts, reason)"
                " VALUES (?, ?, ?, ?, 0, ?)",
                [
                    row_id,
                    slot.value,
                    prior_ms,
                    SlotState.WAITING if is_number else SlotState.REJECTED,
                    None if is_number else "not a number",
                ],
            )
            if not is_number:
                count_up(db, "rejected", 1)
            self._uncommitted.add(row_id)
        for sensor_id, moment in until.items():
            self._set_watermark(db, sensor_id, epoch_ms(moment))

    def _next_batch(
        self, db: sqlite3.Connection, limit: int, fresh_ms: int, skip: Collection[int]
    ) -> list[OutboxSlot]:
        longest_ms = max((feed.resolution_ms for feed in self._feeds.values()), default=0)
        for from_ms in (fresh_ms - longest_ms, 0):
            batch: list[OutboxSlot] = []
            for row in self._offerable(db, max(0, from_ms)):
                if not batch:
                    end_ms = epoch_ms(row.slot.start + row.slot.event_resolution)
                    if row.slot.sensor_id not in skip and (not from_ms or end_ms >= fresh_ms):
                        batch.append(row)
                    continue
                first = batch[0].slot
                if row.slot.start >= first.start + limit * first.event_resolution:
                    break
                if (row.slot.sensor_id, row.slot.event_resolution, row.prior) == (
                    first.sensor_id,
                    first.event_resolution,
                    batch[0].prior,
                ):
                    batch.append(row)
            if batch:
                return batch
        return []

    def _offerable(self, db: sqlite3.Connection, from_ms: int) -> Iterator[OutboxSlot]:
        """Waiting rows from a time on that nothing unsettled stands before."""
        before = -1
        query = f"{_SELECT} WHERE row_id >= ? AND state < 2 ORDER BY row_id"
        for row in db.execute(query, [_row_id(from_ms, 0)]):
            key = row[0] // _VERSIONS
            if key != before and row[3] == SlotState.WAITING and row[0] not in self._uncommitted:
                yield self._outbox_slot(row)
            before = key

    def _settle(self, db: sqlite3.Connection, verdicts: Mapping[int, tuple[Verdict, str]]) -> None:
        accepted = rejected = 0
        for row_id, (verdict, reason) in verdicts.items():
            query = "SELECT value FROM slot WHERE row_id = ? AND state < 2"
            row = db.execute(query, [row_id]).fetchone()
            if row is None:
                continue
            if verdict is Verdict.ACCEPT:
                db.execute("DELETE FROM slot WHERE row_id = ?", [row_id])
                accepted += 1
                if _start_ms(row_id) >= self._history_from_ms():
                    self._accepted[_feed_of(row_id), _start_ms(row_id)] = row[0]
            else:
                state = SlotState.REJECTED if verdict is Verdict.REJECT else SlotState.WAITING
                rejected += verdict is Verdict.REJECT
                change = "UPDATE slot SET state = ?, job = NULL, reason = ? WHERE row_id = ?"
                db.execute(change, [state, reason or None, row_id])
        if accepted:
            count_up(db, "accepted", accepted)
        if rejected:
            count_up(db, "rejected", rejected)
            db.execute(
                "DELETE FROM slot WHERE state = 2 AND row_id NOT IN"
                " (SELECT row_id FROM slot WHERE state = 2 ORDER BY row_id DESC LIMIT ?)",
                [REJECTED_MAX],
            )

    def _feed(self, db: sqlite3.Connection, sensor_id: int, resolution: timedelta) -> int:
        """The number of a sensor at a resolution; a new one where either is new."""
        resolution_ms = resolution // MILLISECOND
        number = self._by_sensor.get(sensor_id, 0)
        if number and self._feeds[number].resolution_ms == resolution_ms:
            return number
        watermark_ms = self._feeds[number].watermark_ms if number else 0
        feed = _Feed(sensor_id, resolution_ms, watermark_ms)
        query = "INSERT INTO feed (sensor_id, resolution_ms, watermark_ms) VALUES (?, ?, ?)"
        number = int(db.execute(f"{query} RETURNING feed", feed).fetchone()[0])
        self._feeds[number], self._by_sensor[sensor_id] = feed, number
        return number

    def _set_watermark(self, db: sqlite3.Connection, sensor_id: int, watermark_ms: int) -> None:
        number = self._by_sensor.get(sensor_id) or self._feed(db, sensor_id, timedelta(0))
        if watermark_ms > self._feeds[number].watermark_ms:
            db.execute("UPDATE feed SET watermark_ms = ? WHERE feed = ?", [watermark_ms, number])
            self._feeds[number] = self._feeds[number]._replace(watermark_ms=watermark_ms)
            self._buffer.late_before(watermark_ms)

    def _versions(self, db: sqlite3.Connection, number: int, start_ms: int) -> list[OutboxSlot]:
        first = _row_id(start_ms, number)
        query = f"{_SELECT} WHERE row_id BETWEEN ? AND ? ORDER BY row_id"
        rows = db.execute(query, [first, first + _VERSIONS - 1])
        return [self._outbox_slot(row) for row in rows]

    def _accepted_value(self, db: sqlite3.Connection, number: int, start_ms: int) -> float | None:
        if start_ms >= self._feeds[number].watermark_ms:
            return None
        if (number, start_ms) in self._accepted:
            return self._accepted[number, start_ms]
        points = self._settled.read(db, 0, start_ms, start_ms + 1, {number})
        return next((point.value for point in points), None)

    def _history_from_ms(self) -> int:
        return epoch_ms(self._clock.wall_now() - HISTORY)

    async def _select(self, where: str, *args: int) -> list[OutboxSlot]:
        return await self._transaction.look(
            lambda db: [
                self._outbox_slot(row) for row in db.execute(f"{_SELECT} WHERE {where}", args)
            ]
        )

    def _outbox_slot(self, row: "_Row") -> OutboxSlot:
        row_id, value, prior_ms, state, attempts, posted_ms, job, reason = row
        value = math.nan if value is None else value
        return OutboxSlot(
            row_id,
            self._slot(_feed_of(row_id), _start_ms(row_id), value),
            None if prior_ms is None else utc(prior_ms),
            SlotState(state),
            attempts,
            None if posted_ms is None else utc(posted_ms),
            job,
            reason,
        )

    def _slot(self, number: int, start_ms: int, value: float) -> Slot:
        feed = self._feeds[number]
        return Slot(feed.sensor_id, utc(start_ms), feed.resolution_ms * MILLISECOND, value)


type _Row = tuple[int, float | None, int | None, int, int, int | None, str | None, str | None]
_SELECT = "SELECT row_id, value, prior_ms, state, attempts, posted_ms, job, reason FROM slot"


def _row_id(start_ms: int, feed: int) -> int:
    """Time first, so that the table grows at its end; room for the versions of a slot."""
    return (start_ms << _FEED_BITS | feed) << _VERSION_BITS


def _start_ms(row_id: int) -> int:
    return row_id >> (_FEED_BITS + _VERSION_BITS)


def _feed_of(row_id: int) -> int:
    return row_id >> _VERSION_BITS & ((1 << _FEED_BITS) - 1)
