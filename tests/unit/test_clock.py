from datetime import UTC, datetime, timedelta

from edge.clock import SystemClock

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def test_clock_before_the_image_was_built_is_never_trusted() -> None:
    clock = SystemClock(floor=datetime.now(UTC) + timedelta(days=1))
    assert not clock.is_trusted()


def test_house_may_trust_its_clock_by_an_explicit_setting() -> None:
    assert SystemClock(floor=LONG_AGO, trust_always=True).is_trusted()


def test_boottime_moves_on_and_boot_is_named() -> None:
    clock = SystemClock(floor=LONG_AGO)
    assert 0 < clock.boottime_ms() <= clock.boottime_ms()
    assert clock.boot_id() == clock.boot_id() != ""
