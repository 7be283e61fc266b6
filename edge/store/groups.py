"""A table of packed groups, one row each, in the order of time.

The row id is the time (and above it the boot), so a stretch of time is a stretch of the table, no
index is needed, and what was written together lies together on the card.
"""

import logging
import math
import sqlite3
from collections.abc import Container, Iterable, Iterator, Set
from itertools import groupby

from edge.store.packing import DamagedGroup, Point, pack, series_in, unpack
from edge.store.schema import Schema, Tables

log = logging.getLogger(__name__)

_REGION_BITS = 42  # milliseconds up to the year 2109; above them 2 million boots
_TIME_MASK = (1 << _REGION_BITS) - 1


def add_table(schema: Schema, name: str) -> None:
    """Let a schema create a table of groups."""

    def groups(db: Tables) -> None:
        db.table(name).create({"id": int, "points": int, "data": bytes}, pk="id")

    schema.add(name, groups)


class Groups:
    """The groups of one table. Every group holds points of [its time, its time + span_ms)."""

    def __init__(self, table: str, span_ms: int) -> None:
        self.span_ms = span_ms
        self.damaged: set[int] = set()  # found so far; left where they are, and left out
        self._counts: dict[int, int] = {}  # points by region; summing the table reads all of it
        self._committed_counts: dict[int, int] = {}
        self._counted: sqlite3.Connection | None = None
        self._insert = f"INSERT OR REPLACE INTO {table} (id, points, data) VALUES (?, ?, ?)"  # noqa: S608
        self._one = f"SELECT data FROM {table} WHERE id = ?"  # noqa: S608
        self._between = f"SELECT id, points, data FROM {table} WHERE id BETWEEN ? AND ? ORDER BY id"  # noqa: S608
        self._sum = f"SELECT coalesce(sum(points), 0) FROM {table} WHERE id BETWEEN ? AND ?"  # noqa: S608
        self._sums = f"SELECT id >> {_REGION_BITS}, sum(points) FROM {table} GROUP BY 1"  # noqa: S608
        self._delete = f"DELETE FROM {table} WHERE id BETWEEN ? AND ?"  # noqa: S608
        self._first = f"SELECT id FROM {table} WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 1"  # noqa: S608
        self._some = f"SELECT max(id) FROM (SELECT id FROM {table} WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?)"  # noqa: S608, E501

    def load(self, db: sqlite3.Connection) -> None:
        """Count what is there: anew in a file not seen before, else as at the last commit."""
        if db is not self._counted:
            self._committed_counts, self._counted = dict(db.execute(self._sums)), db
        self._counts = dict(self._committed_counts)

    def committed(self) -> None:
        """What was written since load() stays."""
        self._committed_counts = dict(self._counts)

    def append(self, db: sqlite3.Connection, region: int, points: Iterable[Point]) -> None:
        """Add points as they come: one group, or more where they lie further apart than a span."""
        ordered = sorted(points, key=lambda point: point.at_ms)
        while ordered:
            base_ms = ordered[0].at_ms
            fitting = [point for point in ordered if point.at_ms < base_ms + self.span_ms]
            ordered = ordered[len(fitting) :]
            while db.execute(self._one, [_id(region, base_ms)]).fetchone() and base_ms > 0:
                base_ms -= 1  # two groups began in the same millisecond
            self._put(db, _id(region, base_ms), fitting, base_ms)
            self._counts[region] = self._counts.get(region, 0) + len(fitting)

    def merge(self, db: sqlite3.Connection, points: Iterable[Point]) -> list[Point]:
        """Keep one value per series and time, the newest; return the points that were news.

        Groups lie on whole multiples of the span here, so a late point finds its place.
        """
        news: list[Point] = []
        ordered = sorted(points, key=lambda point: point.at_ms)  # stable: the last of equals wins
        for number, fitting in groupby(ordered, lambda point: point.at_ms // self.span_ms):
            base_ms = number * self.span_ms
            row = db.execute(self._one, [base_ms]).fetchone()
            known = {point[:2]: point for point in self._unpacked(base_ms, *row)} if row else {}
            fresh = [point for point in fitting if not _same(known.get(point[:2]), point)]
            if fresh:
                before = len(known)
                known.update((point[:2], point) for point in fresh)
                self._put(db, base_ms, known.values(), base_ms)
                self._counts[0] = self._counts.get(0, 0) + len(known) - before
                news += fresh
        return news

    def read(
        self,
        db: sqlite3.Connection,
        region: int,
        from_ms: int,
        until_ms: int,
        wanted: Container[int] | None = None,
    ) -> Iterator[Point]:
        """Points of [from_ms, until_ms), group by group."""
        first = _id(region, max(0, from_ms - self.span_ms + 1))
        for row_id, _, data in db.execute(self._between, [first, _id(region, until_ms - 1)]):
            for point in self._unpacked(row_id, data, wanted):
                if from_ms <= point.at_ms < until_ms:
                    yield point

    def oldest_ms(
        self,
        db: sqlite3.Connection,
        region: int,
        from_ms: int,
        until_ms: int,
        wanted: Set[int] | None = None,
    ) -> int | None:
        """When the first point of [from_ms, until_ms) was taken, of the wanted series if given."""
        first = _id(region, max(0, from_ms - self.span_ms + 1))
        for row_id, _, data in db.execute(self._between, [first, _id(region, until_ms - 1)]):
            try:
                if wanted is not None and wanted.isdisjoint(series_in(data)):
                    continue
            except DamagedGroup:
                continue
            found = [
                point.at_ms
                for point in self._unpacked(row_id, data, wanted)
                if from_ms <= point.at_ms < until_ms
            ]
            if found:
                return min(found)
        return None

    def count(self, region: int | None = None) -> int:
        """Points of a region, or all."""
        return sum(self._counts.values()) if region is None else self._counts.get(region, 0)

    def forget(self, db: sqlite3.Connection, region: int, before_ms: int) -> int:
        """Drop groups that lie before before_ms as a whole; return how many points they had."""
        if before_ms < self.span_ms:
            return 0
        return self._drop(db, _id(region, 0), _id(region, before_ms - self.span_ms))

    def forget_oldest(self, db: sqlite3.Connection, region: int, groups: int) -> int:
        """Drop the first few groups of a region; return how many points they had."""
        bounds = (_id(region, 0), _id(region, _TIME_MASK))
        last = db.execute(self._some, [*bounds, groups]).fetchone()[0]
        return 0 if last is None else self._drop(db, bounds[0], last)

    def first_ms(self, db: sqlite3.Connection, region: int) -> int | None:
        """When the oldest group of a region begins."""
        bounds = (_id(region, 0), _id(region, _TIME_MASK))
        row = db.execute(self._first, bounds).fetchone()
        return None if row is None else row[0] & _TIME_MASK

    def _put(
        self, db: sqlite3.Connection, row_id: int, points: Iterable[Point], base_ms: int
    ) -> None:
        points = list(points)
        db.execute(self._insert, [row_id, len(points), pack(points, base_ms)])

    def _drop(self, db: sqlite3.Connection, first: int, last: int) -> int:
        points: int = db.execute(self._sum, [first, last]).fetchone()[0]
        if points:
            db.execute(self._delete, [first, last])
            region = first >> _REGION_BITS
            self._counts[region] = self._counts.get(region, 0) - points
        return points

    def _unpacked(
        self,
        row_id: int,
        data: bytes,
        wanted: Container[int] | None = None,
    ) -> list[Point]:
        try:
            return unpack(data, row_id & _TIME_MASK, wanted)
        except DamagedGroup as fault:
            if row_id not in self.damaged:
                log.warning("group %d is damaged and left out: %s", row_id, fault)
            self.damaged.add(row_id)
            return []


def _id(region: int, at_ms: int) -> int:
    return region << _REGION_BITS | at_ms


def _same(known: Point | None, point: Point) -> bool:
    if known is None:
        return False
    return known.value == point.value or (math.isnan(known.value) and math.isnan(point.value))
