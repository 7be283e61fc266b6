"""Readings as bytes and back, exactly. Pure.

A group holds many points of many series, column by column: which series, when, what. Times are
differences from the group's usual interval, values are decimal numbers ("1523.7" is 15237 with
one decimal) written as differences; whatever does not fit that mould (thirds, NaN, −0.0) stays a
float of 4 or 8 bytes. The numbers of a column are written as exponential Golomb codes of the order
that makes that column shortest, so a reading every ten seconds takes three bytes. A checksum
ends the group: a page of garbage is found, never believed.
"""

import math
import struct
import zlib
from collections.abc import Container, Iterable, Sequence
from itertools import groupby, pairwise
from operator import itemgetter
from typing import NamedTuple

FORMAT = 1
EXACT_MAX = 1 << 53  # beyond it a double no longer holds every whole number
_POWERS = [10**decimals for decimals in range(10)]  # 1e-9 is finer than any meter
_FLOAT32, _FLOAT64 = 14, 15  # scales that mean: no decimal number
_FLOAT_CODES = {_FLOAT32: "f", _FLOAT64: "d"}
_CHECKSUM = struct.Struct("<I")
_ORDER_BITS = 6


class DamagedGroup(ValueError):
    """These bytes are not what pack() wrote."""


class Point(NamedTuple):
    """One value of one series at a moment in milliseconds; of which clock the caller knows."""

    series: int
    at_ms: int
    value: float


def pack(points: Iterable[Point], base_ms: int) -> bytes:
    """Points as bytes; no time may lie before base_ms. Points of equal series and time keep
    their order."""
    ordered = sorted(points, key=itemgetter(0, 1))
    runs = [(series, list(run)) for series, run in groupby(ordered, itemgetter(0))]
    gaps_ms = [b.at_ms - a.at_ms for _, run in runs for a, b in pairwise(run)]
    interval_ms = sorted(gaps_ms)[(len(gaps_ms) - 1) // 2] if gaps_ms else 0  # the median
    heads = [len(ordered), interval_ms]
    starts: list[int] = []
    first_values: list[int] = []
    changes: list[int] = []
    floats = bytearray()
    before, usual = -1, (1, 0)
    for series, run in runs:
        scale, numbers = _scaled([point.value for point in run])
        changed = (len(run), scale) != usual
        heads += [(series - before - 1) << 1 | changed, *((len(run), scale) if changed else ())]
        before, usual = series, (len(run), scale)
        starts.append(run[0].at_ms - base_ms)
        if isinstance(numbers, bytes):
            floats += numbers
        else:
            first_values.append(_unsigned(numbers[0]))
            changes += [_unsigned(b - a) for a, b in pairwise(numbers)]
    steps = [_unsigned(gap_ms - interval_ms) for gap_ms in gaps_ms]
    bits = "".join(_column(column) for column in (heads, starts, steps, first_values, changes))
    body = bytes((FORMAT,)) + _bytes_of(bits) + floats
    return body + _CHECKSUM.pack(zlib.crc32(body))


def unpack(data: bytes, base_ms: int, wanted: Container[int] | None = None) -> list[Point]:
    """The points of a group, by series and time; only the wanted series if given.

    Raises DamagedGroup.
    """
    cursor = _checked(data)
    runs, interval_ms = _heads(cursor)
    decimal = [count for _, count, scale in runs if scale not in _FLOAT_CODES]
    starts = iter(cursor.column(len(runs)))
    steps = iter(cursor.column(sum(count - 1 for _, count, _ in runs)))
    first_values = iter(cursor.column(len(decimal)))
    changes = iter(cursor.column(sum(count - 1 for count in decimal)))
    points: list[Point] = []
    for series, count, scale in runs:
        at_ms = base_ms + next(starts)
        times_ms = [at_ms]
        for _ in range(count - 1):
            at_ms += interval_ms + _signed(next(steps))
            times_ms.append(at_ms)
        if scale in _FLOAT_CODES:
            values = cursor.floats(f"<{count}{_FLOAT_CODES[scale]}")
        else:
            number, power = _signed(next(first_values)), _POWERS[scale]
            values = [number / power]
            for _ in range(count - 1):
                number += _signed(next(changes))
                values.append(number / power)
        if wanted is None or series in wanted:
            points += map(Point, [series] * count, times_ms, values)
    return points


def series_in(data: bytes) -> set[int]:
    """Which series a group holds; ten times as fast as unpack(). Raises DamagedGroup."""
    return {series for series, _, _ in _heads(_checked(data))[0]}


def _checked(data: bytes) -> "_Cursor":
    body = data[: -_CHECKSUM.size]
    if len(body) < 2 or _CHECKSUM.pack(zlib.crc32(body)) != data[-_CHECKSUM.size :]:
        raise DamagedGroup("checksum does not fit")
    if body[0] != FORMAT:
        raise DamagedGroup(f"unknown format {body[0]}")
    return _Cursor(body[1:])


def _heads(cursor: "_Cursor") -> tuple[list[tuple[int, int, int]], int]:
    """The runs as (series, points, scale), and the usual interval."""
    order = cursor.order()
    left, interval_ms = cursor.number(order), cursor.number(order)
    runs = []
    series, count, scale = -1, 1, 0
    while left > 0:
        word = cursor.number(order)
        series += (word >> 1) + 1
        if word & 1:
            count, scale = cursor.number(order), cursor.number(order)
        runs.append((series, count, scale))
        left -= count
    return runs, interval_ms


def _scaled(values: Sequence[float]) -> tuple[int, list[int] | bytes]:
    """The scale that all values share, and their numbers in it, or their bytes as floats."""
    if (decimals := _as_decimals(values)) is not None:
        return decimals
    exact = struct.pack(f"<{len(values)}d", *values)
    try:
        short = struct.pack(f"<{len(values)}f", *values)
    except OverflowError:  # too large for four bytes
        return _FLOAT64, exact
    again = struct.pack(f"<{len(values)}d", *struct.unpack(f"<{len(values)}f", short))
    return (_FLOAT32, short) if again == exact else (_FLOAT64, exact)


def _as_decimals(values: Sequence[float]) -> tuple[int, list[int]] | None:
    """Values as whole numbers of 10^-decimals, or None where that would change a single bit."""
    if not all(map(math.isfinite, values)):
        return None
    if any(value == 0 and math.copysign(1, value) < 0 for value in values):
        return None
    largest = max(map(abs, values))
    for decimals, power in enumerate(_POWERS):
        if largest * power >= EXACT_MAX:
            return None
        numbers = [round(value * power) for value in values]
        if all(number / power == value for number, value in zip(numbers, values, strict=True)):
            return decimals, numbers
    return None


def _unsigned(number: int) -> int:
    """0, −1, 1, −2 … as 0, 1, 2, 3 …"""
    return number << 1 if number >= 0 else (-number << 1) - 1


def _signed(number: int) -> int:
    return -((number + 1) >> 1) if number & 1 else number >> 1


def _column(numbers: Sequence[int]) -> str:
    """Bits of the numbers in exponential Golomb codes, after the order that suits them best."""

    def bits(order: int) -> int:
        return sum(2 * (number + (1 << order)).bit_length() - order - 1 for number in numbers)

    order = min(range(max(numbers, default=0).bit_length() + 1), key=bits)
    words = [f"{number + (1 << order):b}" for number in numbers]
    coded = ["0" * (len(word) - order - 1) + word for word in words]
    return f"{order:0{_ORDER_BITS}b}" + "".join(coded)


def _bytes_of(bits: str) -> bytes:
    padded = bits + "0" * (-len(bits) % 8)
    return int(padded, 2).to_bytes(len(padded) // 8)


class _Cursor:
    """Reads what _column wrote, and the floats behind it."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._bits = f"{int.from_bytes(data):0{8 * len(data)}b}"
        self._at = 0

    def order(self) -> int:
        self._at += _ORDER_BITS
        return int(self._bits[self._at - _ORDER_BITS : self._at], 2)

    def number(self, order: int) -> int:
        one = self._bits.index("1", self._at)
        self._at = 2 * one - self._at + order + 1
        return int(self._bits[one : self._at], 2) - (1 << order)

    def column(self, count: int) -> list[int]:
        order = self.order()
        return [self.number(order) for _ in range(count)]

    def floats(self, layout: str) -> Sequence[float]:
        self._at += -self._at % 8
        values = struct.unpack_from(layout, self._data, self._at // 8)
        self._at += 8 * struct.calcsize(layout)
        return values
