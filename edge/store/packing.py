"""Readings as bytes and back, exactly. Pure.

A group holds many points of many series, column by column: which series, when, what. Times are
differences from the group's usual interval, values are decimal numbers ("1523.7" is 15237 with
one decimal) written as differences; whatever does not fit that mould (thirds, NaN, −0.0) stays a
float of 4 or 8 bytes. Every number is a varint, so a reading every ten seconds takes four bytes.
A checksum ends the group: a page of garbage is found, never believed.
"""

import math
import struct
import zlib
from collections.abc import Container, Iterable, Sequence
from itertools import groupby, pairwise
from operator import itemgetter
from statistics import median_low
from typing import NamedTuple

FORMAT = 1
EXACT_MAX = 1 << 53  # beyond it a double no longer holds every whole number
_POWERS = [10**decimals for decimals in range(10)]  # 1e-9 is finer than any meter
_FLOAT32, _FLOAT64 = 14, 15  # scales that mean: no decimal number
_CHECKSUM = struct.Struct("<I")


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
    interval_ms = median_low(gaps_ms) if gaps_ms else 0
    head, times, values = bytearray((FORMAT,)), bytearray(), bytearray()
    _put(head, len(ordered))
    _put(head, interval_ms)
    before, usual_count, usual_scale = -1, 1, 0
    for series, run in runs:
        scale, numbers = _scaled([point.value for point in run])
        changed = len(run) != usual_count or scale != usual_scale
        _put(head, (series - before - 1) << 1 | changed)
        if changed:
            _put(head, len(run))
            head.append(scale)
        _put(times, run[0].at_ms - base_ms)
        for a, b in pairwise(run):
            _put_signed(times, b.at_ms - a.at_ms - interval_ms)
        values += numbers
        before, usual_count, usual_scale = series, len(run), scale
    body = bytes(head + times + values)
    return body + _CHECKSUM.pack(zlib.crc32(body))


def unpack(data: bytes, base_ms: int, wanted: Container[int] | None = None) -> list[Point]:
    """The points of a group, by series and time; only the wanted series if given.

    Raises DamagedGroup.
    """
    body = data[: -_CHECKSUM.size]
    if len(body) < 2 or _CHECKSUM.pack(zlib.crc32(body)) != data[-_CHECKSUM.size :]:
        raise DamagedGroup("checksum does not fit")
    if body[0] != FORMAT:
        raise DamagedGroup(f"unknown format {body[0]}")
    cursor = _Cursor(body, 1)
    left, interval_ms = cursor.number(), cursor.number()
    runs = []
    series, count, scale = -1, 1, 0
    while left > 0:
        word = cursor.number()
        series += (word >> 1) + 1
        if word & 1:
            count, scale = cursor.number(), cursor.byte()
        runs.append((series, count, scale))
        left -= count
    times = [cursor.times(base_ms, interval_ms, count) for _, count, _ in runs]
    points: list[Point] = []
    for (series, count, scale), at_ms in zip(runs, times, strict=True):
        values = cursor.values(count, scale)
        if wanted is None or series in wanted:
            points += map(Point, [series] * count, at_ms, values)
    return points


def _scaled(values: Sequence[float]) -> tuple[int, bytes]:
    """The scale all values share, and their bytes in it."""
    out = bytearray()
    if (whole := _as_decimals(values)) is not None:
        scale, numbers = whole
        before = 0
        for number in numbers:
            _put_signed(out, number - before)
            before = number
        return scale, bytes(out)
    for scale, code in ((_FLOAT32, "f"), (_FLOAT64, "d")):
        layout = f"<{len(values)}{code}"
        try:
            packed = struct.pack(layout, *values)
        except OverflowError:  # too large for four bytes
            continue
        exact = struct.pack(f"<{len(values)}d", *values)
        if scale == _FLOAT64 or exact == struct.pack(
            f"<{len(values)}d", *struct.unpack(layout, packed)
        ):
            return scale, packed
    raise AssertionError("a double always fits eight bytes")


def _as_decimals(values: Sequence[float]) -> tuple[int, list[int]] | None:
    """Values as whole numbers of 10^-decimals, or None where that would change a single bit."""
    if not all(map(math.isfinite, values)):
        return None
    largest = max(map(abs, values))
    if any(value == 0 and math.copysign(1, value) < 0 for value in values):
        return None
    for decimals, power in enumerate(_POWERS):
        if largest * power >= EXACT_MAX:
            return None
        numbers = [round(value * power) for value in values]
        if all(number / power == value for number, value in zip(numbers, values, strict=True)):
            return decimals, numbers
    return None


def _put(out: bytearray, number: int) -> None:
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _put_signed(out: bytearray, number: int) -> None:
    _put(out, number << 1 if number >= 0 else (-number << 1) - 1)


class _Cursor:
    """Reads what _put wrote."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def number(self) -> int:
        data, at = self._data, self._at
        byte = data[at]
        number, shift = byte & 0x7F, 7
        while byte > 0x7F:
            at += 1
            byte = data[at]
            number |= (byte & 0x7F) << shift
            shift += 7
        self._at = at + 1
        return number

    def signed(self) -> int:
        number = self.number()
        return -((number + 1) >> 1) if number & 1 else number >> 1

    def times(self, base_ms: int, interval_ms: int, count: int) -> list[int]:
        at_ms = base_ms + self.number()
        times = [at_ms]
        for _ in range(count - 1):
            at_ms += interval_ms + self.signed()
            times.append(at_ms)
        return times

    def values(self, count: int, scale: int) -> Sequence[float]:
        if scale in (_FLOAT32, _FLOAT64):
            layout = f"<{count}{'f' if scale == _FLOAT32 else 'd'}"
            start, self._at = self._at, self._at + struct.calcsize(layout)
            return struct.unpack_from(layout, self._data, start)
        power, number, values = _POWERS[scale], 0, []
        for _ in range(count):
            number += self.signed()
            values.append(number / power)
        return values
