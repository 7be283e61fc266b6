"""Every switching act, in state.db: on the card before its device is touched.

Rows are opaque here: control/ledger.py says what stands in them. Numbers only grow, also where the
file is lost and its last good copy takes its place: the copy knows older commands only, so what is
open now is written into it again, and a box that starts with one says so (`is_set_back`).
"""

import contextlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from edge.errors import EdgeError, StoreBroken
from edge.store.damage import COPY_VERSION, FILE_VERSION
from edge.store.database import Connection, Database
from edge.store.schema import Schema, Tables

COMMANDS_MAX = 2_000  # for the page's history; open ones are never dropped
SET_BACK_GAP = 1_000_000  # more than a box makes between two copies: lost numbers are not used anew

COMMANDS = Schema("commands")


class NotKept(EdgeError):
    """The card did not take it: what was to be written would not survive a power cut."""


@COMMANDS.step
def commands(db: Tables) -> None:
    db.table("command").create(
        {"command_id": int, "device_key": str, "is_open": int, "content": str}, pk="command_id"
    )


class Row(NamedTuple):
    """A command as the file holds it; `content` is JSON."""

    command_id: int
    device_key: str
    is_open: int
    content: str

    @classmethod
    def of(
        cls, command_id: int, device_key: str, content: Mapping[str, Any], *, is_open: bool
    ) -> "Row":
        return cls(command_id, device_key, int(is_open), json.dumps(content))


@dataclass(slots=True, eq=False)
class _Wish:
    """A command that somebody waits to see on the card."""

    row: Row
    is_kept: bool = False

    @property
    def number(self) -> int:
        return self.row.command_id


class CommandTable:
    """Rows by number. What is added at the same moment is one transaction."""

    def __init__(self, database: Database) -> None:
        self.is_set_back = False  # commands newer than these were lost: a device may be away
        self._database = database
        self._last = 0
        self._wishes: list[_Wish] = []
        self._given_up: set[int] = set()
        self._open: dict[int, Row] = {}
        self._is_loaded = False

    @classmethod
    async def open(cls, database: Database) -> "CommandTable":
        await database.migrate(COMMANDS)
        table = cls(database)
        await database.listen(table._load)
        return table

    def next_number(self) -> int:
        """For a command that is written behind."""
        self._last += 1
        return self._last

    async def add(self, device_key: str, content: Mapping[str, Any]) -> int:
        """Write a new open command; its number. It is on the card when this returns.

        Raises NotKept; then it stands nowhere. The same holds for a caller that waits no longer.
        """
        number = self.next_number()
        wish = _Wish(Row.of(number, device_key, content, is_open=True))
        self._wishes.append(wish)
        try:
            await self._kept(lambda db: self._fulfil(db, wish))
        except BaseException:
            self._given_up.add(number)  # the card may be about to take it all the same
            raise
        finally:
            self._wishes.remove(wish)
        if self._database.is_standing_in:
            self._given_up.add(number)
            raise NotKept("the card can't be written; nothing is switched before it can")
        return number

    async def change(self, *rows: Row) -> None:
        """Write what became of commands: all of it, or nothing and NotKept is raised. In memory
        only where the card takes nothing."""

        await self._kept(lambda db: self._write(db, rows, (_IS_MENDED, [])))

    async def rows(self, *, only_open: bool, limit: int) -> list[tuple[int, dict[str, Any]]]:
        """The newest first. Raises NotKept."""
        query = "SELECT command_id, content FROM command"
        query += " WHERE is_open" if only_open else ""
        query += " ORDER BY command_id DESC LIMIT ?"
        found = await self._kept(lambda db: db.execute(query, [limit]).fetchall())
        return [
            (number, json.loads(content))
            for number, content in found
            if number not in self._given_up
        ]

    async def _kept(self, work: Any) -> Any:
        try:
            return await self._database.run(work)
        except (sqlite3.Error, StoreBroken) as problem:
            raise NotKept(f"commands can't be kept: {problem}") from problem

    # --- in the thread ----------------------------------------------------------------------------

    def _fulfil(self, db: Connection, wish: _Wish) -> None:
        """Bring every wish that waits onto the card. Whoever comes first takes all along: fifty
        devices that switch at the same moment wait for one commit, not for fifty."""
        if wish.is_kept:
            return
        given_up = set(self._given_up)
        waiting = [w for w in list(self._wishes) if not w.is_kept and w.number not in given_up]
        self._write(db, [each.row for each in waiting], (_OLDEST_OUT, [COMMANDS_MAX]))
        for each in waiting:
            each.is_kept = True

    def _write(self, db: Connection, rows: Sequence[Row], also: tuple[str, list[int]]) -> None:
        given_up = set(self._given_up)
        with db:
            db.execute("BEGIN")
            for number in given_up:
                db.execute("DELETE FROM command WHERE command_id = ?", [number])
            _put(db, [row for row in rows if row.command_id not in given_up])
            db.execute(*also)
        self._given_up -= given_up
        for row in rows:
            self._open.pop(row.command_id, None)
            if row.is_open and row.command_id not in given_up:
                self._open[row.command_id] = row

    def _load(self, db: Connection) -> None:
        """The file may be another one now: what is open stands in it, and nothing else is open."""
        with contextlib.suppress(sqlite3.Error):
            found = {row[0]: Row(*row) for row in db.execute(_OPEN).fetchall()}
            if not self._is_loaded:
                self._open, self._is_loaded = found, True
                self._last = db.execute("SELECT max(command_id) FROM command").fetchone()[0] or 0
                version = db.execute("PRAGMA user_version").fetchone()[0]
                self.is_set_back = version == COPY_VERSION
                self._last += SET_BACK_GAP if self.is_set_back else 0
            elif found.keys() != self._open.keys():
                with db:
                    db.execute("BEGIN")
                    db.execute("DELETE FROM command WHERE is_open")
                    _put(db, list(self._open.values()))
                    db.execute(_IS_MENDED)


_OPEN = "SELECT command_id, device_key, is_open, content FROM command WHERE is_open"
_IS_MENDED = f"PRAGMA user_version={FILE_VERSION}"
_OLDEST_OUT = """DELETE FROM command WHERE NOT is_open AND command_id <=
    (SELECT command_id FROM command ORDER BY command_id DESC LIMIT 1 OFFSET ?)"""


def _put(db: Connection, rows: Sequence[Row]) -> None:
    query = """INSERT OR REPLACE INTO command (command_id, device_key, is_open, content)
        VALUES (?, ?, ?, ?)"""
    db.executemany(query, rows)
