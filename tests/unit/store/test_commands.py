"""Commands on the card: before the radio, together, by numbers that only grow, whatever is lost."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.store.commands import SET_BACK_GAP, CommandTable, NotKept, Row
from edge.store.database import Connection, Database
from edge.store.settings import Settings, open_state


class Card:
    """A state.db and its commands; restarting opens both anew."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state.db"

    async def start(self) -> "Card":
        self.state: Database = await open_state(self.path)
        self.settings = await Settings.open(self.state)
        self.table = await CommandTable.open(self.state)
        return self

    async def crash(self) -> None:
        await self.state.close()

    async def open_numbers(self) -> list[int]:
        return [number for number, _ in await self.table.rows(only_open=True, limit=99)]

    async def damage(self) -> None:
        """Spoil the file under the running box."""

        def spoil(db: Connection) -> None:
            db.execute("PRAGMA wal_checkpoint(truncate)")
            db.execute("PRAGMA shrink_memory")
            with self.path.open("r+b") as file:
                file.seek(4096)
                file.write(b"\xff" * 4096 * 4)

        await self.state.run(spoil)


@pytest.fixture
async def card(folder: Path) -> AsyncIterator[Card]:
    card = await Card(folder).start()
    yield card
    await card.crash()


async def test_what_is_added_at_the_same_moment_is_one_transaction(card: Card) -> None:
    held_up = threading.Event()
    commits = 0

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement.startswith("COMMIT")

    await card.state.run(lambda db: db.set_trace_callback(count))
    holding = asyncio.ensure_future(card.state.run(lambda db: held_up.wait(5)))
    adding = [asyncio.ensure_future(card.table.add(f"d/{n}", {"n": n})) for n in range(50)]
    await asyncio.sleep(0)
    held_up.set()
    await holding
    numbers = [await each for each in adding]
    assert numbers == list(range(1, 51))
    assert commits == 1
    assert await card.open_numbers() == numbers[::-1]


async def test_number_is_given_out_only_when_the_command_is_on_the_card(card: Card) -> None:
    number = await card.table.add("d/1", {})
    await card.crash()
    await card.start()
    assert await card.open_numbers() == [number]


async def test_command_nobody_waits_for_any_more_stands_nowhere(card: Card) -> None:
    held_up = threading.Event()
    holding = asyncio.ensure_future(card.state.run(lambda db: held_up.wait(5)))
    adding = asyncio.ensure_future(card.table.add("d/1", {}))
    await asyncio.sleep(0)
    adding.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await adding
    held_up.set()
    await holding
    assert await card.open_numbers() == []
    assert await card.table.add("d/2", {}) == 2
    await card.crash()
    await card.start()
    assert await card.open_numbers() == [2]


async def test_one_failed_commit_fails_all_that_waited_for_it(card: Card) -> None:
    await card.state.run(lambda db: db.execute("PRAGMA query_only = ON"))
    adding = [asyncio.ensure_future(card.table.add(f"d/{n}", {})) for n in range(3)]
    for each in adding:
        with pytest.raises(NotKept):
            await each
    assert await card.open_numbers() == []


async def test_numbers_go_on_after_a_restart(card: Card) -> None:
    await card.table.add("d/1", {})
    await card.table.add("d/1", {})
    await card.crash()
    await card.start()
    assert await card.table.add("d/1", {}) == 3


async def test_file_that_is_damaged_while_the_box_runs_keeps_what_is_open(card: Card) -> None:
    old = await card.table.add("d/old", {})
    await card.settings.put("something", "that makes a good copy")
    await card.table.change(Row.of(old, "d/old", {}, is_open=False))
    new = await card.table.add("d/new", {})
    await card.damage()
    with contextlib.suppress(NotKept):
        await card.settings.get("something")
    assert card.state.problem is not None
    assert "good copy" in card.state.problem
    assert await card.open_numbers() == [new]
    assert await card.table.add("d/next", {}) == new + 1
    await card.crash()
    await card.start()
    assert not card.table.is_set_back
    assert await card.open_numbers() == [new + 1, new]


async def test_box_that_starts_with_the_good_copy_knows_it_and_uses_no_number_twice(
    card: Card,
) -> None:
    await card.table.add("d/old", {})
    await card.settings.put("something", "that makes a good copy")
    lost = [await card.table.add("d/lost", {}) for _ in range(5)]
    await card.damage()
    await card.crash()
    await card.start()
    assert card.table.is_set_back
    number = await card.table.add("d/next", {})
    assert number > max(lost)
    assert number == SET_BACK_GAP + 2


async def test_box_knows_it_was_set_back_until_it_did_something_about_it(card: Card) -> None:
    await card.settings.put("something", "that makes a good copy")
    await card.damage()
    for _ in range(2):  # it may be killed before it could
        await card.crash()
        await card.start()
        assert card.table.is_set_back
    await card.table.change(Row.of(card.table.next_number(), "d/1", {}, is_open=True))
    await card.crash()
    await card.start()
    assert not card.table.is_set_back
