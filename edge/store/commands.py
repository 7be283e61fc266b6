"""Every switching act, in state.db: on the card before its device is touched.

Rows are opaque here: control/ledger.py says what stands in them. Numbers only grow.
"""

import json
from collections.abc import Mapping
from typing import Any

from sqlite_utils.migrations import Migrations

from edge.store.database import Connection, Database

COMMANDS_MAX = 2_000  # for the page's history; open ones are never dropped

COMMANDS = Migrations("commands")


@COMMANDS()
def commands(db: Connection) -> None:
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
        """Write a new open command; its number. It is on the card when this returns."""
        row = {"device_key": device_key, "is_open": 1, "content": json.dumps(content)}

        def write(db: Connection) -> int:
            number = db.execute("SELECT coalesce(max(command_id), 0) + 1 FROM command").fetchone()
            db.table("command").insert(row | {"command_id": number[0]}, pk="command_id")
            query = "DELETE FROM command WHERE NOT is_open AND command_id <= ?"
            db.execute(query, [number[0] - COMMANDS_MAX])
            return int(number[0])

        return await self._database.atomically(write)

    async def change(self, command_id: int, content: Mapping[str, Any], *, is_open: bool) -> None:
        """Write what became of it."""
        row = {"is_open": int(is_open), "content": json.dumps(content)}
        await self._database.atomically(lambda db: db.table("command").update(command_id, row))

    async def rows(self, *, only_open: bool, limit: int) -> list[tuple[int, dict[str, Any]]]:
        """The newest first."""
        query = "SELECT command_id, content FROM command"
        query += " WHERE is_open" if only_open else ""
        query += " ORDER BY command_id DESC LIMIT ?"
        found = await self._database.run(lambda db: db.execute(query, [limit]).fetchall())
        return [(number, json.loads(content)) for number, content in found]
