"""Which boot of the box ran at what wall time.

A reading is stamped with boot and CLOCK_BOOTTIME. Once the clock of that boot is trusted, one row
says how far boot time and wall time lie apart, and every reading of the boot has its time, also
those from before. If the wall clock is stepped later, a further row holds from that moment on.
A boot whose clock was never trusted has no time, and none is made up.
"""

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from edge.store.schema import Schema, Tables

STEP_MIN_MS = 500  # less than this is the jitter of asking two clocks, not a step
END_OF_BOOT_MS = 1 << 42

BOOTS = Schema("boots")


@BOOTS.step
def boots(db: Tables) -> None:
    db.table("boot").create({"boot": int, "boot_id": str}, pk="boot")
    db.table("clock_offset").create(
        {"id": int, "boot": int, "from_ms": int, "offset_ms": int}, pk="id"
    )


class Stretch(NamedTuple):
    """From from_ms to until_ms of this boot, wall time is boot time plus offset_ms."""

    boot: int
    from_ms: int
    until_ms: int
    offset_ms: int


class Boots:
    """The boots that still have readings, and this one."""

    def __init__(self) -> None:
        self.current = 0
        self._stretches: dict[int, list[Stretch]] = {}

    def load(self, db: sqlite3.Connection, boot_id: str) -> None:
        """Read what is known; a boot that is not, is added (committed at once). In a file that was
        started anew this boot keeps the number that readings on their way already carry."""
        if not db.execute("SELECT 1 FROM boot WHERE boot_id = ?", [boot_id]).fetchone():
            row = (self.current or None, boot_id)
            db.execute("INSERT INTO boot (boot, boot_id) VALUES (?, ?)", row)
        query = "SELECT boot FROM boot WHERE boot_id = ?"
        self.current = db.execute(query, [boot_id]).fetchone()[0]
        self._stretches = {boot: [] for (boot,) in db.execute("SELECT boot FROM boot ORDER BY 1")}
        for row in db.execute("SELECT boot, from_ms, offset_ms FROM clock_offset ORDER BY id"):
            self._add(*row)

    def is_news(self, boottime_ms: int, wall_ms: int) -> bool:
        """Whether a trusted clock that shows wall_ms at boottime_ms tells more than is known."""
        known = self._stretches.get(self.current)
        return not known or abs(known[-1].offset_ms - wall_ms + boottime_ms) >= STEP_MIN_MS

    def note(self, db: sqlite3.Connection, boottime_ms: int, wall_ms: int) -> None:
        """From now on (the first time: for all of this boot) the clocks lie so far apart."""
        if not self.is_news(boottime_ms, wall_ms):
            return
        from_ms = boottime_ms if self._stretches[self.current] else 0
        row = (self.current, from_ms, wall_ms - boottime_ms)
        db.execute("INSERT INTO clock_offset (boot, from_ms, offset_ms) VALUES (?, ?, ?)", row)
        self._add(*row)

    def utc_ms(self, boot: int, boottime_ms: int) -> int | None:
        """Wall time of a moment, or None while that is not known."""
        for stretch in reversed(self._stretches.get(boot, [])):
            if boottime_ms >= stretch.from_ms:
                return boottime_ms + stretch.offset_ms
        return None

    def stretches(self) -> Iterator[Stretch]:
        for known in self._stretches.values():
            yield from known

    def overruled_from_ms(self, stretch: Stretch) -> int:
        """The wall time from which this stretch is not believed: the clock was set back to it
        later in the same boot, so what was read then was dated into the future."""
        later = (s for s in self._stretches[stretch.boot] if s.from_ms > stretch.from_ms)
        return min((s.from_ms + s.offset_ms for s in later), default=END_OF_BOOT_MS)

    def known(self) -> list[int]:
        return list(self._stretches)

    def without_time(self) -> list[int]:
        """Boots whose readings can't be placed, oldest first; this one too, until it is trusted."""
        return [boot for boot, known in self._stretches.items() if not known]

    def all_before(self, utc_ms: int) -> Iterator[tuple[int, int]]:
        """Per boot with a time: the boot time up to which everything lies before utc_ms."""
        for boot, known in self._stretches.items():
            until_ms = 0
            for stretch in known:
                until_ms = max(stretch.from_ms, min(utc_ms - stretch.offset_ms, stretch.until_ms))
                if until_ms < stretch.until_ms:
                    break
            if until_ms > 0:
                yield boot, until_ms

    def forget(self, db: sqlite3.Connection, boot: int) -> None:
        """An earlier boot has no readings left."""
        db.execute("DELETE FROM boot WHERE boot = ?", [boot])
        db.execute("DELETE FROM clock_offset WHERE boot = ?", [boot])
        self._stretches.pop(boot, None)

    def _add(self, boot: int, from_ms: int, offset_ms: int) -> None:
        known = self._stretches.setdefault(boot, [])
        if known:
            known[-1] = known[-1]._replace(until_ms=from_ms)
        known.append(Stretch(boot, from_ms, END_OF_BOOT_MS, offset_ms))
