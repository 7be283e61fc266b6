"""The household that is replayed: what each meter of the simulated house shows at any moment.

Reads one month of a real household (data/README.md) and repeats it for ever at the same time of
day: everything here is a pure function of the moment, so that a house that starts again goes on
where the counters would be. A row's watts hold for its whole minute. Never touches a device.
"""

import csv
import gzip
import itertools
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from tests.house.stick import METER, PLUGS

OWN_DATA = Path(__file__).parent / "data" / "refit_house2_2014-03_1min.csv.gz"
COLUMNS = ("aggregate_w", "kettle_w", "dishwasher_w", "washing_machine_w", "microwave_w")
MINUTE = timedelta(minutes=1)
MINUTES_A_DAY = 24 * 60
POWER_MAX_W = 100_000  # no house has a connection beyond this: such a row is a mistake
MAINS_V = 230.0


class HouseholdFault(Exception):
    """The file cannot be replayed; one line that names file, line and reason."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a meter sits: what it measures, and the node and endpoint it reports as."""

    name: str
    node: int
    endpoint: int


# The clamps share the whole house among them, as the meter itself adds them up: whole house =
# dishwasher + washing machine + everything else, and the plugs hang in everything else.
WHOLE_HOUSE = Place("whole house", METER, 0)
DISHWASHER = Place("dishwasher", METER, 1)
WASHING_MACHINE = Place("washing machine", METER, 2)
EVERYTHING_ELSE = Place("everything else", METER, 3)
KETTLE = Place("kettle", PLUGS[0], 0)
MICROWAVE = Place("microwave", PLUGS[1], 0)
PLACES = (WHOLE_HOUSE, DISHWASHER, WASHING_MACHINE, EVERYTHING_ELSE, KETTLE, MICROWAVE)
SWITCHED = (KETTLE, MICROWAVE)
BEHIND_WHICH_PLUGS_HANG = (WHOLE_HOUSE, EVERYTHING_ELSE)


class Household:
    """Rows of one household, repeated. `day_shift` moves it by whole days."""

    def __init__(self, first: datetime, rows: list[tuple[float, ...]], day_shift: int = 0) -> None:
        days = len(rows) // MINUTES_A_DAY
        self.days = days
        self._start = first - timedelta(days=day_shift)
        self._watts = _watts(rows[: days * MINUTES_A_DAY])
        # Energy before each minute, in watt-minutes.
        self._before = {
            place: list(itertools.accumulate(watts, initial=0.0))
            for place, watts in self._watts.items()
        }

    def power_w(self, place: Place, moment: datetime) -> float:
        minute, _, _ = self._position(moment)
        return self._watts[place][minute]

    def energy_kwh(self, place: Place, moment: datetime) -> float:
        """What the counter shows: everything since the first row, every repetition included."""
        minute, fraction, rounds = self._position(moment)
        before = self._before[place]
        watt_minutes = rounds * before[-1] + before[minute]
        return (watt_minutes + self._watts[place][minute] * fraction) / 60_000

    def voltage_v(self, moment: datetime) -> float:
        """The mains, which wander by a few volts over the day."""
        minute, _, _ = self._position(moment)
        return round(MAINS_V + 3 * math.sin(minute / 97) + math.sin(minute / 7), 1)

    def current_a(self, place: Place, moment: datetime) -> float:
        return round(abs(self.power_w(place, moment)) / self.voltage_v(moment), 3)

    def minutes(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """The moments in [start, end) at which power may change: every begin of a row."""
        moment = start + (self._start - start) % MINUTE
        while moment < end:
            yield moment
            moment += MINUTE

    def _position(self, moment: datetime) -> tuple[int, float, int]:
        """Which minute of the data, how much of it is over, how often it was repeated."""
        passed, within = divmod(moment - self._start, MINUTE)
        rounds, minute = divmod(passed, self.days * MINUTES_A_DAY)
        return minute, within / MINUTE, rounds


def load(path: Path = OWN_DATA, *, day_shift: int = 0) -> Household:
    """Read and check a household. Raises HouseholdFault."""
    first: datetime | None = None
    rows: list[tuple[float, ...]] = []
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as text:
            reader = csv.reader(text)
            header = next(reader, [])
            if header != ["time_utc", *COLUMNS]:
                raise _fault(path, 1, f"the columns must be time_utc,{','.join(COLUMNS)}")
            for row in reader:
                moment, watts = _checked(path, reader.line_num, row)
                first = first or moment
                if moment != (due := first + len(rows) * MINUTE):
                    raise _fault(path, reader.line_num, f"one row a minute: {due:%FT%TZ} is due")
                rows.append(watts)
    except (OSError, EOFError, zlib.error) as problem:
        raise HouseholdFault(f"{path}: not a readable gzip file ({problem})") from None
    except (UnicodeDecodeError, csv.Error) as problem:
        raise _fault(path, len(rows) + 2, f"not a CSV text ({problem})") from None
    if first is None or len(rows) < MINUTES_A_DAY:
        raise HouseholdFault(f"{path}: {len(rows)} rows are less than one day of minutes")
    return Household(first, rows, day_shift)


def _checked(path: Path, line: int, row: list[str]) -> tuple[datetime, tuple[float, ...]]:
    if len(row) != 1 + len(COLUMNS):
        raise _fault(path, line, f"{len(row)} values instead of {1 + len(COLUMNS)}")
    try:
        moment = datetime.fromisoformat(row[0])
    except ValueError:
        raise _fault(path, line, f"time_utc {row[0]!r} is not a time") from None
    if moment.utcoffset() != timedelta(0):
        raise _fault(path, line, f"time_utc {row[0]!r} is not in UTC (…Z)")
    watts = []
    for column, text in zip(COLUMNS, row[1:], strict=True):
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not abs(value) <= POWER_MAX_W:
            raise _fault(path, line, f"{column} {text!r} is no power in watts")
        if value < 0 and column != "aggregate_w":
            raise _fault(path, line, f"{column} {text} is negative")
        watts.append(value)
    return moment, tuple(watts)


def _fault(path: Path, line: int, reason: str) -> HouseholdFault:
    return HouseholdFault(f"{path}, line {line}: {reason}")


def _watts(rows: list[tuple[float, ...]]) -> dict[Place, list[float]]:
    whole, kettle, dishwasher, washing_machine, microwave = map(list, zip(*rows, strict=True))
    clamps = zip(whole, dishwasher, washing_machine, strict=True)
    return {
        WHOLE_HOUSE: whole,
        DISHWASHER: dishwasher,
        WASHING_MACHINE: washing_machine,
        EVERYTHING_ELSE: [total - first - second for total, first, second in clamps],
        KETTLE: kettle,
        MICROWAVE: microwave,
    }
