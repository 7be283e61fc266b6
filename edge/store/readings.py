"""The readings inside buffer.db: what buffer.py does in the file's own thread.

Readings on the box's clock are appended, one packed group per commit. Readings that carry their
source's time are merged, because sources tell the same hour again and correct it. Each late one
leaves a mark, so that what was made of its hour can be made again.
"""

import sqlite3
from collections.abc import Collection, Iterable
from datetime import UTC, datetime

from edge.clock import MILLISECOND
from edge.model import BoxTime, Sample
from edge.store.boots import END_OF_BOOT_MS, Boots
from edge.store.groups import Groups, add_table
from edge.store.packing import Point
from edge.store.schema import Schema, Tables

EPOCH = datetime.fromtimestamp(0, UTC)
BOX_SPAN_MS = 600_000
SOURCE_SPAN_MS = 300_000  # short, because a group is written anew with each reading that joins it
SOURCE = 0  # the region of readings with their source's time

READINGS = Schema("readings")
add_table(READINGS, "box_group")
add_table(READINGS, "source_group")


@READINGS.step
def series(db: Tables) -> None:
    db.table("series").create({"series": int, "channel_key": str}, pk="series")
    db.table("late").create({"series": int, "earliest_ms": int}, pk="series")
    db.table("counter").create({"name": str, "total": int}, pk="name")


class Readings:
    """Every method but the constructor runs in the file's thread, inside a transaction."""

    def __init__(self, boots: Boots) -> None:
        self.boots = boots
        self.late_before_ms = 0  # readings older than this come after their slots were made
        self.box = Groups("box_group", BOX_SPAN_MS)
        self.source = Groups("source_group", SOURCE_SPAN_MS)
        self._series: dict[str, int] = {}
        self._late_since_asked: dict[int, int] = {}  # by series, what the one who asked can't know

    def load(self, db: sqlite3.Connection) -> None:
        self._series = dict(db.execute("SELECT channel_key, series FROM series"))
        self.box.load(db)
        self.source.load(db)
        for boot in self.boots.known():
            if boot != self.boots.current and self.box.first_ms(db, boot) is None:
                self.boots.forget(db, boot)

    def committed(self) -> None:
        self.box.committed()
        self.source.committed()

    def add(
        self, db: sqlite3.Connection, batch: Iterable[tuple[str, BoxTime | datetime, float]]
    ) -> None:
        """Store a batch; mark what is late."""
        by_boot: dict[int, list[Point]] = {}
        with_time: list[Point] = []
        for key, taken_at, value in batch:
            number = self._series.get(key) or self._new_series(db, key)
            if isinstance(taken_at, BoxTime):
                point = Point(number, taken_at.boottime_ms, value)
                by_boot.setdefault(taken_at.boot, []).append(point)
            else:
                with_time.append(Point(number, epoch_ms(taken_at), value))
        news = self.source.merge(db, with_time)
        self._mark_late(db, [(point.series, point.at_ms) for point in news])
        for boot, points in by_boot.items():
            self.box.append(db, boot, points)
            self._mark_late(db, [(p.series, self.boots.utc_ms(boot, p.at_ms)) for p in points])

    def samples(
        self, db: sqlite3.Connection, keys: Collection[str], start: datetime, end: datetime
    ) -> dict[str, list[Sample]]:
        names = {self._series[key]: key for key in keys if key in self._series}
        found: dict[int, list[tuple[int, float]]] = {number: [] for number in names}
        start_ms, end_ms = epoch_ms(start), epoch_ms(end)
        for stretch in self.boots.stretches():
            from_ms = max(stretch.from_ms, start_ms - stretch.offset_ms)
            wall_end_ms = min(end_ms, self.boots.overruled_from_ms(stretch))
            until_ms = min(stretch.until_ms, wall_end_ms - stretch.offset_ms)
            if from_ms < until_ms:
                for point in self.box.read(db, stretch.boot, from_ms, until_ms, names):
                    found[point.series].append((point.at_ms + stretch.offset_ms, point.value))
        for point in self.source.read(db, SOURCE, max(0, start_ms), end_ms, names):
            found[point.series].append((point.at_ms, point.value))
        return {
            names[number]: [Sample(utc(at_ms), value) for at_ms, value in sorted(pairs)]
            for number, pairs in found.items()
        } | {key: [] for key in keys if key not in self._series}

    def oldest_ms(
        self, db: sqlite3.Connection, keys: Collection[str] | None, since_ms: int = 0
    ) -> int | None:
        """When the oldest reading of these keys (of any) since then was taken, as far as times are
        known."""
        wanted = None if keys is None else {self._series[k] for k in keys if k in self._series}
        if wanted is not None and not wanted:
            return None
        first = [self.source.oldest_ms(db, SOURCE, since_ms, END_OF_BOOT_MS, wanted)]
        for boot, from_ms, until_ms, offset_ms in self.boots.stretches():
            own_since_ms = max(from_ms, since_ms - offset_ms)
            found_ms = self.box.oldest_ms(db, boot, own_since_ms, until_ms, wanted)
            first.append(None if found_ms is None else found_ms + offset_ms)
        return min((at_ms for at_ms in first if at_ms is not None), default=None)

    def forget_before(self, db: sqlite3.Connection, horizon_ms: int) -> int:
        """Release whole groups older than the horizon; readings without a time stay."""
        released = self.source.forget(db, SOURCE, horizon_ms)
        for boot, until_ms in list(self.boots.all_before(horizon_ms)):
            released += self.box.forget(db, boot, until_ms)
        return released

    def forget_oldest(self, db: sqlite3.Connection, groups: int) -> int:
        """Make room: drop the oldest few groups, those that have no time first."""
        for boot in self.boots.without_time():
            if boot != self.boots.current and (lost := self.box.forget_oldest(db, boot, groups)):
                return lost
        oldest = [
            (first_ms + stretch.offset_ms, stretch.boot)
            for stretch in self.boots.stretches()
            if (first_ms := self.box.first_ms(db, stretch.boot)) is not None
        ]
        first_source_ms = self.source.first_ms(db, SOURCE)
        if first_source_ms is not None and first_source_ms <= min(oldest, default=(1 << 62, 0))[0]:
            return self.source.forget_oldest(db, SOURCE, groups)
        boot = min(oldest)[1] if oldest else self.boots.current
        return self.box.forget_oldest(db, boot, groups)

    def count(self) -> int:
        return self.box.count() + self.source.count()

    def count_without_time(self) -> int:
        """Readings of earlier boots whose clock was never trusted: held, sent nowhere."""
        boots = self.boots.without_time()
        return sum(self.box.count(boot) for boot in boots if boot != self.boots.current)

    def late(self, db: sqlite3.Connection) -> dict[str, int]:
        self._late_since_asked.clear()
        query = "SELECT channel_key, earliest_ms FROM late JOIN series USING (series)"
        return dict(db.execute(query))

    def late_done(self, db: sqlite3.Connection, marks: dict[str, int]) -> None:
        for key, earliest_ms in marks.items():
            number = self._series.get(key, 0)
            again_ms = self._late_since_asked.get(number)
            if again_ms is not None:
                query = "UPDATE late SET earliest_ms = ? WHERE series = ?"
                db.execute(query, [again_ms, number])
            else:
                query = "DELETE FROM late WHERE series = ? AND earliest_ms >= ?"
                db.execute(query, [number, earliest_ms])

    def _mark_late(self, db: sqlite3.Connection, stored: Iterable[tuple[int, int | None]]) -> None:
        earliest: dict[int, int] = {}
        for number, at_ms in stored:
            if at_ms is not None and at_ms < self.late_before_ms:
                earliest[number] = min(at_ms, earliest.get(number, at_ms))
        for row in earliest.items():
            number, at_ms = row
            self._late_since_asked[number] = min(at_ms, self._late_since_asked.get(number, at_ms))
            db.execute(
                "INSERT INTO late VALUES (?, ?) ON CONFLICT (series) DO UPDATE"
                " SET earliest_ms = min(earliest_ms, excluded.earliest_ms)",
                row,
            )

    def _new_series(self, db: sqlite3.Connection, key: str) -> int:
        query = "INSERT INTO series (channel_key) VALUES (?) RETURNING series"
        number: int = db.execute(query, [key]).fetchone()[0]
        self._series[key] = number
        return number


def epoch_ms(moment: datetime) -> int:
    """Whole milliseconds since 1970; moment is aware."""
    return (moment - EPOCH) // MILLISECOND


def utc(at_ms: int) -> datetime:
    return EPOCH + at_ms * MILLISECOND


def count_up(db: sqlite3.Connection, name: str, more: int) -> None:
    """Add to a total that outlives the process."""
    db.execute(
        "INSERT INTO counter VALUES (?, ?) ON CONFLICT (name) DO UPDATE"
        " SET total = total + excluded.total",
        (name, more),
    )


def total(db: sqlite3.Connection, name: str) -> int:
    row = db.execute("SELECT total FROM counter WHERE name = ?", [name]).fetchone()
    return 0 if row is None else int(row[0])
