"""Notes among the events what had to be dropped: the totals alone do not say when.

Only looks at the counters of the store; the loss itself has long been decided there.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from edge.clock import Clock
from edge.documents import Documents
from edge.store.buffer import Buffer
from edge.store.outbox import Outbox

LOOK_EVERY = timedelta(minutes=5)
# A full buffer drops without end: one event each time would push every claim out of the list.
TOLD_EVERY = timedelta(hours=1)
_DOCUMENT = "losses_told"

type Note = Callable[[str, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Lost:
    """Totals. What a full memory dropped is counted since the start, the rest for ever."""

    in_memory: int
    readings: int
    slots: int


class Losses:
    """A part of the agent. How far it has told outlives a restart, so nothing is told twice."""

    def __init__(
        self, total: Callable[[], Awaitable[Lost]], documents: Documents, clock: Clock, note: Note
    ) -> None:
        self._total = total
        self._documents = documents
        self._clock = clock
        self._note = note
        self._in_memory_told = 0

    async def run(self) -> None:
        while True:
            told = await self.look()
            await self._clock.sleep(TOLD_EVERY if told else LOOK_EVERY)

    async def look(self) -> bool:
        """Tell what was lost since it was last told; whether there was anything."""
        now = await self._total()
        before = await self._documents.get(_DOCUMENT) or {"readings": 0, "slots": 0}
        readings = now.readings - before["readings"] + now.in_memory - self._in_memory_told
        slots = now.slots - before["slots"]
        if not readings and not slots:
            return False
        await self._documents.put(_DOCUMENT, {"readings": now.readings, "slots": now.slots})
        self._in_memory_told = now.in_memory
        if readings > 0 or slots > 0:  # a new file begins at nought
            await self._note("dropped", _sentence(max(readings, 0), max(slots, 0)))
        return True


def totals(buffer: Buffer, outbox: Outbox) -> Callable[[], Awaitable[Lost]]:
    """What both of them have counted."""

    async def total() -> Lost:
        stats, counts = await buffer.stats(), await outbox.counts()
        return Lost(stats.dropped_memory, stats.dropped_full, counts.dropped_total)

    return total


def _sentence(readings: int, slots: int) -> str:
    return f"the oldest {readings} readings and {slots} values for FlexMeasures had no more room"
