from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.uplink.pacing import (
    BACKFILL_SPREAD_MAX,
    RESERVE,
    UPLOAD_EVERY,
    Allowance,
    Pacing,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
moments = st.timedeltas(timedelta(0), timedelta(days=400)).map(lambda later: NOON + later)
identities = st.text(min_size=1)


@given(identities, moments)
def test_upload_comes_once_a_period_always_at_the_same_place(identity: str, now: datetime) -> None:
    pacing = Pacing(identity)
    first = pacing.next_upload(now)
    assert now < first <= now + UPLOAD_EVERY
    assert pacing.next_upload(first) == first + UPLOAD_EVERY
    assert Pacing(identity).next_upload(now) == first


def test_boxes_spread_over_the_whole_period() -> None:
    tenths = [0] * 10
    for number in range(300):
        wait = Pacing(f"box-{number}").next_upload(NOON) - NOON
        tenths[int(wait / UPLOAD_EVERY * 10)] += 1
    assert min(tenths) > 10


def test_purposes_of_one_box_do_not_fall_together() -> None:
    box = Pacing("box-1")
    assert box.offset("poll", UPLOAD_EVERY) != box.offset("upload", UPLOAD_EVERY)


@given(identities, st.timedeltas(timedelta(0), timedelta(days=400)))
def test_backfill_waits_longer_after_longer_outages_but_never_for_ever(
    identity: str, outage: timedelta
) -> None:
    pacing = Pacing(identity)
    wait = pacing.backfill_after(outage)
    assert timedelta(0) <= wait <= min(outage / 10, BACKFILL_SPREAD_MAX)
    assert pacing.backfill_after(outage * 2) >= wait


def test_house_may_start_its_backfill_at_once() -> None:
    box = Pacing("box", backfill_spread_max=timedelta(0))
    assert box.backfill_after(timedelta(days=7)) == timedelta(0)


@pytest.mark.parametrize("remaining", [0, 50, int(RESERVE * 500)])
def test_backfill_steps_aside_when_the_server_grants_little(remaining: int) -> None:
    pause = Pacing("box").pause(Allowance(500, remaining, timedelta(seconds=20)))
    assert timedelta(seconds=20) <= pause <= timedelta(seconds=80)


def test_backfill_goes_on_while_the_server_grants_plenty() -> None:
    assert Pacing("box").pause(Allowance(500, 400, timedelta(seconds=20))) == timedelta(0)
    assert Pacing("box").pause(None) == timedelta(0)
