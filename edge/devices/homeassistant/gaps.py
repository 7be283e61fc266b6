"""Fills what the box did not see from Home Assistant's five-minute statistics: the time in which it
was not connected, and what was measured before a channel began to feed a sensor.

Home Assistant keeps them ten days. A row is written a little after its five minutes, so each gap is
read twice. Work goes on piece by piece, the newest first, so that live values never wait for it and
the buffer's memory never overflows; how far the box has seen outlives the process in the notebook.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from edge.clock import Clock
from edge.devices.homeassistant.connection import Connection
from edge.devices.homeassistant.entities import (
    POWER_INTERVAL,
    STATISTICS_ROW,
    STATISTICS_UNITS,
    statistics_readings,
)
from edge.family import Notebook
from edge.model import Channel, Intake, Kind

KEPT = timedelta(days=10)  # recorder's purge_keep_days, unless the person changed it
PIECE_MAX = timedelta(days=1)
PIECE_READINGS = 2500  # 30 channels of ten days take a quarter of an hour
LATE = timedelta(minutes=6)
NOTE_EVERY = timedelta(minutes=15)
_NOTE, _HISTORY = "homeassistant.read-until", "homeassistant.history"


@dataclass
class _Stretch:
    """Rows of [start, end] still to be read, whole ones only; `until`: where a channel's end is
    earlier. Empty means every channel, to the end."""

    start: datetime
    end: datetime
    until: Mapping[str, datetime] = field(default_factory=dict)
    length: timedelta = field(init=False)

    def __post_init__(self) -> None:
        self.length = self.end - self.start


class Gaps:
    """What the box did not see, and how far that is made good (`done`, 0 to 1)."""

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
        self._gap: _Stretch | None = None
        self._history: _Stretch | None = None
        self._has_asked_notebook = False
        self.done = 1.0

    def join(self) -> None:
        """A session begins: what lies before is a gap."""
        self._joined_at = self._gap = None
        self._passes_due_ms = [self._clock.boottime_ms(), self._in_ms(LATE)]
        self._note_due_ms = self._in_ms(NOTE_EVERY)

    async def want_history(self, held_since: Mapping[str, datetime | None]) -> None:
        """Read what there is of these channels (keys) before the box's own readings of them begin.

        Outlives the process; asked for again, it is read again and changes nothing.
        """
        if not (held_since and self._wants_history and self._clock.is_trusted()):
            return
        now = self._clock.wall_now()
        pending = dict(self._history.until) if self._history else {}
        pending |= {key: since or now for key, since in held_since.items()}
        await self._notebook.put(_HISTORY, {key: at.isoformat() for key, at in pending.items()})
        self._begin_history(pending)

    async def tick(self, connection: Connection, channels: Mapping[str, Channel]) -> None:
        """Read one piece of what is due; `channels` by entity id. Waits for a trusted clock: it
        asks by time."""
        if not self._clock.is_trusted():
            return
        now, now_ms = self._clock.wall_now(), self._clock.boottime_ms()
        self._joined_at = self._joined_at or now
        await self._take_up_history()
        if self._gap is None and self._passes_due_ms and now_ms >= self._passes_due_ms[0]:
            self._gap = _Stretch(await self._missed_since(self._joined_at), self._joined_at)
        if self._gap is not None:
            if await self._read_piece(connection, channels, self._gap):
                self._gap = None
                self._passes_due_ms.pop(0)
        elif self._history is not None and await self._read_piece(
            connection, channels, self._history
        ):
            self._history = None
            await self._notebook.put(_HISTORY, {})
        if not self._passes_due_ms:
            self._seen_until = now
        if now_ms >= self._note_due_ms:
            await self.leave()

    async def leave(self) -> None:
        """Note how far the box has seen."""
        self._note_due_ms = self._in_ms(NOTE_EVERY)
        if self._seen_until:
            await self._notebook.put(_NOTE, self._seen_until.isoformat())

    # --- inside -----------------------------------------------------------------------------------

    async def _missed_since(self, joined_at: datetime) -> datetime:
        """The first whole row that the box did not see."""
        since = self._seen_until
        if since is None:
            noted = await self._notebook.get(_NOTE)
            if isinstance(noted, str):
                since = datetime.fromisoformat(noted)
            else:
                since = joined_at - KEPT if self._wants_history else joined_at
        return _row_at_or_after(max(since, joined_at - KEPT))

    async def _take_up_history(self) -> None:
        """What an earlier process was asked for and did not finish."""
        if not self._has_asked_notebook:
            self._has_asked_notebook = True
            noted = await self._notebook.get(_HISTORY)
            if isinstance(noted, dict) and noted and self._history is None:
                self._begin_history({k: datetime.fromisoformat(at) for k, at in noted.items()})

    def _begin_history(self, until: Mapping[str, datetime]) -> None:
        start = _row_at_or_after(self._clock.wall_now() - KEPT)
        self._history = _Stretch(start, max(start, *until.values()), until)

    async def _read_piece(
        self, connection: Connection, channels: Mapping[str, Channel], stretch: _Stretch
    ) -> bool:
        """Offer the newest rows of a stretch that were not offered yet; whether it was the last."""
        until = stretch.until
        wanted = {n: c for n, c in channels.items() if not until or c.key in until}
        if not wanted or stretch.start >= stretch.end:
            self.done = 1.0
            return True
        rows = PIECE_READINGS // sum(_readings_a_row(channel) for channel in wanted.values())
        span = max(STATISTICS_ROW, min(PIECE_MAX, rows * STATISTICS_ROW))
        start = max(stretch.start, _row_at_or_after(stretch.end - span))
        told = await connection.ask(
            "recorder/statistics_during_period",
            start_time=start.isoformat(),
            end_time=stretch.end.isoformat(),
            statistic_ids=list(wanted),
            period="5minute",
            units=STATISTICS_UNITS,
            types=["mean", "state"],
        )
        for name, rows_told in (told or {}).items():
            if channel := wanted.get(name):
                end = min(stretch.end, until.get(channel.key, stretch.end))
                for reading in statistics_readings(rows_told, channel, start, end):
                    self._intake.offer(reading)
        stretch.end = start
        self.done = 1 - (start - stretch.start) / stretch.length
        return start == stretch.start

    def _in_ms(self, wait: timedelta) -> int:
        return self._clock.boottime_ms() + wait // timedelta(milliseconds=1)


def _readings_a_row(channel: Channel) -> int:
    return STATISTICS_ROW // POWER_INTERVAL if channel.kind is Kind.INSTANTANEOUS else 1


def _row_at_or_after(moment: datetime) -> datetime:
    return moment + (datetime.min.replace(tzinfo=UTC) - moment) % STATISTICS_ROW
