"""Slots on their way to FlexMeasures, in buffer.db, committed together with the readings.

A slot is written once, before it is offered, and never recomputed in place; another value for it
becomes a row of its own with its own prior. Every slot gets a verdict: ACCEPT leaves (its value
stays as history for two days), REJECT is set aside with its reason and never offered again, KEEP
stays. Nothing is offered before it is committed.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from edge.model import Slot
from edge.store.buffer import Buffer
from edge.store.database import Connection
from edge.store.readings import epoch_ms, total, utc
from edge.store.slots import OutboxSlot, Slots, SlotState, Verdict, start_ms_of

FRESH = timedelta(hours=1)  # what the house looks like now goes before what it looked like


@dataclass(frozen=True, slots=True)
class OutboxCounts:
    """Slots by what became of them; the totals outlive restarts."""

    waiting: int
    in_jobs: int
    accepted_total: int
    rejected_total: int
    dropped_total: int  # because the file was full
    oldest_waiting: datetime | None


class Outbox:
    """All methods but open() may raise Unreachable while the card takes nothing."""

    def __init__(self, buffer: Buffer) -> None:
        self._transaction = buffer.transaction
        self._clock = buffer.clock
        self._slots = Slots(buffer.clock.wall_now, buffer.late_before)

    @classmethod
    async def open(cls, buffer: Buffer) -> "Outbox":
        outbox = cls(buffer)
        await buffer.transaction.join(outbox._slots)
        return outbox

    async def enqueue(self, slots: Sequence[Slot], until: Mapping[int, datetime]) -> None:
        """Take slots that are due, and per sensor the time up to which everything is final, gaps
        too. Offered after the next commit. A slot that is known with this value is ignored, with
        another it is corrected. One that is not a number is set aside at once."""
        now_ms = epoch_ms(self._clock.wall_now())
        await self._transaction.change(lambda db: self._slots.enqueue(db, slots, until, now_ms))

    async def watermark(self, sensor_id: int) -> datetime | None:
        """Up to where the slots of a sensor were made."""
        at_ms = await self._transaction.look(lambda _: self._slots.watermark_ms(sensor_id))
        return utc(at_ms) if at_ms else None

    async def began(self, sensor_id: int) -> datetime | None:
        """Where the slots of a sensor began when it was first fed; None where that is not known."""
        at_ms = await self._transaction.look(lambda _: self._slots.began_ms(sensor_id))
        return utc(at_ms) if at_ms else None

    async def next_batch(
        self,
        limit: int,
        now: datetime,
        skip: Collection[int] = (),
        under_way: Collection[int] = (),
    ) -> list[OutboxSlot]:
        """Slots to offer now: of one sensor (none in skip), with one prior, in order of time,
        spanning at most limit resolutions (gaps may lie between), without the rows that are under
        way. Fresh ones first, then the oldest. A correction waits until what it corrects is
        settled."""
        fresh_ms = epoch_ms(now - FRESH)
        return await self._transaction.look(
            lambda db: self._slots.next_batch(db, limit, fresh_ms, skip, under_way)
        )

    async def posted(self, row_ids: Collection[int], job: str | None = None) -> None:
        """These were offered at this moment; with a job the server has yet to say how it ended."""
        at_ms = epoch_ms(self._clock.wall_now())
        await self._transaction.change(lambda db: self._slots.posted(db, row_ids, at_ms, job))

    async def settle(self, verdicts: Mapping[int, tuple[Verdict, str]]) -> None:
        """Give slots their verdict, with the reason where it is not ACCEPT."""
        await self._transaction.change(lambda db: self._slots.settle(db, verdicts))

    async def jobs_open(self) -> dict[str, list[OutboxSlot]]:
        """Slots that are in a job of the server, by job."""
        jobs: dict[str, list[OutboxSlot]] = {}
        for slot in await self._transaction.look(
            lambda db: self._slots.select(db, "state = ? ORDER BY row_id", SlotState.IN_JOB)
        ):
            jobs.setdefault(slot.job or "", []).append(slot)
        return jobs

    async def history(self, sensor_id: int, start: datetime, end: datetime) -> list[Slot]:
        """Accepted slots that begin in [start, end), by time; reaches back two days."""
        bounds = epoch_ms(start), epoch_ms(end)
        return await self._transaction.look(lambda db: self._slots.history(db, sensor_id, *bounds))

    async def rejected(self, limit: int) -> list[OutboxSlot]:
        """Slots that were set aside, the newest first."""
        where = "state = ? ORDER BY row_id DESC LIMIT ?"
        return await self._transaction.look(
            lambda db: self._slots.select(db, where, SlotState.REJECTED, limit)
        )

    async def counts(self) -> OutboxCounts:
        def read(db: Connection) -> OutboxCounts:
            states = dict(db.execute("SELECT state, count(*) FROM slot GROUP BY state"))
            oldest = db.execute("SELECT min(row_id) FROM slot WHERE state < 2").fetchone()[0]
            return OutboxCounts(
                waiting=states.get(SlotState.WAITING, 0),
                in_jobs=states.get(SlotState.IN_JOB, 0),
                accepted_total=total(db, "accepted"),
                rejected_total=total(db, "rejected"),
                dropped_total=total(db, "dropped_slots"),
                oldest_waiting=None if oldest is None else utc(start_ms_of(oldest)),
            )

        return await self._transaction.look(read)

    async def forget_all(self) -> None:
        """Another FlexMeasures: slots, watermarks and history of this one mean nothing there."""
        await self._transaction.change(self._slots.forget_all)
        await self._transaction.commit()


__all__ = ["Outbox", "OutboxCounts", "OutboxSlot", "SlotState", "Verdict"]
