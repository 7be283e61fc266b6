"""What must arrive: means computed from the CSV itself, apart from the house and from the box.

Deliberately shares nothing with household.py but the file: it walks over every row and weighs it.
"""

import csv
import gzip
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

OWN_DATA = Path(__file__).parent / "data" / "refit_house2_2014-03_1min.csv.gz"

# What is under each meter: node, endpoint → columns added and columns taken away.
UNDER: dict[tuple[int, int], tuple[tuple[str, ...], tuple[str, ...]]] = {
    (2, 0): (("aggregate_w",), ()),
    (2, 1): (("dishwasher_w",), ()),
    (2, 2): (("washing_machine_w",), ()),
    (2, 3): (("aggregate_w",), ("dishwasher_w", "washing_machine_w")),
    (3, 0): (("kettle_w",), ()),
    (4, 0): (("microwave_w",), ()),
}


@cache
def rows(path: Path = OWN_DATA) -> tuple[tuple[datetime, dict[str, float]], ...]:
    with gzip.open(path, "rt", encoding="utf-8") as text:
        return tuple(
            (
                datetime.fromisoformat(row.pop("time_utc")),
                {column: float(value) for column, value in row.items()},
            )
            for row in csv.DictReader(text)
        )


def mean_w(
    node: int, endpoint: int, start: datetime, end: datetime, path: Path = OWN_DATA
) -> float:
    """The mean power in [start, end) under one meter, with every plug on. The month repeats."""
    added, taken = UNDER[node, endpoint]
    data = rows(path)
    first = data[0][0]
    minutes = len(data) // 1440 * 1440
    watt_seconds = 0.0
    moment = start
    while moment < end:
        index = int((moment - first).total_seconds() // 60)
        row_end = first + timedelta(minutes=index + 1)
        seconds = (min(row_end, end) - moment).total_seconds()
        watts = data[index % minutes][1]
        total = sum(watts[column] for column in added) - sum(watts[column] for column in taken)
        watt_seconds += total * seconds
        moment = min(row_end, end)
    return watt_seconds / (end - start).total_seconds()
