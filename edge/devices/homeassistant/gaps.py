"""Fills the time in which the box was not connected from Home Assistant's five-minute statistics.

Home Assistant keeps them ten days. A row is written a little after its five minutes, so each gap is
read twice; how far the box has seen outlives the process in the notebook.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from edge.clock import Clock
from edge.devices.homeassistant.connection import Connection
from edge.devices.homeassistant.entities import (
    STATISTICS_ROW,
    STATISTICS_UNITS,
    statistics_readings,
)
from edge.family import Notebook
from edge.model import Channel, Intake

KEPT = timedelta(days=10)  # recorder's purge_keep_days, unless the person changed it
CHUNK = timedelta(days=1)
LATE = timedelta(minutes=6)
NOTE_EVERY = timedelta(minutes=15)
_NOTE = "homeassistant.read-until"


class Gaps:
    """What the box missed, and how far that is made good (`done`, 0 to 1)."""

    def __init__(
        self, intake: Intake, clock: Clock, notebook: Notebook, *, wants_history: bool
    ) -> None:
        self._intake = intake
        self._clock = clock
        self._notebook = notebook
        self._wants_history = wants_history
        self._seen_until: datetime | None = None
        self._joined_at: datetime | None = None
        self._passes_due_ms: list[int] = []
        self._note_due_ms = 0
        self.done = 1.0

    def join(self) -> None:
        """A session begins: what lies before is a gap."""
        self._joined_at = None
        self._passes_due_ms = [self._clock.boottime_ms(), self._in_ms(LATE)]
        self._note_due_ms = self._in_ms(NOTE_EVERY)

    async def tick(self, connection: Connection, channels: Mapping[str, Channel]) -> None:
        """Fill what is due; `channels` by entity id. Waits for a trusted clock: it asks by time."""
        if not self._clock.is_trusted():
            return
        now, now_ms = self._clock.wall_now(), self._clock.boottime_ms()
        self._joined_at = self._joined_at or now
        if self._passes_due_ms and now_ms >= self._passes_due_ms[0]:
            start = await self._missed_since(self._joined_at)
            await self._fill(connection, channels, start, self._joined_at)
            self._passes_due_ms.pop(0)
        if not self._passes_due_ms:
            self._seen_until = now
        if now_ms >= self._note_due_ms:
            await self.leave()

    async def leave(self) -> None:
        """Note how far the box has seen."""
        self._note_due_ms = self._in_ms(NOTE_EVERY)
        if self._seen_until:
            await self._notebook.put(_NOTE, self._seen_until.isoformat())

    async def _missed_since(self, joined_at: datetime) -> datetime:
        """The first whole row that the box did not see."""
        since = self._seen_until
        if since is None:
            noted = await self._notebook.get(_NOTE)
            if isinstance(noted, str):
                since = datetime.fromisoformat(noted)
            else:
                since = joined_at - KEPT if self._wants_history else joined_at
        since = max(since, joined_at - KEPT)
        return since + (datetime.min.replace(tzinfo=UTC) - since) % STATISTICS_ROW

    async def _fill(
        self,
        connection: Connection,
        channels: Mapping[str, Channel],
        start: datetime,
        end: datetime,
    ) -> None:
        """Offer the rows that lie within [start, end], the newest day first."""
        whole = end - start
        while channels and start < end:
            chunk_start = max(start, start + (end - start - timedelta.resolution) // CHUNK * CHUNK)
            told = await connection.ask(
                "recorder/statistics_during_period",
                start_time=chunk_start.isoformat(),
                end_time=end.isoformat(),
                statistic_ids=list(channels),
                period="5minute",
                units=STATISTICS_UNITS,
                types=["mean", "state"],
            )
            for name, rows in (told or {}).items():
                if name in channels:
                    for reading in statistics_readings(rows, channels[name], chunk_start, end):
                        self._intake.offer(reading)
            end = chunk_start
            self.done = 1 - (end - start) / whole
        self.done = 1.0

    def _in_ms(self, wait: timedelta) -> int:
        return self._clock.boottime_ms() + wait // timedelta(milliseconds=1)
