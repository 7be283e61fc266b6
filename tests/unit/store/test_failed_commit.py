"""The card says no at COMMIT. SQLite's own authorizer plays the card."""

import sqlite3
from datetime import timedelta

import pytest

from edge.errors import Unreachable
from edge.model import BoxTime, Slot
from edge.store.database import Connection
from edge.store.outbox import Verdict
from edge.store.transaction import STAGED_MAX
from tests.unit.store.conftest import Box

QUARTER = timedelta(minutes=15)


async def refuse_commits(box: Box, *, refuse: bool) -> None:
    def judge(action: int, what: str | None, *_: str | None) -> int:
        is_commit = action == sqlite3.SQLITE_TRANSACTION and what == "COMMIT"
        return sqlite3.SQLITE_DENY if is_commit else sqlite3.SQLITE_OK

    def set_judge(db: Connection) -> None:
        db.set_authorizer(judge if refuse else None)

    await box.buffer.transaction.database.run(set_judge)


async def test_nothing_is_lost_and_the_problem_is_shown(box: Box) -> None:
    now = box.clock.wall_now()
    await refuse_commits(box, refuse=True)
    slot = Slot(1, now - QUARTER, QUARTER, 1.5)
    await box.outbox.enqueue([slot], {1: now})
    box.buffer.put("a", BoxTime(box.buffer.boot, 5), 1)
    await box.buffer.commit()
    box.buffer.put("a", BoxTime(box.buffer.boot, 6), 2)
    await box.clock.advance(timedelta(seconds=30))
    await box.buffer.commit()
    stats = await box.buffer.stats()
    assert (stats.stored, stats.uncommitted) == (0, 2)
    assert stats.oldest_uncommitted == timedelta(seconds=30)
    assert stats.problem is not None
    assert await box.outbox.next_batch(200, now) == []
    assert await box.outbox.watermark(1) == now

    await refuse_commits(box, refuse=False)
    await box.buffer.commit()
    await box.restart()
    stats = await box.buffer.stats()
    assert (stats.stored, stats.uncommitted, stats.problem) == (2, 0, None)
    assert [row.slot for row in await box.outbox.next_batch(200, now)] == [slot]
    assert await box.outbox.watermark(1) == now


async def test_settled_slots_are_not_offered_again(box: Box) -> None:
    now = box.clock.wall_now()
    await box.outbox.enqueue([Slot(1, now - i * QUARTER, QUARTER, i) for i in (1, 2)], {1: now})
    await box.buffer.commit()
    await refuse_commits(box, refuse=True)
    for row in await box.outbox.next_batch(200, now):
        await box.outbox.settle({row.row_id: (Verdict.ACCEPT, "")})
        await box.buffer.commit()
    assert await box.outbox.next_batch(200, now) == []
    await refuse_commits(box, refuse=False)
    await box.buffer.commit()
    await box.restart()
    assert await box.outbox.next_batch(200, now) == []
    assert (await box.outbox.counts()).accepted_total == 2


async def test_changes_that_wait_are_bounded(box: Box) -> None:
    await refuse_commits(box, refuse=True)
    now = box.clock.wall_now()

    async def enqueue_many() -> None:
        for number in range(STAGED_MAX + 1):
            await box.outbox.enqueue([], {1: now + number * QUARTER})

    with pytest.raises(Unreachable):
        await enqueue_many()
    await refuse_commits(box, refuse=False)
    await enqueue_many()


async def test_change_with_a_bug_leaves_nothing_half_done(box: Box) -> None:
    now = box.clock.wall_now()

    def buggy(db: Connection) -> None:
        db.execute("INSERT INTO counter VALUES ('x', 1)")
        raise ZeroDivisionError

    await box.outbox.enqueue([], {1: now})
    with pytest.raises(ZeroDivisionError):
        await box.buffer.transaction.change(buggy)
    await box.buffer.commit()
    count = await box.buffer.transaction.look(
        lambda db: db.execute("SELECT count(*) FROM counter").fetchone()[0]
    )
    assert count == 0
    assert await box.outbox.watermark(1) == now
