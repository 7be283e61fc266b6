"""What is new of what the cloud says."""

from datetime import UTC, datetime, timedelta

from edge.devices.smappee.news import EventsSoFar, OfferedSoFar
from edge.model import Reading

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)


def test_only_new_or_changed_intervals_are_news() -> None:
    so_far = OfferedSoFar()
    first, corrected = Reading("k", NOON, 1.0), Reading("k", NOON, 2.0)
    assert so_far.is_news(first)
    assert not so_far.is_news(first)
    assert so_far.is_news(corrected)
    assert so_far.is_news(Reading("k", NOON + timedelta(days=15), 2.0))


def test_events_that_fall_together_are_each_told_once() -> None:
    so_far = EventsSoFar()
    events = [
        Reading("k", NOON + timedelta(seconds=s), w) for s, w in ((1, 9.0), (2, 0.0), (3, 0.0))
    ]
    assert [so_far.is_news(event, LATER) for event in events * 2] == [True] * 3 + [False] * 3
    assert so_far.is_news(Reading("k", NOON, 1.0), LATER)
    assert so_far.is_news(events[0], LATER + timedelta(days=15))
