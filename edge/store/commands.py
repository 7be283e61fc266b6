"""Every switching act, in state.db: on the card before its device is touched.

Rows are opaque here: control/ledger.py says what stands in them. Numbers only grow.
"""

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from edge.errors import EdgeError, StoreBroken
from edge.store.database import Connection, Database
from edge.store.schema import Schema, Tables

COMMANDS_MAX = 2_000  # for the page's history; open ones are never dropped

COMMANDS = Schema("commands")


class NotKept(EdgeError):
    """The card did not take it: what was to be written would not survive a power cut."""


@COMMANDS.step
def commands(db: Tables) -> None:
    db.table("command").create(
        {"command_id": int, "device_key": str, "is_open": int, "content": str}, pk="command_id"
    )


class CommandTable:
    """Rows of `content` (JSON) by number."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    async def open(cls, database: Database) -> "CommandTable":
        await database.migrate(COMMANDS)
        return cls(database)

    async def add(self, device_key: str, content: Mapping[str, Any]) -> int:
        """Write a new open command; its number. It is on the card when this returns.

        Raises NotKept; then it stands nowhere.
        """
        row = (device_key, 1, json.dumps(content))

        def write(db: Connection) -> int:
            number = db.execute("SELECT coalesce(max(command_id), 0) + 1 FROM command").fetchone()
            query = (
                "INSERT INTO command (command_id, device_key, is_open, content) VALUES (?, ?, ?, ?)"
            )
            db.execute(query, (number[0], *row))
            query = "DELETE FROM command WHERE NOT is_open AND command_id <= ?"
            db.execute(query, [number[0] - COMMANDS_MAX])
            return int(number[0])

        number: int = await self._kept(write)
        if self._database.is_standing_in:
            query = "DELETE FROM command WHERE command_id = ?"
            await self._kept(lambda db: db.execute(query, [number]))
            raise NotKept("the card can't be written; nothing is switched before it can")
        return number

    async def change(self, command_id: int, content: Mapping[str, Any], *, is_open: bool) -> None:
        """Write what became of it. Raises NotKept; in memory only where the card takes nothing."""
        row = {"is_open": int(is_open), "content": json.dumps(content)}

        def write(db: Connection) -> None:
            query = "UPDATE command SET is_open = ?, content = ? WHERE command_id = ?"
            db.execute(query, [row["is_open"], row["content"], command_id])

        await self._kept(write)

    async def rows(self, *, only_open: bool, limit: int) -> list[tuple[int, dict[str, Any]]]:
        """The newest first. Raises NotKept."""
        query = "SELECT command_id, content FROM command"
        query += " WHERE is_open" if only_open else ""
        query += " ORDER BY command_id DESC LIMIT ?"
        found = await self._kept(lambda db: db.execute(query, [limit]).fetchall())
        return [(number, json.loads(content)) for number, content in found]

    async def _kept(self, work: Any) -> Any:
        try:
            return await self._database.atomically(work)
        except (sqlite3.Error, StoreBroken) as problem:
            raise NotKept(f"commands can't be kept: {problem}") from problem
