from datetime import UTC, datetime, timedelta

import pytest

from edge.uplink.remote import (
    NotFlexMeasures,
    RemoteAsset,
    RemoteSensor,
    asset_from,
    duration_from,
    iso_duration,
    sensor_from,
    series_from,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT5M", 300),
        ("PT0S", 0),
        ("PT15M", 900),
        ("PT1H", 3600),
        ("P1D", 86400),
        ("P1DT1H30M", 91800),
        ("P2W", 1209600),
        ("PT1.5S", 1.5),
        ("-PT12H", -43200),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert duration_from(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "P", "PT", "5 minutes", "P1M", "P1Y", "PT5"])
def test_durations_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(NotFlexMeasures):
        duration_from(text)


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(minutes=5), "PT5M"),
        (timedelta(0), "PT0M"),
        (timedelta(days=1), "PT1440M"),
        (timedelta(seconds=90), "PT1M30S"),
    ],
)
def test_durations_are_written_as_they_are_read(span: timedelta, text: str) -> None:
    assert iso_duration(span) == text
    assert duration_from(text) == span


def test_asset_and_sensor_are_read_as_the_server_writes_them() -> None:
    told = {
        "id": 3,
        "name": "Boiler",
        "external_id": "x",
        "parent_asset_id": 1,
        "attributes": '{"version": "2"}',
        "generic_asset_type": {"id": 6, "name": "building"},
        "anything": ["else"],
    }
    assert asset_from(told) == RemoteAsset(3, "Boiler", "building", 1, "x", {"version": "2"})
    told = {
        "id": 4,
        "name": "p",
        "unit": "kW",
        "event_resolution": "PT5M",
        "generic_asset_id": 3,
        "attributes": "{}",
    }
    assert sensor_from(told) == RemoteSensor(4, 3, "p", "kW", timedelta(minutes=5), {})


@pytest.mark.parametrize("told", [None, [], "x", {}, {"id": "3"}, {"id": True}])
def test_what_is_no_asset_is_refused_without_a_bug(told: object) -> None:
    with pytest.raises(NotFlexMeasures):
        asset_from(told)


def test_series_leaves_its_gaps() -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    told = {
        "start": "2026-03-01T01:00:00+01:00",
        "duration": "PT15M",
        "values": [1, None, -0.0],
        "unit": "kW",
    }
    series = series_from(told)
    assert series.resolution == timedelta(minutes=5)
    assert series.points() == {start: 1.0, start + timedelta(minutes=10): 0.0}
    assert series_from({**told, "resolution": "PT1H"}).resolution == timedelta(hours=1)


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"values": 1},
        {"values": [1], "start": "today", "resolution": "PT5M"},
        {"values": [1], "start": "2026-03-01T01:00:00", "resolution": "PT5M"},
    ],
)
def test_what_is_no_series_is_refused_without_a_bug(told: object) -> None:
    with pytest.raises(NotFlexMeasures):
        series_from(told)
