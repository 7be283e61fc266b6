"""When a meter reports: its own configuration decides."""

from datetime import timedelta

import pytest

from tests.house.household import DISHWASHER, EVERYTHING_ELSE, KETTLE, WHOLE_HOUSE, Place
from tests.house.replay import report_interval
from tests.house.stick import KWH, A, V, W

FACTORY = {101: 2, 102: 1, 103: 0, 111: 5, 112: 120, 113: 120}
PLUG = {101: 15, 111: 600}


def test_meter_as_it_leaves_the_factory_keeps_its_clamps_to_itself() -> None:
    assert report_interval((WHOLE_HOUSE, W), FACTORY) == timedelta(seconds=5)
    assert report_interval((WHOLE_HOUSE, KWH), FACTORY) == timedelta(minutes=2)
    assert report_interval((WHOLE_HOUSE, V), FACTORY) is None
    assert report_interval((DISHWASHER, W), FACTORY) is None


@pytest.mark.parametrize(
    ("place", "scale", "bit"),
    [(DISHWASHER, W, 0x100), (EVERYTHING_ELSE, KWH, 0x2000), (DISHWASHER, A, 0x80000)],
)
def test_clamp_reports_once_its_bit_is_set(place: Place, scale: int, bit: int) -> None:
    preset = FACTORY | {103: bit, 113: 60}
    assert report_interval((place, scale), preset) == timedelta(minutes=1)


def test_shortest_of_several_groups_counts() -> None:
    preset = FACTORY | {103: 2, 113: 3}
    assert report_interval((WHOLE_HOUSE, W), preset) == timedelta(seconds=3)


def test_plug_has_one_group_and_can_be_silenced() -> None:
    assert report_interval((KETTLE, V), PLUG) == timedelta(minutes=10)
    assert report_interval((KETTLE, W), PLUG | {101: 1}) is None
    assert report_interval((KETTLE, W), PLUG | {111: 0}) is None
