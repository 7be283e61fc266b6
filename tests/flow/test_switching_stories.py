"""Random stories of everything that fails, on a clock that moves when told, with the real ledger.

The witness is a relay that notes when it was really away. Judged: never away past its time plus
what the radio needs while box, stick and device live; never switched without an intent on the
card; always back in its normal state in the end.
"""

import contextlib
import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from edge.control.carry_out import RETRY_MAX, CarryOut
from edge.control.decide import Controllable
from edge.control.ledger import Ledger
from edge.control.plan_book import LEASE
from edge.control.steering import Steering
from edge.errors import Refused
from edge.health import Health
from edge.model import Interval, Origin, Plan
from edge.store.commands import CommandTable
from edge.store.settings import Events, Settings, open_state
from tests.house.fake_clock import FakeClock
from tests.house.simulated_switch import FAMILY, Relay, SimulatedSwitches

STORIES = 600
BATCHES = 12
CHAPTERS = 15
HAPPENED_MIN = 20  # how often each kind of fault must come in a batch of fifty stories
WHILE_AWAY_MIN = 2  # and so often while the device was away: there it matters
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
MILLISECOND = timedelta(milliseconds=1)
KEY = f"{FAMILY}/boiler"
RADIO_GIVES_UP = timedelta(seconds=17)
# A try that fails, the longest pause, the next try; and the box looks at least every ten seconds.
RETRY_TIME = RETRY_MAX + 2 * RADIO_GIVES_UP + timedelta(seconds=15)
MEMORY = Path("/dev/shm")
KINDS = (
    "kill",
    "reboot_with_a_clock",
    "reboot_without_a_clock",
    "set_clock",
    "pull_stick",
    "lose_node",
    "lose_flexmeasures",
    "lose_answers",
    "refuse",
    "jam",
    "lock_card",
    "damage_the_file",
)


class Story:
    """One box, one relay, and a pen."""

    def __init__(self, seed: int, folder: Path, happened: Counter[str]) -> None:
        self.happened = happened
        self.dice = random.Random(seed)
        self.folder = folder
        self.clock = FakeClock()
        self.true_time = timedelta(0)
        self.relay = Relay(timers=self.dice.choice([(), (5 * MINUTE, 15 * MINUTE, 30 * MINUTE)]))
        self.switches = SimulatedSwitches(
            self.clock,
            {"boiler": self.relay},
            patience=RADIO_GIVES_UP,
            on_command=self._on_command,
        )
        self.device = Controllable(
            KEY,
            2000,
            away_longest=self.dice.choice([20, 60, 120]) * MINUTE,
            rest_shortest=self.dice.choice([0, 10]) * MINUTE,
            own_timers=self.relay.timers,
            consent=True,
        )
        self.flexmeasures_is_there = True
        self.plan: Plan = Plan(Origin.LIMIT, ())
        self.card_is_read_only = False
        self.is_running = False
        self.away_since: timedelta | None = None
        self.healthy_for = timedelta(0)
        self.told: list[str] = []
        self.late: list[str] = []
        self.without_intent: list[str] = []

    # --- the box ----------------------------------------------------------------------------------

    async def start(self) -> None:
        self.state = await open_state(self.folder / "state.db")
        if self.card_is_read_only:
            await self._lock_card()
        health = Health(self.clock)
        self.carry_out = CarryOut(
            Ledger(await CommandTable.open(self.state)),
            lambda: {FAMILY: self.switches},
            self.clock,
            health,
        )
        self.steering = Steering(
            await Settings.open(self.state),
            self.carry_out,
            self.switches.devices,
            self.clock,
            health,
            Events(self.state, self.clock).add,
        )
        await self.steering.restore()
        self.is_running = True
        self.healthy_for = timedelta(0)

    async def stop(self) -> None:
        self.is_running = False
        await self.state.close()

    async def live(self, span: timedelta) -> None:
        """Let the box do its work for so long, and watch."""
        left = span
        while left > timedelta(0):
            before_ms = self.clock.boottime_ms()
            rest = min(timedelta(seconds=10), left)
            if self.is_running:
                if self.flexmeasures_is_there and self.clock.trusted:
                    self.steering.take_plan(KEY, self.plan)
                rest = min(await self.steering.step(KEY), left)
                if self.dice.random() < 0.7:
                    await self.carry_out.write_now()
            self.clock.pass_by(rest)
            passed = (self.clock.boottime_ms() - before_ms) * MILLISECOND
            self.true_time += passed
            left -= passed
            self._watch(passed)

    def _watch(self, passed: timedelta) -> None:
        self.switches.elapse(timedelta(milliseconds=self.clock.boottime_ms()))
        lives = self.is_running and self.switches.is_plugged and self.relay.is_reachable
        lives = lives and not (
            self.relay.is_jammed or self.relay.refuses or self.relay.loses_answers
        )
        self.healthy_for = self.healthy_for + passed if lives else timedelta(0)
        if self.relay.on:
            self.away_since = None
            return
        if self.away_since is None:
            self.away_since = self.true_time
        longest = self.device.away_max + RETRY_TIME
        if self.healthy_for > RETRY_TIME and self.true_time - self.away_since > longest:
            self.late.append(f"away since {self.away_since}, now {self.true_time}")
        command = self.carry_out.held().get(KEY) if self.is_running else None
        if command is not None and self.healthy_for > RETRY_TIME:
            over = (self.clock.boottime_ms() - command.deadline.boottime_ms) * MILLISECOND
            if over > RETRY_TIME:
                self.late.append(f"{over} past its time")
        if self.is_running and command is None and self.healthy_for > RETRY_TIME:
            self.late.append("away, and nobody holds it")

    def _on_command(self, device: str, on: bool) -> None:
        self.told.append("on" if on else "off")
        if on and not self.relay.is_jammed and not self.relay.refuses:
            self.away_since = None
        if not on and not self._intents_on_card():
            self.without_intent.append(f"off at {self.true_time}")

    def _intents_on_card(self) -> int:
        """Open commands that a power cut at this moment would leave."""
        with tempfile.TemporaryDirectory(dir=self.folder) as copy:
            for part in self.folder.glob("state.db*"):
                if part.is_file():
                    shutil.copy(part, copy)
            with contextlib.closing(sqlite3.connect(Path(copy, "state.db"))) as card:
                query = "SELECT count(*) FROM command WHERE is_open"
                return int(card.execute(query).fetchone()[0])

    # --- what happens -----------------------------------------------------------------------------

    async def chapter(self) -> None:
        happens = self.dice.choice(
            [
                self.limit,
                self.limit,
                self.limit,
                self.hand,
                self.kill,
                self.reboot_with_a_clock,
                self.reboot_without_a_clock,
                self.damage_the_file,
                self.set_clock,
                self.pull_stick,
                self.lose_node,
                self.lose_flexmeasures,
                self.lose_answers,
                self.refuse,
                self.jam,
                self.lock_card,
            ]
        )
        self.happened[happens.__name__] += 1
        if not self.relay.on:
            self.happened[f"{happens.__name__} while away"] += 1
        await happens()
        await self.live(self.dice.choice([5, 30, 60, 300, 1200, 2400]) * SECOND)

    async def limit(self) -> None:
        start = self.clock.wall_now() + self.dice.choice([0, 1, 10]) * MINUTE
        length = self.dice.choice([1, 5, 30, 60, 600]) * MINUTE
        power_w = self.dice.choice([0.0, 0.0, -0.0, 1000.0, 2000.0])
        self.plan = Plan(Origin.LIMIT, (Interval(start, start + length, power_w),))

    async def hand(self) -> None:
        if self.is_running:
            with contextlib.suppress(Refused):
                minutes = self.dice.choice([5, 15, 30, 60])
                away = self.dice.random() < 0.7
                await self.steering.take_hand(KEY, minutes * MINUTE, away=away)

    async def kill(self) -> None:
        await self.stop()
        await self.live(self.dice.choice([1, 5, 600]) * SECOND)
        await self.start()

    async def reboot_with_a_clock(self) -> None:
        await self._reboot(trusted=True)

    async def reboot_without_a_clock(self) -> None:
        await self._reboot(trusted=False)

    async def damage_the_file(self) -> None:
        """A card that lies: the box starts with the last good copy, older than its commands."""
        await self.stop()
        with (self.folder / "state.db").open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * 4096 * 4)
        await self.live(self.dice.choice([1, 600]) * SECOND)
        await self.start()
        assert "good copy" in (self.state.problem or "")

    async def _reboot(self, *, trusted: bool) -> None:
        await self.stop()
        off_for = self.dice.choice([1, 10, 120]) * MINUTE
        back_in = None
        if self.relay.back_at is not None:
            back_in = self.relay.back_at - self.clock.boottime_ms() * MILLISECOND - off_for
        self.clock.reboot(off_for, trusted=trusted)
        self.relay.back_at = back_in
        self.true_time += off_for
        self._watch(off_for)
        await self.start()
        if not self.clock.trusted:
            await self.live(self.dice.choice([1, 60]) * SECOND)
            self.clock.step_wall(-off_for)  # what a box without a battery believes
            self.clock.step_wall(off_for)
            self.clock.trusted = True

    async def set_clock(self) -> None:
        hours = self.dice.choice([-26, -3, -0.1, 0.1, 3, 26])
        self.clock.step_wall(timedelta(hours=hours))

    async def pull_stick(self) -> None:
        self.switches.is_plugged = False
        await self.live(self.dice.choice([5, 300, 1800]) * SECOND)
        self.switches.is_plugged = True

    async def lose_node(self) -> None:
        self.relay.is_reachable = False
        await self.live(self.dice.choice([5, 300, 1800]) * SECOND)
        self.relay.is_reachable = True

    async def lose_flexmeasures(self) -> None:
        self.flexmeasures_is_there = False
        await self.live(self.dice.choice([5 * MINUTE, LEASE + 10 * MINUTE]))
        self.flexmeasures_is_there = True

    async def lose_answers(self) -> None:
        self.relay.loses_answers = True
        await self.live(self.dice.choice([5, 300]) * SECOND)
        self.relay.loses_answers = False

    async def refuse(self) -> None:
        self.relay.refuses = True
        await self.live(self.dice.choice([5, 300]) * SECOND)
        self.relay.refuses = False

    async def jam(self) -> None:
        self.relay.is_jammed = True
        await self.live(self.dice.choice([5, 300]) * SECOND)
        self.relay.is_jammed = False

    async def lock_card(self) -> None:
        self.card_is_read_only = True
        await self._lock_card()
        await self.live(self.dice.choice([60, 1800]) * SECOND)
        self.card_is_read_only = False
        await self.kill()  # a card that was read-only is used again after a restart

    async def _lock_card(self) -> None:
        await self.state.run(lambda db: db.execute("PRAGMA query_only = ON"))

    async def end(self) -> None:
        """Everything is well again and nobody asks anything: so it must be back, and stay so."""
        self.plan = Plan(Origin.LIMIT, ())
        await self.steering.give_back(KEY)
        await self.live(RETRY_TIME + MINUTE)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


@pytest.mark.parametrize("batch", range(BATCHES))
async def test_story_ends_well(folder: Path, batch: int) -> None:
    switched, happened = 0, Counter[str]()
    for seed in range(batch * STORIES // BATCHES, (batch + 1) * STORIES // BATCHES):
        home = folder / str(seed)
        home.mkdir()
        story = Story(seed, home, happened)
        await story.start()
        await story.steering.allow(story.device)
        for _ in range(CHAPTERS):
            await story.chapter()
        await story.end()
        switched += story.told.count("off")
        assert story.late == [], seed
        assert story.without_intent == [], seed
        assert story.relay.on, seed
        assert not story.steering.anything_away(), seed
        await story.stop()
        shutil.rmtree(home)
    assert switched > 50  # the stories are about something
    for kind in KINDS:
        assert happened[kind] >= HAPPENED_MIN, happened
        assert happened[f"{kind} while away"] >= WHILE_AWAY_MIN, happened
