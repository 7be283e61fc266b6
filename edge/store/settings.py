"""What the box must never forget, in state.db: who claimed it, where it is paired, what feeds what.

Documents are JSON under a name and are on the card when put() returns. After each change a copy of
the file is kept; a damaged file is put aside and the copy takes its place. Should both be lost,
`lost` says so for ever: a box that may have been claimed must not become claimable by itself.
Small by intention: nothing that changes with every reading belongs here.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from edge.clock import Clock
from edge.store.database import Connection, Database, Layout
from edge.store.readings import epoch_ms, utc
from edge.store.schema import Schema, Tables

EVENTS_MAX = 1_000
STATE_BYTES_MAX = 8 << 20
_LOST = "lost"

type JSON = bool | int | float | str | list[JSON] | dict[str, JSON] | None

STATE = Schema("state")


@STATE.step
def state(db: Tables) -> None:
    db.table("document").create({"name": str, "content": str}, pk="name")
    db.table("event").create(
        {"id": int, "at_ms": int, "kind": str, "text": str, "detail": str}, pk="id"
    )


async def open_state(path: Path) -> Database:
    """Open or begin state.db. Raises StoreBroken if another process holds it."""
    return await Database.open(
        path, STATE, layout=Layout(bytes_max=STATE_BYTES_MAX, good_copy=True, ballast=True)
    )


class Settings:
    """Documents by name. What is put is read back equal, but for tuples, which become lists."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    async def open(cls, database: Database) -> "Settings":
        settings = cls(database)
        if database.started_anew:
            await settings.put(_LOST, database.problem)
        return settings

    async def lost(self) -> str | None:
        """Why earlier settings are gone; None on a sound box. Only a reset ends it."""
        if self._database.started_anew:
            return self._database.problem
        found = await self.get(_LOST)
        return None if found is None else str(found)

    async def get(self, name: str) -> JSON:
        """The document, or None where there is none."""

        def read(db: Connection) -> JSON:
            query = "SELECT content FROM document WHERE name = ?"
            row = db.execute(query, [name]).fetchone()
            return None if row is None else json.loads(row[0])

        return await self._database.run(read)

    async def put(self, name: str, value: JSON) -> None:
        """Keep value; it is on the card when this returns. Writes nothing where nothing changed."""
        if value == await self.get(name):
            return
        query = "INSERT OR REPLACE INTO document (name, content) VALUES (?, ?)"
        row = (name, json.dumps(value))
        await self._database.atomically(lambda db: db.execute(query, row))
        await self._database.save_good_copy()

    async def delete(self, name: str) -> None:
        """Forget the document; it need not exist."""
        query = "DELETE FROM document WHERE name = ?"
        await self._database.atomically(lambda db: db.execute(query, [name]))
        await self._database.save_good_copy()

    async def names(self) -> list[str]:
        return await self._database.run(
            lambda db: [name for (name,) in db.execute("SELECT name FROM document ORDER BY name")]
        )


@dataclass(frozen=True, slots=True)
class Event:
    """Something a person may want to know later. `detail` is for the curious."""

    at: datetime
    kind: str
    text: str
    detail: dict[str, JSON]


class Events:
    """Claims, log-ins, commands, losses: the newest thousand."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def add(self, kind: str, text: str, detail: dict[str, JSON] | None = None) -> None:
        """Note an event now."""
        row = (epoch_ms(self._clock.wall_now()), kind, text, json.dumps(detail or {}))

        def write(db: Connection) -> None:
            query = "INSERT INTO event (at_ms, kind, text, detail) VALUES (?, ?, ?, ?)"
            db.execute(query, row)
            query = "DELETE FROM event WHERE id <= (SELECT max(id) FROM event) - ?"
            db.execute(query, [EVENTS_MAX])

        await self._database.atomically(write)

    async def latest(self, limit: int) -> list[Event]:
        """The newest first. The wall clock may have been wrong; the order is right."""
        query = "SELECT at_ms, kind, text, detail FROM event ORDER BY id DESC LIMIT ?"
        rows = await self._database.run(lambda db: db.execute(query, [limit]).fetchall())
        return [Event(utc(at_ms), kind, text, json.loads(d)) for at_ms, kind, text, d in rows]
