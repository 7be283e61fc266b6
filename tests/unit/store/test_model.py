"""The store against plain dictionaries: whatever happens in whatever order, they agree."""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge.model import BoxTime, Slot
from edge.store.outbox import Verdict
from tests.house.fake_clock import FakeClock
from tests.unit.conftest import MEMORY
from tests.unit.store.conftest import Box

KEYS = st.sampled_from(["a", "b", "c"])
VALUES = st.floats(allow_nan=False) | st.decimals(0, 3000, places=1).map(float)
SENSORS = st.integers(1, 3)
SLOT = timedelta(minutes=5)
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVER = (START - timedelta(days=400), START + timedelta(days=400))


class StoreAgainstDictionaries(RuleBasedStateMachine):
    """`committed` and `pending` are what must be there, and what a crash takes."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY))
        self.loop = asyncio.Runner()
        self.box = Box(self.folder, FakeClock(START))
        self.wait(self.box.start())
        self.boxed: list[tuple[str, datetime, float]] = []
        self.sourced: dict[tuple[str, datetime], float] = {}
        self.waiting: dict[tuple[int, datetime], float] = {}
        self.accepted: dict[tuple[int, datetime], float] = {}
        self.rejected: set[tuple[int, datetime]] = set()
        self.remember()

    def wait[T](self, work: Coroutine[object, object, T]) -> T:
        return self.loop.run(work)

    def remember(self) -> None:
        self.before = (
            list(self.boxed),
            dict(self.sourced),
            dict(self.waiting),
            dict(self.accepted),
            set(self.rejected),
        )

    @rule(key=KEYS, value=VALUES, seconds=st.integers(0, 900))
    def read(self, key: str, value: float, seconds: int) -> None:
        self.wait(self.box.clock.advance(timedelta(seconds=seconds)))
        stamp = BoxTime(self.box.buffer.boot, self.box.clock.boottime_ms())
        self.box.buffer.put(key, stamp, value)
        self.boxed.append((key, self.box.clock.wall_now(), value))

    @rule(key=KEYS, value=VALUES, minutes=st.integers(-200, 200))
    def hear(self, key: str, value: float, minutes: int) -> None:
        at = START + timedelta(minutes=minutes)
        self.box.buffer.put(key, at, value)
        self.sourced[key, at] = value

    @rule(sensor_id=SENSORS, number=st.integers(0, 40), value=st.floats(0, 9))
    def make_slot(self, sensor_id: int, number: int, value: float) -> None:
        start = START + number * SLOT
        key = (sensor_id, start)
        if key in self.waiting or key in self.accepted or key in self.rejected:
            value = self.waiting.get(key, self.accepted.get(key, value))
            if key in self.rejected:
                return
        self.wait(self.box.outbox.enqueue([Slot(sensor_id, start, SLOT, value)], {}))
        if key not in self.accepted:
            self.waiting[key] = value

    @rule(limit=st.integers(1, 20), verdict=st.sampled_from(Verdict))
    def settle(self, limit: int, verdict: Verdict) -> None:
        batch = self.wait(self.box.outbox.next_batch(limit, self.box.clock.wall_now()))
        for row in batch:
            key = (row.slot.sensor_id, row.slot.start)
            assert self.before[2][key] == row.slot.value  # committed, and what was made
            if verdict is not Verdict.KEEP:
                value = self.waiting.pop(key)
                if verdict is Verdict.ACCEPT:
                    self.accepted[key] = value
                else:
                    self.rejected.add(key)
        self.wait(self.box.outbox.settle({row.row_id: (verdict, "why") for row in batch}))

    @rule()
    def commit(self) -> None:
        self.wait(self.box.buffer.commit())
        self.remember()

    @rule(is_reboot=st.booleans())
    def crash(self, *, is_reboot: bool) -> None:
        restart = self.box.reboot(trusted=True) if is_reboot else self.box.restart()
        self.wait(restart)
        boxed, sourced, waiting, accepted, rejected = self.before
        self.boxed, self.sourced = list(boxed), dict(sourced)
        self.waiting, self.accepted, self.rejected = dict(waiting), dict(accepted), set(rejected)

    @invariant()
    def readings_agree(self) -> None:
        found = self.wait(self.box.buffer.samples(["a", "b", "c"], *EVER))
        boxed, sourced = self.before[:2]
        for key, samples in found.items():
            expected = [(at, value) for k, at, value in boxed if k == key]
            expected += [(at, value) for (k, at), value in sourced.items() if k == key]
            assert sorted(map(tuple, samples)) == sorted(expected)

    @invariant()
    def slots_agree(self) -> None:
        counts = self.wait(self.box.outbox.counts())
        assert counts.waiting == len(self.waiting)
        assert counts.accepted_total == len(self.accepted)
        assert counts.rejected_total == len(self.rejected)
        for sensor_id in (1, 2, 3):
            history = self.wait(self.box.outbox.history(sensor_id, *EVER))
            assert {slot.start: slot.value for slot in history} == {
                start: value for (s, start), value in self.accepted.items() if s == sensor_id
            }

    def teardown(self) -> None:
        self.wait(self.box.crash())
        self.loop.close()
        shutil.rmtree(self.folder)


StoreAgainstDictionaries.TestCase.settings = settings(max_examples=12, stateful_step_count=25)
TestStoreAgainstDictionaries = StoreAgainstDictionaries.TestCase
