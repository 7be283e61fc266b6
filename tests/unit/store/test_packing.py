import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.store.packing import DamagedGroup, Point, pack, series_in, unpack

BASE_MS = 1_772_366_400_000

points = st.builds(
    Point,
    st.integers(1, 4000),
    st.integers(BASE_MS, BASE_MS + 600_000),
    st.floats()
    | st.floats(width=32)
    | st.decimals(-99_999, 99_999, places=2).map(float)
    | st.sampled_from([0.0, -0.0, math.inf, 5e-324, 1e300, 0.1 + 0.2]),
)


def bits(point: Point) -> tuple[int, int, bytes]:
    return point.series, point.at_ms, struct.pack("<d", point.value)


@given(st.lists(points, max_size=200))
def test_every_bit_comes_back(some: list[Point]) -> None:
    expected = sorted(some, key=lambda point: point[:2])
    assert list(map(bits, unpack(pack(some, BASE_MS), BASE_MS))) == list(map(bits, expected))


@given(st.lists(points, max_size=50), st.sets(st.integers(1, 4000)))
def test_only_wanted_series_come_back(some: list[Point], wanted: set[int]) -> None:
    found = unpack(pack(some, BASE_MS), BASE_MS, wanted)
    assert len(found) == sum(point.series in wanted for point in some)


@given(st.lists(points, max_size=50))
def test_series_are_known_without_unpacking(some: list[Point]) -> None:
    assert series_in(pack(some, BASE_MS)) == {point.series for point in some}


def test_half_a_minute_of_thirty_meters_fits_five_bytes_a_reading() -> None:
    some = [
        Point(series, BASE_MS + 10_000 * turn + 331 * series + 97 * turn, 230.1 + series * turn)
        for series in range(1, 31)
        for turn in range(3)
    ]
    assert len(pack(some, BASE_MS)) <= 5 * len(some)


def test_any_flipped_byte_is_found() -> None:
    data = pack([Point(1, BASE_MS, 1.5), Point(2, BASE_MS + 7, math.pi)], BASE_MS)
    for at in range(len(data)):
        damaged = data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]
        with pytest.raises(DamagedGroup):
            unpack(damaged, BASE_MS)
    for length in range(len(data)):
        with pytest.raises(DamagedGroup):
            unpack(data[:length], BASE_MS)
