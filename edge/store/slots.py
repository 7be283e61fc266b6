"""The slots inside buffer.db: what outbox.py does in the file's own thread.

The row id of a slot is its start, its feed (the sensor at one resolution) and its version, so the
table grows at its end and a stretch of time is a stretch of the table; an index would dirty a page
per sensor with every slot. What was accepted is packed by the hour, like readings.
"""

import json
import math
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import NamedTuple

from edge.clock import MILLISECOND
from edge.model import Slot
from edge.store.database import Connection
from edge.store.groups import Groups, add_table
from edge.store.packing import Point
from edge.store.readings import count_up, epoch_ms, utc
from edge.store.schema import Schema, Tables

HISTORY = timedelta(hours=48)  # for charts, and to know a repeated value from a correction
HISTORY_SPAN_MS = 3_600_000
REJECTED_MAX = 5_000  # kept to be looked at; the total goes on counting
_ROOM_ROWS = 200
_FEED_BITS, _VERSION_BITS = 12, 9  # 4096 sensors in the life of a file, 512 corrections of a slot
_VERSIONS = 1 << _VERSION_BITS

OUTBOX = Schema("outbox")
add_table(OUTBOX, "settled_group")


@OUTBOX.step
def outbox(db: Tables) -> None:
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


@OUTBOX.step
def began(db: Tables) -> None:
    db.table("feed").add_column("began_ms", int)


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


class _Feed(NamedTuple):
    sensor_id: int
    resolution_ms: int
    watermark_ms: int
    began_ms: int  # the first watermark; 0 in files of before this was kept


class Slots:
    """A guest of the transaction; everything runs in its thread.

    `now` is asked for wall time; `made_until(ms)` is told how far slots were made.
    """

    def __init__(self, now: Callable[[], datetime], made_until: Callable[[int], None]) -> None:
        self._now = now
        self._made_until = made_until
        self._feeds: dict[int, _Feed] = {}
        self._by_sensor: dict[int, int] = {}
        self._settled = Groups("settled_group", HISTORY_SPAN_MS)
        self._accepted: dict[tuple[int, int], float] = {}  # to be packed with the next commit
        self._uncommitted: set[int] = set()

    def load(self, db: Connection) -> None:
        rows = db.execute(f"SELECT feed, {_FEED_COLUMNS} FROM feed")  # noqa: S608
        self._feeds = {
            number: _Feed(sensor_id, resolution_ms, mark_ms, began_ms or 0)
            for number, sensor_id, resolution_ms, mark_ms, began_ms in rows
        }
        self._by_sensor = {feed.sensor_id: number for number, feed in self._feeds.items()}
        self._accepted.clear()
        self._uncommitted.clear()
        for feed in self._feeds.values():
            self._made_until(feed.watermark_ms)

    def before_commit(self, db: Connection) -> None:
        points = [Point(feed, at_ms, value) for (feed, at_ms), value in self._accepted.items()]
        self._settled.merge(db, points)
        if points:
            self._settled.forget(db, 0, self._history_from_ms() - HISTORY_SPAN_MS)

    def committed(self) -> None:
        self._accepted.clear()
        self._uncommitted.clear()

    def make_room(self, db: Connection) -> int:
        if lost := self._settled.forget_oldest(db, 0, 1):
            return lost
        for state, name in ((SlotState.REJECTED, None), (SlotState.WAITING, "dropped_slots")):
            rows = db.execute(
                "DELETE FROM slot WHERE row_id IN"
                " (SELECT row_id FROM slot WHERE state = ? ORDER BY row_id LIMIT ?)",
                [state, _ROOM_ROWS],
            ).rowcount
            if rows and name:
                count_up(db, name, rows)
            if rows:
                return rows
        return 0

    def watermark_ms(self, sensor_id: int) -> int:
        """Up to where the slots of a sensor were made; 0 where none were."""
        feed = self._feeds.get(self._by_sensor.get(sensor_id, 0))
        return feed.watermark_ms if feed else 0

    def began_ms(self, sensor_id: int) -> int:
        """The first watermark of a sensor: no slot from before was ever made but as history."""
        feed = self._feeds.get(self._by_sensor.get(sensor_id, 0))
        return feed.began_ms if feed else 0

    def history(
        self, db: sqlite3.Connection, sensor_id: int, from_ms: int, until_ms: int
    ) -> list[Slot]:
        feeds = {number for number, feed in self._feeds.items() if feed.sensor_id == sensor_id}
        points = self._settled.read(db, 0, from_ms, until_ms, feeds)
        found = {(point.at_ms, point.series): point.value for point in points}
        for (number, at_ms), value in self._accepted.items():
            if number in feeds and from_ms <= at_ms < until_ms:
                found[at_ms, number] = value
        return [
            self._slot(number, at_ms, value) for (at_ms, number), value in sorted(found.items())
        ]

    def select(self, db: sqlite3.Connection, where: str, *args: int) -> list[OutboxSlot]:
        return [self._outbox_slot(row) for row in db.execute(f"{_SELECT} WHERE {where}", args)]

    def posted(
        self, db: sqlite3.Connection, row_ids: Collection[int], at_ms: int, job: str | None
    ) -> None:
        state = SlotState.WAITING if job is None else SlotState.IN_JOB
        db.executemany(
            "UPDATE slot SET state = ?, attempts = attempts + 1, posted_ms = ?, job = ?"
            " WHERE row_id = ?",
            [(state, at_ms, job, row_id) for row_id in row_ids],
        )

    def forget_all(self, db: Connection) -> None:
        for table in ("slot", "feed", "settled_group"):
            db.execute(f"DELETE FROM {table}")  # noqa: S608
        self.load(db)

    def enqueue(
        self,
        db: sqlite3.Connection,
        slots: Sequence[Slot],
        until: Mapping[int, datetime],
        now_ms: int,
    ) -> None:
        past: _Past = {}
        for slot in slots:
            number = self._feed(db, slot.sensor_id, slot.event_resolution)
            start_ms = epoch_ms(slot.start)
            rows = self._versions(db, number, start_ms)
            known = (
                rows[-1].slot.value if rows else self._accepted_value(db, number, start_ms, past)
            )
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

    def next_batch(
        self,
        db: sqlite3.Connection,
        limit: int,
        fresh_ms: int,
        skip: Collection[int],
        under_way: Collection[int],
    ) -> list[OutboxSlot]:
        held = self._uncommitted.union(under_way)
        longest_ms = max((feed.resolution_ms for feed in self._feeds.values()), default=0)
        for from_ms in (fresh_ms - longest_ms, 0):
            for first in self._offerable(db, held, _row_id(max(0, from_ms), 0)):
                feed, start_ms = self._feeds[_feed_of(first[0])], start_ms_of(first[0])
                is_wanted = not from_ms or start_ms + feed.resolution_ms >= fresh_ms
                if is_wanted and feed.sensor_id not in skip:
                    return [self._outbox_slot(row) for row in self._batch(db, held, limit, first)]
        return []

    def _batch(
        self, db: sqlite3.Connection, held: Set[int], limit: int, first: "_Row"
    ) -> Iterator["_Row"]:
        """What may go together with this row."""
        number = _feed_of(first[0])
        end_ms = start_ms_of(first[0]) + limit * self._feeds[number].resolution_ms
        for row in self._offerable(db, held, first[0], _row_id(end_ms, 0), number):
            if row[2] == first[2]:  # one belief time a post
                yield row

    def _offerable(
        self,
        db: sqlite3.Connection,
        held: Set[int],
        first: int,
        end: int = (1 << 63) - 1,
        number: int | None = None,
    ) -> Iterator["_Row"]:
        """Waiting rows, of one feed or of all, not held, that nothing unsettled stands before."""
        before = -1
        query = f"{_SELECT} WHERE row_id >= ? AND row_id < ? AND state < 2 {{}} ORDER BY row_id"
        one = f"AND row_id >> {_VERSION_BITS} & {(1 << _FEED_BITS) - 1} = {number}"
        for row in db.execute(query.format("" if number is None else one), [first, end]):
            key = row[0] // _VERSIONS
            if key != before and row[3] == SlotState.WAITING and row[0] not in held:
                yield row
            before = key

    def settle(self, db: sqlite3.Connection, verdicts: Mapping[int, tuple[Verdict, str]]) -> None:
        rejected = 0
        for row_id, (verdict, reason) in verdicts.items():
            if verdict is not Verdict.ACCEPT:
                state = SlotState.REJECTED if verdict is Verdict.REJECT else SlotState.WAITING
                change = "UPDATE slot SET state = ?, job = NULL, reason = ?"
                changed = db.execute(
                    f"{change} WHERE row_id = ? AND state < 2", [state, reason or None, row_id]
                )
                rejected += changed.rowcount * (verdict is Verdict.REJECT)
        self._accept(db, [row_id for row_id, said in verdicts.items() if said[0] is Verdict.ACCEPT])
        if rejected:
            count_up(db, "rejected", rejected)
            db.execute(
                "DELETE FROM slot WHERE state = 2 AND row_id NOT IN"
                " (SELECT row_id FROM slot WHERE state = 2 ORDER BY row_id DESC LIMIT ?)",
                [REJECTED_MAX],
            )

    def _accept(self, db: sqlite3.Connection, row_ids: Sequence[int]) -> None:
        accepted = db.execute(
            "DELETE FROM slot WHERE state < 2 AND row_id IN (SELECT value FROM json_each(?))"
            " RETURNING row_id, value",
            [json.dumps(row_ids)],
        ).fetchall()
        history_from_ms = self._history_from_ms()
        for row_id, value in accepted:
            if start_ms_of(row_id) >= history_from_ms:
                self._accepted[_feed_of(row_id), start_ms_of(row_id)] = value
        if accepted:
            count_up(db, "accepted", len(accepted))

    def _feed(
        self, db: sqlite3.Connection, sensor_id: int, resolution: timedelta, began_ms: int = 0
    ) -> int:
        """The number of a sensor at a resolution; a new one where either is new."""
        resolution_ms = resolution // MILLISECOND
        number = self._by_sensor.get(sensor_id, 0)
        if number and self._feeds[number].resolution_ms == resolution_ms:
            return number
        known = self._feeds[number][2:] if number else (began_ms, began_ms)
        feed = _Feed(sensor_id, resolution_ms, *known)
        query = f"INSERT INTO feed ({_FEED_COLUMNS}) VALUES (?, ?, ?, ?)"  # noqa: S608
        number = int(db.execute(f"{query} RETURNING feed", feed).fetchone()[0])
        self._feeds[number], self._by_sensor[sensor_id] = feed, number
        return number

    def _set_watermark(self, db: sqlite3.Connection, sensor_id: int, watermark_ms: int) -> None:
        number = self._by_sensor.get(sensor_id)
        if number is None:
            number = self._feed(db, sensor_id, timedelta(0), watermark_ms)
            self._made_until(watermark_ms)
        if watermark_ms > self._feeds[number].watermark_ms:
            db.execute("UPDATE feed SET watermark_ms = ? WHERE feed = ?", [watermark_ms, number])
            self._feeds[number] = self._feeds[number]._replace(watermark_ms=watermark_ms)
            self._made_until(watermark_ms)

    def _versions(self, db: sqlite3.Connection, number: int, start_ms: int) -> list[OutboxSlot]:
        first = _row_id(start_ms, number)
        query = f"{_SELECT} WHERE row_id BETWEEN ? AND ? ORDER BY row_id"
        rows = db.execute(query, [first, first + _VERSIONS - 1])
        return [self._outbox_slot(row) for row in rows]

    def _accepted_value(
        self, db: sqlite3.Connection, number: int, start_ms: int, past: "_Past"
    ) -> float | None:
        """What was accepted for a slot, as far as history reaches; past holds hours in use."""
        hour_ms = start_ms // HISTORY_SPAN_MS * HISTORY_SPAN_MS
        if hour_ms not in past:
            points = self._settled.read(db, 0, hour_ms, hour_ms + HISTORY_SPAN_MS)
            past[hour_ms] = {point[:2]: point.value for point in points}
        return self._accepted.get((number, start_ms), past[hour_ms].get((number, start_ms)))

    def _history_from_ms(self) -> int:
        return epoch_ms(self._now() - HISTORY)

    def _outbox_slot(self, row: "_Row") -> OutboxSlot:
        row_id, value, prior_ms, state, attempts, posted_ms, job, reason = row
        value = math.nan if value is None else value
        return OutboxSlot(
            row_id,
            self._slot(_feed_of(row_id), start_ms_of(row_id), value),
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


_FEED_COLUMNS = "sensor_id, resolution_ms, watermark_ms, began_ms"
type _Past = dict[int, dict[tuple[int, int], float]]
type _Row = tuple[int, float | None, int | None, int, int, int | None, str | None, str | None]
_SELECT = "SELECT row_id, value, prior_ms, state, attempts, posted_ms, job, reason FROM slot"


def _row_id(start_ms: int, feed: int) -> int:
    """Time first, so that the table grows at its end; room for the versions of a slot."""
    return (start_ms << _FEED_BITS | feed) << _VERSION_BITS


def start_ms_of(row_id: int) -> int:
    return row_id >> (_FEED_BITS + _VERSION_BITS)


def _feed_of(row_id: int) -> int:
    return row_id >> _VERSION_BITS & ((1 << _FEED_BITS) - 1)
