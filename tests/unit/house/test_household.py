"""The replayed household against its own file, and the faults a file may have."""

import gzip
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.house import exact, household
from tests.house.household import (
    DISHWASHER,
    EVERYTHING_ELSE,
    KETTLE,
    PLACES,
    WASHING_MACHINE,
    WHOLE_HOUSE,
    HouseholdFault,
)

HOUSE = household.load()
EVENING = datetime(2026, 3, 14, 17, 40, tzinfo=UTC)
HEADER = "time_utc,aggregate_w,kettle_w,dishwasher_w,washing_machine_w,microwave_w"


def a_day(*, line: int | None = None, text: str = "") -> str:
    first = datetime(2024, 5, 1, tzinfo=UTC)
    rows = [f"{first + timedelta(minutes=m):%FT%TZ},{m % 900},0,0,0,0" for m in range(1440)]
    lines = [HEADER, *rows]
    if line is not None:
        lines[line - 1] = text
    return "\n".join(lines) + "\n"


def file_of(folder: Path, text: str) -> Path:
    path = folder / "house.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    return path


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_counter_and_power_agree_with_the_file(place: household.Place) -> None:
    for start in (EVENING, EVENING + timedelta(days=19, seconds=37)):
        end = start + timedelta(minutes=5)
        used_kwh = HOUSE.energy_kwh(place, end) - HOUSE.energy_kwh(place, start)
        expected_w = exact.mean_w(place.node, place.endpoint, start, end)
        assert used_kwh * 1000 * 12 == pytest.approx(expected_w, abs=0.001)
        assert HOUSE.power_w(place, start) == pytest.approx(
            exact.mean_w(place.node, place.endpoint, start, start + timedelta(seconds=20))
        )


def test_clamps_share_the_whole_house() -> None:
    for minute in range(0, 3000, 7):
        at = EVENING + timedelta(minutes=minute)
        clamps = [DISHWASHER, WASHING_MACHINE, EVERYTHING_ELSE]
        assert sum(HOUSE.power_w(c, at) for c in clamps) == HOUSE.power_w(WHOLE_HOUSE, at)


def test_month_repeats_at_the_same_time_of_day_and_counters_go_on() -> None:
    later = EVENING + timedelta(days=HOUSE.days)
    assert HOUSE.power_w(KETTLE, later) == HOUSE.power_w(KETTLE, EVENING)
    assert HOUSE.energy_kwh(KETTLE, later) > HOUSE.energy_kwh(KETTLE, EVENING) + 10


def test_house_can_be_moved_to_a_chosen_day() -> None:
    moved = household.load(day_shift=3)
    assert moved.power_w(WHOLE_HOUSE, EVENING) == HOUSE.power_w(
        WHOLE_HOUSE, EVENING + timedelta(days=3)
    )


def test_power_changes_only_where_a_row_begins() -> None:
    start = EVENING + timedelta(seconds=12, microseconds=345)
    moments = list(HOUSE.minutes(start, start + timedelta(minutes=3)))
    assert moments == [EVENING + timedelta(minutes=m) for m in (1, 2, 3)]


def test_mains_and_current_are_those_of_a_house() -> None:
    for minute in range(0, 2000, 31):
        at = EVENING + timedelta(minutes=minute)
        assert 220 < HOUSE.voltage_v(at) < 240
        watts = HOUSE.current_a(WHOLE_HOUSE, at) * HOUSE.voltage_v(at)
        assert math.isclose(watts, HOUSE.power_w(WHOLE_HOUSE, at), abs_tol=0.2)


def test_another_household_with_the_same_columns_is_taken(tmp_path: Path) -> None:
    house = household.load(file_of(tmp_path, a_day()))
    assert house.days == 1
    assert house.power_w(WHOLE_HOUSE, datetime(2026, 1, 5, 0, 30, tzinfo=UTC)) == 30


@pytest.mark.parametrize(
    ("line", "text", "reason"),
    [
        (1, "time,aggregate_w", "the columns must be"),
        (3, "2024-05-01T00:01:00Z,1,0,0,0", "5 values instead of 6"),
        (4, "yesterday,1,0,0,0,0", "is not a time"),
        (4, "2024-05-01T00:02:00,1,0,0,0,0", "is not in UTC"),
        (5, "2024-05-01T00:03:00Z,many,0,0,0,0", "aggregate_w 'many' is no power"),
        (5, "2024-05-01T00:03:00Z,nan,0,0,0,0", "aggregate_w 'nan' is no power"),
        (5, "2024-05-01T00:03:00Z,1,-4,0,0,0", "kettle_w -4 is negative"),
        (9, "2024-05-01T09:00:00Z,1,0,0,0,0", "2024-05-01T00:07:00Z is due"),
    ],
)
def test_bad_row_is_named_by_file_and_line(
    tmp_path: Path, line: int, text: str, reason: str
) -> None:
    path = file_of(tmp_path, a_day(line=line, text=text))
    with pytest.raises(HouseholdFault) as fault:
        household.load(path)
    assert str(fault.value).startswith(f"{path}, line {line}: ")
    assert reason in str(fault.value)
    assert "\n" not in str(fault.value)


def test_file_that_is_no_gzip_or_too_short_is_refused(tmp_path: Path) -> None:
    plain = tmp_path / "house.csv"
    plain.write_text(a_day())
    with pytest.raises(HouseholdFault, match="not a readable gzip file"):
        household.load(plain)
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(a_day().encode())[:900])
    with pytest.raises(HouseholdFault, match="not a readable gzip file"):
        household.load(cut)
    with pytest.raises(HouseholdFault, match="less than one day"):
        household.load(file_of(tmp_path, HEADER + "\n2024-05-01T00:00:00Z,1,0,0,0,0\n"))
