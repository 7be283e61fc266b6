"""Carrying out, with relays as witnesses and the real ledger."""

import contextlib
import shutil
import sqlite3
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from edge.control.carry_out import RETRY_MAX
from edge.control.ledger import Stage
from edge.model import Origin
from edge.store.commands import NotKept
from tests.unit.control.box import BOILER, KEY, MINUTE, SECOND, Box, with_timers


async def test_limit_switches_off_and_its_end_on_again(box: Box) -> None:
    box.ask(Origin.LIMIT, 0, 30 * MINUTE)
    await box.live(29 * MINUTE)
    assert not box.relay.on
    assert (await box.last()).stage is Stage.AWAY
    await box.live(MINUTE)
    assert box.relay.on
    assert box.relay.told == [False, True]
    done = await box.last()
    assert (done.stage, done.origin, done.outcome) == (Stage.DONE, Origin.LIMIT, "nobody")


async def test_intent_is_on_the_card_before_the_radio_is_touched(box: Box) -> None:
    seen: list[tuple[str, bool, int]] = []
    box.switches.on_command = lambda device, on: seen.append((device, on, _on_card(box.path)))
    box.ask(Origin.LIMIT, 0, 30 * MINUTE)
    await box.step()
    assert seen == [("boiler", False, 1)]


def _on_card(path: Path) -> int:
    """How many open commands a power cut would leave."""
    with tempfile.TemporaryDirectory() as folder:
        for part in path.parent.glob(path.name + "*"):
            shutil.copy(part, folder)
        with contextlib.closing(sqlite3.connect(Path(folder, path.name))) as card:
            (count,) = card.execute("SELECT count(*) FROM command WHERE is_open").fetchone()
    return int(count)


async def test_nothing_is_switched_off_when_the_card_takes_no_intent(box: Box) -> None:
    await box.state.run(lambda db: db.execute("PRAGMA query_only = ON"))
    box.ask(Origin.LIMIT, 0, 30 * MINUTE)
    with pytest.raises(NotKept):
        await box.step()
    assert box.relay.told == []


async def test_device_comes_back_on_time_when_the_card_takes_nothing(box: Box) -> None:
    box.ask(Origin.LIMIT, 0, 30 * MINUTE)
    await box.live(MINUTE)
    await box.state.run(lambda db: db.execute("PRAGMA query_only = ON"))
    await box.live(29 * MINUTE)
    assert box.relay.on
    assert box.carry_out.held() == {}


async def test_return_is_tried_until_it_was_seen(box: Box) -> None:
    box.ask(Origin.LIMIT, 0, 10 * MINUTE)
    await box.live(5 * MINUTE)
    box.relay.is_reachable = False
    await box.live(20 * MINUTE)
    assert box.carry_out.held()[KEY].stage is Stage.RETURNING
    assert "could not be switched on yet" in box.carry_out.trouble(KEY)
    box.relay.is_reachable = True
    await box.live(RETRY_MAX)
    assert box.relay.on
    assert box.carry_out.held() == {}
    assert box.carry_out.trouble(KEY) == ""


async def test_return_does_not_wait_for_the_next_try_when_the_device_is_there_again(
    box: Box,
) -> None:
    box.ask(Origin.LIMIT, 0, 10 * MINUTE)
    await box.live(5 * MINUTE)
    box.relay.is_reachable = False
    await box.live(20 * MINUTE)
    box.relay.is_reachable = True
    box.carry_out.try_now(KEY)
    await box.step()
    assert box.relay.on


async def test_device_that_says_yes_and_does_nothing_is_told_again(box: Box) -> None:
    box.ask(Origin.LIMIT, 0, 10 * MINUTE)
    await box.live(5 * MINUTE)
    box.relay.is_jammed = True
    await box.live(10 * MINUTE)
    assert "did not yet" in box.carry_out.trouble(KEY)
    assert box.carry_out.held()[KEY].stage is Stage.RETURNING
    box.relay.is_jammed = False
    await box.live(RETRY_MAX)
    assert box.relay.on


async def test_answer_that_is_lost_is_not_taken_for_success(box: Box) -> None:
    box.relay.loses_answers = True
    box.ask(Origin.LIMIT, 0, 10 * MINUTE)
    await box.live(30 * SECOND)
    assert box.carry_out.held()[KEY].stage is Stage.INTENDED
    box.relay.loses_answers = False
    await box.live(MINUTE)
    assert box.carry_out.held()[KEY].stage is Stage.AWAY


async def test_device_that_refuses_is_brought_back_and_left_to_rest(box: Box) -> None:
    box.relay.refuses = True
    box.ask(Origin.LIMIT, 0, 60 * MINUTE)
    await box.step()
    assert box.carry_out.held()[KEY].stage is Stage.RETURNING
    box.relay.refuses = False
    await box.live(MINUTE)
    assert (await box.last()).outcome == "the device said no"
    assert False not in box.relay.told[1:]


@pytest.mark.parametrize("trusted", [True, False])
async def test_reboot_goes_on_by_the_clock_or_ends_at_once_without_one(
    box: Box, *, trusted: bool
) -> None:
    box.ask(Origin.LIMIT, 0, 30 * MINUTE)
    await box.live(5 * MINUTE)
    await box.reboot(trusted=trusted, off_for=5 * MINUTE)
    if not trusted:
        box.plans.clear()  # they are times of day
    await box.step()
    assert box.relay.on is not trusted
    await box.live(21 * MINUTE)
    assert box.relay.on
    assert (await box.last()).stage is Stage.DONE


async def test_reboot_after_its_time_brings_it_back_at_once(box: Box) -> None:
    box.ask(Origin.LIMIT, 0, 30 * MINUTE)
    await box.live(5 * MINUTE)
    await box.reboot(trusted=True, off_for=timedelta(hours=3))
    await box.step()
    assert box.relay.on


async def test_killed_between_intent_and_radio_nothing_is_forgotten(box: Box) -> None:
    box.relay.is_reachable = False
    box.ask(Origin.LIMIT, 0, 10 * MINUTE)
    await box.step()
    await box.restart()
    box.relay.is_reachable = True
    await box.step()
    assert not box.relay.on
    await box.live(10 * MINUTE)
    assert box.relay.on
    assert len(await box.ledger.latest(10)) == 1


async def test_clock_that_is_set_moves_no_deadline(box: Box) -> None:
    box.ask(Origin.HAND, 0, 30 * MINUTE)
    await box.step()
    for hours in (5, -9, 2):
        box.clock.step_wall(timedelta(hours=hours))
        box.ask(Origin.HAND, 0, 60 * MINUTE)
        await box.step()
    longest = BOILER.away_max
    await box.live(longest - 5 * SECOND)
    assert not box.relay.on
    await box.live(5 * SECOND)
    assert box.relay.on


async def test_wish_that_grows_moves_the_end_and_the_card_knows(box: Box) -> None:
    box.ask(Origin.LIMIT, 0, 10 * MINUTE)
    await box.live(5 * MINUTE)
    box.ask(Origin.LIMIT, 0, 20 * MINUTE)
    await box.live(15 * MINUTE)
    assert not box.relay.on
    assert (await box.last()).away_until == box.now() + 5 * MINUTE
    assert box.relay.told == [False]


async def test_own_timer_is_set_renewed_and_never_late(box: Box) -> None:
    timed = with_timers(5 * MINUTE, 15 * MINUTE, 30 * MINUTE)
    box.relay.timers = timed.own_timers
    box.ask(Origin.LIMIT, 0, 22 * MINUTE)
    await box.live(22 * MINUTE, timed)
    assert box.relay.holds == [15 * MINUTE, 5 * MINUTE]
    assert box.relay.on
    assert None not in box.relay.holds


async def test_own_timer_brings_it_back_when_the_box_is_dead(box: Box) -> None:
    timed = with_timers(5 * MINUTE, 15 * MINUTE)
    box.relay.timers = timed.own_timers
    box.ask(Origin.LIMIT, 0, 20 * MINUTE)
    await box.step(timed)
    box.clock.pass_by(15 * MINUTE)
    box.switches.elapse(timedelta(milliseconds=box.clock.boottime_ms()))
    assert box.relay.on


async def test_device_that_is_off_normally_is_switched_on_and_off_again(box: Box) -> None:
    pump = replace(BOILER, normal_on=False)
    box.relay.on = False
    box.ask(Origin.SCHEDULE, 2000, 10 * MINUTE)
    await box.live(5 * MINUTE, pump)
    assert box.relay.on
    await box.live(6 * MINUTE, pump)
    assert not box.relay.on
    assert box.relay.told == [True, False]


async def test_device_that_is_controllable_no_longer_comes_back(box: Box) -> None:
    box.ask(Origin.LIMIT, 0, 30 * MINUTE)
    await box.step()
    await box.carry_out.release(KEY, "forbidden")
    assert box.relay.on
    await box.carry_out.write_now()
    assert (await box.last()).outcome == "forbidden"


async def test_numbers_only_grow(box: Box) -> None:
    for _ in range(3):
        box.ask(Origin.HAND, 0, MINUTE)
        await box.live(2 * MINUTE)
        await box.restart()
    assert [c.command_id for c in await box.ledger.latest(9)] == [3, 2, 1]


async def test_rest_is_remembered_over_a_restart(box: Box) -> None:
    box.ask(Origin.LIMIT, 0, 10 * MINUTE)
    await box.live(11 * MINUTE)
    await box.restart()
    box.ask(Origin.LIMIT, 0, 30 * MINUTE)
    assert (await box.step()).why == "resting"


@pytest.mark.parametrize("hours", [-26, -0.1, 0.1])
async def test_clock_that_was_set_before_a_reboot_lengthens_nothing(box: Box, hours: float) -> None:
    """Times of day bridge a reboot; those of a command follow when somebody sets the clock."""
    box.ask(Origin.HAND, 0, 120 * MINUTE)
    await box.live(30 * MINUTE)
    box.clock.step_wall(timedelta(hours=hours))
    box.ask(Origin.HAND, 0, 120 * MINUTE)
    await box.live(MINUTE)
    await box.reboot(trusted=True, off_for=10 * MINUTE)
    await box.live(18 * MINUTE)
    assert box.relay.told == [False]
    await box.live(2 * MINUTE)
    assert box.relay.told[:2] == [False, True]  # after an hour, the longest it may be away


async def test_clock_that_is_behind_the_command_is_no_clock(box: Box) -> None:
    box.ask(Origin.HAND, 0, 120 * MINUTE)
    await box.live(MINUTE)
    box.clock.step_wall(timedelta(hours=-3))  # by whoever, while the box was off
    await box.reboot(trusted=True)
    await box.step()
    assert box.relay.on
    await box.carry_out.write_now()
    assert (await box.last()).outcome == "restarted_without_time"
