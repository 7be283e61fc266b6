import math
from datetime import UTC, datetime, timedelta

import pytest

from edge.intake import CHANNELS_MAX, FUTURE_MAX, PAST_MAX, SET_ASIDE_MAX, ReadingIntake
from edge.model import BoxTime, Channel, Direction, Intake, Kind, Quantity, Reading
from edge.plausibility import Reason
from tests.house.fake_clock import FakeClock
from tests.house.paper_notebook import PaperNotebook

POWER = Channel("zwave", "7", "1", Quantity.ACTIVE_POWER, Kind.INSTANTANEOUS)
ENERGY = Channel("zwave", "7", "1", Quantity.ACTIVE_ENERGY, Kind.COUNTER, name="kitchen")


class Sink:
    def __init__(self) -> None:
        self.boot = 3
        self.put_in: list[tuple[str, BoxTime | datetime, float]] = []

    def put(self, channel_key: str, taken_at: BoxTime | datetime, value: float) -> None:
        self.put_in.append((channel_key, taken_at, value))


class Box:
    def __init__(self, documents: PaperNotebook | None = None, *, trusted: bool = True) -> None:
        self.sink, self.documents = Sink(), documents or PaperNotebook()
        self.clock = FakeClock(trusted=trusted)
        self.intake = ReadingIntake(self.sink, self.documents, self.clock)

    def offer(self, channel: Channel, *values: float) -> None:
        for value in values:
            self.intake.offer(Reading(channel.key, self.intake.now(), value))

    def values(self) -> list[float]:
        return [value for _, _, value in self.sink.put_in]


@pytest.fixture
def box() -> Box:
    box = Box()
    box.intake.announce([POWER, ENERGY])
    return box


def test_it_is_an_intake(box: Box) -> None:
    intake: Intake = box.intake
    assert intake.now() == BoxTime(3, 0)


def test_believed_reading_is_buffered(box: Box) -> None:
    box.offer(POWER, 230.0)
    assert box.sink.put_in == [(POWER.key, BoxTime(3, 0), 230.0)]


def test_reading_of_a_channel_nobody_announced_is_counted_not_kept() -> None:
    box = Box()
    box.offer(POWER, 230.0)
    assert box.sink.put_in == []
    assert box.intake.unknown_total == 1


def test_implausible_reading_is_set_aside_with_its_reason(box: Box) -> None:
    box.offer(POWER, math.nan)
    (kept,) = box.intake.set_aside()
    assert (kept.reason, kept.at) == (Reason.NOT_A_NUMBER, box.clock.wall_now())
    assert box.intake.set_aside_counts() == {(POWER.key, Reason.NOT_A_NUMBER): 1}
    assert box.values() == []


def test_second_reading_releases_the_first(box: Box) -> None:
    box.offer(POWER, 20_000.0, 20_100.0)
    assert box.values() == [20_000.0, 20_100.0]
    assert box.intake.confirmed_total == 1


def test_counter_reset_is_counted(box: Box) -> None:
    box.offer(ENERGY, 10.0, 0.0, 0.001)
    assert box.intake.resets_total == 1


def test_list_of_what_was_set_aside_is_bounded_but_everything_is_counted(box: Box) -> None:
    box.offer(POWER, *[math.nan] * (SET_ASIDE_MAX + 5))
    assert len(box.intake.set_aside()) == SET_ASIDE_MAX
    assert box.intake.set_aside_total() == SET_ASIDE_MAX + 5


def test_reading_that_its_source_dates_into_the_future_is_set_aside(box: Box) -> None:
    ahead = box.clock.wall_now() + FUTURE_MAX
    box.intake.offer(Reading(POWER.key, ahead, 1.0))
    box.intake.offer(Reading(POWER.key, ahead + timedelta(seconds=1), 2.0))
    assert box.values() == [1.0]
    assert box.intake.set_aside()[0].reason is Reason.IN_THE_FUTURE


def test_future_cannot_be_told_while_the_clock_is_not_trusted() -> None:
    box = Box(trusted=False)
    box.intake.announce([POWER])
    box.intake.offer(Reading(POWER.key, datetime(2035, 1, 1, tzinfo=UTC), 1.0))
    assert box.values() == [1.0]


def test_reading_that_its_source_dates_years_back_is_set_aside_and_counted(box: Box) -> None:
    oldest = box.clock.wall_now() - PAST_MAX
    box.intake.offer(Reading(POWER.key, oldest, 1.0))
    box.intake.offer(Reading(POWER.key, oldest - timedelta(seconds=1), 2.0))
    assert box.values() == [1.0]
    assert box.intake.set_aside_counts() == {(POWER.key, Reason.TOO_OLD): 1}


@pytest.mark.parametrize("year", [1969, 1970, 2024, 2101])
def test_time_that_no_clock_of_today_shows_is_known_even_without_one(year: int) -> None:
    box = Box(trusted=False)
    box.intake.announce([POWER])
    box.intake.offer(Reading(POWER.key, datetime(year, 1, 1, tzinfo=UTC), 1.0))
    assert box.values() == []
    assert box.intake.set_aside_total() == 1


async def test_latest_value_is_known_with_its_age(box: Box) -> None:
    assert box.intake.latest(POWER.key) is None
    box.offer(POWER, 230.0)
    await box.clock.advance(timedelta(seconds=90))
    latest = box.intake.latest(POWER.key)
    assert latest is not None
    assert (latest.value, latest.age) == (230.0, timedelta(seconds=90))


def test_age_of_a_value_with_a_source_time_counts_from_there(box: Box) -> None:
    taken_at = box.clock.wall_now() - timedelta(hours=2)
    box.intake.offer(Reading(POWER.key, taken_at, 1.0))
    box.intake.offer(Reading(POWER.key, taken_at - timedelta(hours=1), 2.0))  # told late
    latest = box.intake.latest(POWER.key)
    assert latest is not None
    assert (latest.value, latest.age) == (1.0, timedelta(hours=2))


async def test_channels_survive_a_restart_without_their_devices(box: Box) -> None:
    exported = Channel(
        "p1",
        "meter",
        "0",
        Quantity.GAS,
        Kind.COUNTER,
        Direction.EXPORT,
        timedelta(hours=1),
        "g",
        "x",
    )
    box.intake.announce([exported])
    await box.intake.save()
    again = Box(box.documents)
    await again.intake.restore()
    assert again.intake.channels() == {c.key: c for c in (POWER, ENERGY, exported)}
    again.offer(POWER, 5.0)
    assert again.values() == [5.0]


async def test_register_is_written_only_when_it_changed(box: Box) -> None:
    await box.intake.save()
    box.intake.announce([POWER, ENERGY])
    await box.intake.save()
    assert box.documents.writes == 1


def test_later_announcement_replaces_the_earlier(box: Box) -> None:
    renamed = Channel("zwave", "7", "1", Quantity.ACTIVE_POWER, Kind.INSTANTANEOUS, name="oven")
    box.intake.announce([renamed])
    assert box.intake.channels()[POWER.key].name == "oven"


def test_register_is_bounded() -> None:
    box = Box()
    box.intake.announce(
        Channel("zwave", str(n), "1", Quantity.ACTIVE_POWER, Kind.INSTANTANEOUS)
        for n in range(CHANNELS_MAX + 10)
    )
    assert len(box.intake.channels()) == CHANNELS_MAX


async def test_removed_device_is_forgotten(box: Box) -> None:
    box.offer(POWER, 1.0)
    box.intake.forget(POWER.device_key)
    await box.intake.save()
    assert box.intake.channels() == {}
    assert box.intake.latest(POWER.key) is None
    assert box.intake.energy_check() == {}
    assert box.documents.pages["channels"] == []


async def test_energy_from_power_is_compared_with_the_counter_of_the_clamp(box: Box) -> None:
    assert box.intake.energy_check() == {ENERGY.key: None}
    for minutes in range(0, 121, 5):
        box.offer(POWER, 1100.0)
        box.offer(ENERGY, minutes / 60)
        await box.clock.advance(timedelta(minutes=5))
    assert box.intake.energy_check() == {ENERGY.key: pytest.approx(10.0)}
