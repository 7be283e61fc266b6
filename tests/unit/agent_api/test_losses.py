import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from edge.agent_api.losses import LOOK_EVERY, TOLD_EVERY, Losses, Lost
from tests.house.fake_clock import FakeClock
from tests.house.paper_notebook import PaperNotebook


class Box:
    def __init__(self) -> None:
        self.lost = Lost(in_memory=0, readings=0, slots=0)
        self.events: list[str] = []
        self.documents = PaperNotebook()
        self.clock = FakeClock()
        self.start()

    def start(self) -> None:
        self.losses = Losses(self._total, self.documents, self.clock, self._note)

    async def _total(self) -> Lost:
        return self.lost

    async def _note(self, kind: str, text: str) -> None:
        assert kind == "dropped"
        self.events.append(text)


@pytest.fixture
def box() -> Box:
    return Box()


async def test_what_was_dropped_is_an_event_once(box: Box) -> None:
    assert not await box.losses.look()
    box.lost = Lost(in_memory=3, readings=40, slots=5)
    assert await box.losses.look()
    assert not await box.losses.look()
    [said] = box.events
    assert "43 readings and 5 values" in said
    box.lost = replace(box.lost, slots=7)
    assert await box.losses.look()
    assert "0 readings and 2 values" in box.events[-1]


async def test_restart_tells_nothing_twice_and_forgets_nothing(box: Box) -> None:
    box.lost = Lost(in_memory=3, readings=40, slots=5)
    await box.losses.look()
    box.start()
    box.lost = Lost(in_memory=0, readings=41, slots=5)  # memory counts from the start
    await box.losses.look()
    assert "1 readings and 0 values" in box.events[-1]
    assert len(box.events) == 2


async def test_new_file_that_counts_from_nought_is_no_loss(box: Box) -> None:
    box.lost = Lost(in_memory=0, readings=40, slots=5)
    await box.losses.look()
    box.lost = Lost(in_memory=0, readings=0, slots=0)
    await box.losses.look()
    box.lost = Lost(in_memory=0, readings=2, slots=0)
    await box.losses.look()
    assert ["40" in box.events[0], "2 readings" in box.events[1]] == [True, True]
    assert len(box.events) == 2


async def test_box_that_drops_all_the_time_says_so_once_an_hour(box: Box) -> None:
    running = asyncio.create_task(box.losses.run())
    steps = timedelta(hours=6) // LOOK_EVERY
    for _ in range(steps):
        box.lost = replace(box.lost, readings=box.lost.readings + 100)
        await box.clock.advance(LOOK_EVERY)
    running.cancel()
    await asyncio.wait({running})
    assert len(box.events) == timedelta(hours=6) // TOLD_EVERY
