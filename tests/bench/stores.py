"""The stores that `make bench` compares, each behind the same four calls.

Ours is the product's own code. The peers are used as their makers ship them: the ThingsBoard
gateway's storage class is unmodified and lives in a virtual environment of its own.
"""

import json
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Protocol

import persistqueue
import sqlite_utils

from edge.model import BoxTime, Slot
from edge.store.buffer import Buffer
from edge.store.outbox import Outbox, Verdict
from tests.house.fake_clock import FakeClock

SLOT = timedelta(minutes=5)
BATCH_SLOTS = 200
THINGSBOARD = Path("build/bench/thingsboard")
THINGSBOARD_VERSION = "3.8.5"


class Sent(NamedTuple):
    series: int
    at_ms: int
    value: float


class Store(Protocol):
    """What is done to every store."""

    name: str

    async def open(self, folder: Path) -> None: ...

    async def step(self, readings: list[Sent], second: int) -> None:
        """Ten seconds passed and brought these readings; store them as this store does."""

    async def acknowledge(self, second: int) -> None:
        """Once a minute: the server took everything so far."""

    async def close(self) -> None: ...


class Ours:
    """Group commit every 30 s; slots of 30 sensors every five minutes ride along."""

    def __init__(self, *, commit_every_s: int = 30) -> None:
        self.name = f"this box, {commit_every_s} s commits"
        self._commit_every_s = commit_every_s

    async def open(self, folder: Path) -> None:
        self._clock = FakeClock()
        self._buffer = await Buffer.open(folder / "buffer.db", self._clock)
        self._outbox = await Outbox.open(self._buffer)
        self._start = self._clock.wall_now()

    async def step(self, readings: list[Sent], second: int) -> None:
        for series, at_ms, value in readings:
            self._buffer.put(f"channel-{series}", BoxTime(self._buffer.boot, at_ms), value)
        await self._clock.advance(self._start + timedelta(seconds=second) - self._clock.wall_now())
        if second % self._commit_every_s == 0:
            await self._buffer.commit()

    async def acknowledge(self, second: int) -> None:
        now = self._clock.wall_now()
        if second % SLOT.total_seconds() == 60:  # over and settled
            start = now - timedelta(seconds=60) - SLOT
            slots = [Slot(s, start, SLOT, round(1.5 + s / 7, 3)) for s in range(1, 31)]
            await self._outbox.enqueue(slots, dict.fromkeys(range(1, 31), start + SLOT))
        while batch := await self._outbox.next_batch(BATCH_SLOTS, now):
            await self._outbox.settle({row.row_id: (Verdict.ACCEPT, "") for row in batch})
        await self._buffer.forget_before(now - timedelta(minutes=10))

    async def close(self) -> None:
        await self._buffer.close()


class Obvious:
    """What one writes on the first afternoon: a JSON payload per row, library defaults."""

    name = "sqlite-utils insert, JSON"

    async def open(self, folder: Path) -> None:
        self._db = sqlite_utils.Database(folder / "readings.db")

    async def step(self, readings: list[Sent], second: int) -> None:
        for reading in readings:
            row = {"created": _iso(reading.at_ms), "payload": _payload(reading)}
            self._db.table("readings").insert(row, pk="id")

    async def acknowledge(self, second: int) -> None:
        self._db.table("readings").delete_where()

    async def close(self) -> None:
        self._db.close()


class PersistQueue:
    name = "persist-queue SQLiteAckQueue"

    async def open(self, folder: Path) -> None:
        self._queue = persistqueue.SQLiteAckQueue(str(folder), auto_commit=True)
        self._put = 0

    async def step(self, readings: list[Sent], second: int) -> None:
        for reading in readings:
            self._queue.put(_payload(reading))

    async def acknowledge(self, second: int) -> None:
        while self._queue.size:
            self._queue.ack(self._queue.get(block=False))
        self._queue.clear_acked_data(keep_latest=0)

    async def close(self) -> None:
        self._queue.close()


class ThingsBoard:
    """The gateway's SQLite storage in a process of its own (tests/bench/thingsboard_peer.py)."""

    name = f"ThingsBoard gateway {THINGSBOARD_VERSION}"

    async def open(self, folder: Path) -> None:
        python = THINGSBOARD / "bin/python"
        self._peer = subprocess.Popen(  # noqa: ASYNC220 — nothing else runs in this loop
            [str(python), str(Path(__file__).with_name("thingsboard_peer.py")), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ask({"say": "ready"})

    async def step(self, readings: list[Sent], second: int) -> None:
        self._ask({"put": [_payload(reading) for reading in readings]})

    async def acknowledge(self, second: int) -> None:
        self._ask({"drain": True})

    async def close(self) -> None:
        self._peer.communicate()

    def _ask(self, request: dict[str, object]) -> None:
        assert self._peer.stdin
        assert self._peer.stdout
        self._peer.stdin.write(json.dumps(request) + "\n")
        self._peer.stdin.flush()
        answer = self._peer.stdout.readline()
        if answer != "ok\n":
            raise RuntimeError(f"the ThingsBoard peer said {answer!r}")


def install_thingsboard() -> str | None:
    """Make sure of the peer's environment; return why it can't be had."""
    if (THINGSBOARD / ".ready").exists():
        return None
    package = f"thingsboard-gateway=={THINGSBOARD_VERSION}"
    for command in (
        [sys.executable, "-m", "venv", str(THINGSBOARD)],
        [str(THINGSBOARD / "bin/pip"), "install", "-q", "--no-deps", package],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return done.stderr.strip().splitlines()[-1]
    (THINGSBOARD / ".ready").touch()
    return None


def _payload(reading: Sent) -> str:
    return json.dumps(
        {
            "sensor": f"meter_{reading.series:02d}.power",
            "event_start": _iso(reading.at_ms),
            "value": reading.value,
            "unit": "W",
            "status": "ok",
        }
    )


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(1_780_000_000 + at_ms / 1000, UTC).isoformat()


def sqlite_version() -> str:
    return sqlite3.sqlite_version
