"""Who may enter: the promises of the box's only lock."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from edge.agent_api.access import SESSION_LIFE, SESSIONS_MAX, Access, Visitor
from edge.agent_api.refusals import NotAllowed, TooManyTries
from tests.house.fake_clock import FakeClock
from tests.house.paper_notebook import PaperNotebook

PASSWORD = "three words together"
PHONE = Visitor("192.168.1.20", "a phone")
LAPTOP = Visitor("192.168.1.21", "a laptop")


class Box:
    def __init__(self, folder: Path, code: str | None = None) -> None:
        self.documents = PaperNotebook()
        self.clock = FakeClock()
        self.events: list[str] = []
        self.marker = folder / "claimed"
        self.code = code
        self.start()

    def start(self) -> None:
        """(Re)start the agent: what only it remembered is gone."""
        self.access = Access(
            self.documents,
            self.clock,
            self._note,
            marker=self.marker,
            code=self.code,
            hash_cost=2,
        )

    async def _note(self, kind: str, text: str, detail: dict[str, str]) -> None:
        self.events.append(f"{kind} {text} {detail}")


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


async def refusal(doing: Any) -> str:
    with pytest.raises(NotAllowed) as caught:
        await doing
    return caught.value.code


async def test_claim_opens_a_session(box: Box) -> None:
    session = await box.access.claim(PASSWORD, "", PHONE)
    assert await box.access.admits(session)
    assert not await box.access.admits(session + "x")
    assert not await box.access.admits("")


async def test_of_eight_claims_at_once_exactly_one_wins(box: Box) -> None:
    tries = [box.access.claim(f"{PASSWORD} {i}", "", Visitor(f"10.0.0.{i}")) for i in range(8)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(each, str) for each in results) == 1
    refused = [each for each in results if isinstance(each, NotAllowed)]
    assert {each.code for each in refused} == {"claimed_already"}


async def test_claim_is_refused_after_the_window_and_open_again_after_a_power_cycle(
    box: Box,
) -> None:
    await box.clock.advance(timedelta(minutes=15))
    assert await refusal(box.access.claim(PASSWORD, "", PHONE)) == "claim_window_shut"
    box.clock.reboot()
    box.start()
    assert await box.access.claim(PASSWORD, "", PHONE)


async def test_a_stepped_wall_clock_does_not_open_the_window(box: Box) -> None:
    await box.clock.advance(timedelta(minutes=16))
    box.clock.step_wall(timedelta(days=-30))
    assert box.access.open_for() == timedelta(0)


async def test_pre_seeded_code_is_needed(tmp_path: Path) -> None:
    box = Box(tmp_path, code="ABCD2345")
    assert await refusal(box.access.claim(PASSWORD, "WRONG", PHONE)) == "claim_code_wrong"
    assert await box.access.claim(PASSWORD, " abcd2345 ", PHONE)


async def test_claimed_box_never_becomes_claimable_again(box: Box) -> None:
    await box.access.claim(PASSWORD, "", PHONE)
    box.clock.reboot()
    box.documents.pages.clear()  # the store is lost
    box.start()
    assert await box.access.is_claimed()
    assert await box.access.is_lost()
    assert await refusal(box.access.claim(PASSWORD, "", LAPTOP)) == "claimed_already"


async def test_first_claim_stays_on_show(box: Box) -> None:
    await box.access.claim(PASSWORD, "", PHONE)
    shown = await box.access.first_claim()
    assert shown is not None
    assert shown["address"] == PHONE.address
    assert shown["browser"] == PHONE.browser
    assert "password" not in shown


async def test_log_in_needs_the_password(box: Box) -> None:
    await box.access.claim(PASSWORD, "", PHONE)
    assert await refusal(box.access.log_in("something else", LAPTOP)) == "password_wrong"
    assert await box.access.admits(await box.access.log_in(PASSWORD, LAPTOP))


async def test_sixth_try_within_a_minute_is_refused(box: Box) -> None:
    await box.access.claim(PASSWORD, "", PHONE)
    for _ in range(5):
        assert await refusal(box.access.log_in("a wrong guess", LAPTOP)) == "password_wrong"
    with pytest.raises(TooManyTries) as caught:
        await box.access.log_in(PASSWORD, LAPTOP)
    assert 0 < caught.value.retry_after_s <= 60
    await box.clock.advance(timedelta(minutes=1))
    assert await box.access.log_in(PASSWORD, LAPTOP)


async def test_all_addresses_together_have_twenty_tries_an_hour(box: Box) -> None:
    await box.access.claim(PASSWORD, "", PHONE)
    for i in range(20):
        await refusal(box.access.log_in("a wrong guess", Visitor(f"10.0.0.{i}")))
    with pytest.raises(TooManyTries):
        await box.access.log_in("a wrong guess", Visitor("10.0.1.1"))


async def test_one_ipv6_subscriber_is_one_address(box: Box) -> None:
    await box.access.claim(PASSWORD, "", PHONE)
    for i in range(5):
        await refusal(box.access.log_in("a wrong guess", Visitor(f"2001:db8::{i}")))
    with pytest.raises(TooManyTries):
        await box.access.log_in("a wrong guess", Visitor("2001:db8::ffff"))


async def test_sessions_outlive_a_restart_and_end_with_their_time(box: Box) -> None:
    session = await box.access.claim(PASSWORD, "", PHONE)
    box.start()
    assert await box.access.admits(session)
    box.clock.reboot(trusted=True)
    assert await box.access.admits(session)
    box.clock.step_wall(SESSION_LIFE)
    assert not await box.access.admits(session)


async def test_a_corrected_clock_does_not_end_the_session_of_the_same_boot(box: Box) -> None:
    box.clock.trusted = False
    session = await box.access.claim(PASSWORD, "", PHONE)
    box.clock.step_wall(timedelta(days=300))
    box.clock.trusted = True
    assert await box.access.admits(session)
    await box.clock.advance(SESSION_LIFE)
    assert not await box.access.admits(session)


async def test_changing_the_password_ends_every_session(box: Box) -> None:
    phone = await box.access.claim(PASSWORD, "", PHONE)
    laptop = await box.access.log_in(PASSWORD, LAPTOP)
    mine = await box.access.change_password(PASSWORD, "an entirely new one", PHONE)
    assert await box.access.admits(mine)
    assert not await box.access.admits(phone)
    assert not await box.access.admits(laptop)
    assert await refusal(box.access.log_in(PASSWORD, LAPTOP)) == "password_wrong"


async def test_log_out_ends_this_session_only(box: Box) -> None:
    phone = await box.access.claim(PASSWORD, "", PHONE)
    laptop = await box.access.log_in(PASSWORD, LAPTOP)
    await box.access.log_out(phone)
    assert not await box.access.admits(phone)
    assert await box.access.admits(laptop)


async def test_sessions_are_bounded_and_the_oldest_leaves(box: Box) -> None:
    first = await box.access.claim(PASSWORD, "", PHONE)
    for _ in range(SESSIONS_MAX):
        last = await box.access._open_session(PHONE)
    assert not await box.access.admits(first)
    assert await box.access.admits(last)


async def test_nothing_stored_or_noted_holds_a_secret(box: Box) -> None:
    session = await box.access.claim(PASSWORD, "", PHONE)
    await refusal(box.access.log_in("CANARY wrong guess", LAPTOP))
    left = json.dumps(box.documents.pages) + " ".join(box.events)
    assert PASSWORD not in left
    assert session not in left
    assert "CANARY" not in left
