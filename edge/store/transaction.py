"""The one open transaction of buffer.db: everybody's changes, committed together.

A commit costs the card far more than the bytes in it, so readings, slots and verdicts wait for each
other. Changes are made at once and seen at once, but they are on the card only after commit(). If
that fails they are taken back and made again with the next one, so nobody has to remember them.
A full file makes room by dropping the oldest; a full card gets the file bounded to what it has.
"""

import sqlite3
from collections.abc import Callable
from typing import Protocol

from edge.errors import Unreachable
from edge.store import damage
from edge.store.database import Connection, Database

STAGED_MAX = 2_000  # changes that wait for a card that takes nothing: hours of a usual house
ROOM_ROUNDS_MAX = 64  # of making room, before the card is left alone until the next commit


class Guest(Protocol):
    """A part with tables in the file. Everything here runs in the file's thread."""

    def load(self, db: Connection) -> None:
        """Forget what was known of the file and read it anew: changes were taken back."""

    def before_commit(self, db: Connection) -> None:
        """Write what is left to write."""

    def committed(self) -> None:
        """Everything is on the card."""

    def make_room(self, db: Connection) -> int:
        """The file is full: drop the oldest few; return how many rows or readings went."""


class Transaction:
    """Guests make room in the order in which they joined."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._guests: list[Guest] = []
        self._staged: list[Callable[[Connection], object]] = []
        self._rounds = 0

    async def join(self, guest: Guest) -> None:
        """Let a part take part; its load() runs now."""
        await self.database.listen(guest.load)
        self._guests.append(guest)

    async def change[T](self, work: Callable[[Connection], T]) -> T:
        """Do work now, and again should its commit fail. It must not depend on anything but the
        file and what guests know of it. Raises Unreachable while the card takes nothing."""

        def changed(db: Connection) -> T:
            result = self._with_room(db, work)
            self._staged.append(work)
            return result

        try:
            if len(self._staged) >= STAGED_MAX:
                await self.commit()
            return await self.database.run(changed)
        except sqlite3.DatabaseError as fault:
            name = self.database.path.name
            raise Unreachable(f"{name} takes nothing now: {fault}") from fault

    async def look[T](self, work: Callable[[Connection], T]) -> T:
        """Read, with every change in sight. Raises Unreachable while that can't be."""

        def looked(db: Connection) -> T:
            return self._with_room(db, work) if self._staged else work(db)

        try:
            return await self.database.run(looked)
        except sqlite3.DatabaseError as fault:
            raise Unreachable(f"{self.database.path.name} can't be read: {fault}") from fault

    async def commit(self) -> None:
        """Everything so far is on the card, or sqlite3.DatabaseError is raised and it all waits."""
        await self.database.run(self._commit)

    # --- in the thread --------------------------------------------------------------------------

    def _commit(self, db: Connection) -> None:
        self._with_room(db, self._write)
        self._staged.clear()
        self._rounds = 0
        for guest in self._guests:
            guest.committed()
        self.database.unbind_when_free()

    def _write(self, db: Connection) -> None:
        for guest in self._guests:
            guest.before_commit(db)
        db.execute("COMMIT")

    def _begin(self, db: Connection) -> None:
        """Open the transaction, with what an earlier one could not bring onto the card."""
        if db.in_transaction:
            return
        db.execute("BEGIN IMMEDIATE")
        for _ in range(self._rounds):
            if not any(guest.make_room(db) for guest in self._guests):
                break
        for work in self._staged:
            work(db)

    def _with_room[T](self, db: Connection, work: Callable[[Connection], T]) -> T:
        """Do work as part of the transaction; a full file begins again with more room each time.

        Whatever goes wrong, nothing half done stays behind.
        """
        while True:
            try:
                self._begin(db)
                return work(db)
            except sqlite3.OperationalError as fault:
                is_full = damage.kind_of(fault) is damage.Kind.FULL
                if not is_full or self._rounds >= ROOM_ROUNDS_MAX:
                    raise
                if not self.database.bound_to_card():
                    self._rounds = max(1, self._rounds * 2)
                self.database.take_back()
            except BaseException:
                self.database.take_back()
                raise
