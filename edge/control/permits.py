"""What a person allowed: documents in state.db, as the nouns of this room. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from edge.control.decide import Controllable
from edge.errors import ConfigFault

POWER_W_MAX = 100_000  # more is not behind a household's switch
AWAY_MAX = timedelta(hours=24)


def check(device: Controllable) -> None:
    """Raises ConfigFault naming every fault."""
    faults = []
    if not 0 < device.nominal_power_w <= POWER_W_MAX:
        faults.append(f"nominal power must be above 0 and at most {POWER_W_MAX} W")
    if not 0 <= device.off_power_w < device.nominal_power_w:
        faults.append("power when off must be at least 0 W and less than nominal power")
    if not timedelta(minutes=1) <= device.away_longest <= AWAY_MAX:
        faults.append("the longest absence must be between a minute and a day")
    if not timedelta(0) <= device.rest_shortest <= AWAY_MAX:
        faults.append("the rest must be between nothing and a day")
    if any(begin == end for begin, end in device.left_alone):
        faults.append("hours to be left alone must begin and end at different times")
    try:
        ZoneInfo(device.timezone)
    except (ZoneInfoNotFoundError, ValueError):
        faults.append(f"{device.timezone} is no time zone")
    if faults:
        raise ConfigFault(*faults)


def device_to_json(device: Controllable) -> dict[str, Any]:
    return {
        "nominal_power_w": device.nominal_power_w,
        "off_power_w": device.off_power_w,
        "away_longest_s": device.away_longest.total_seconds(),
        "rest_shortest_s": device.rest_shortest.total_seconds(),
        "left_alone": [[begin.isoformat(), end.isoformat()] for begin, end in device.left_alone],
        "timezone": device.timezone,
        "normal_on": device.normal_on,
        "own_timers_s": [hold.total_seconds() for hold in device.own_timers],
        "consent": device.consent,
    }


def device_from_json(device_key: str, kept: Mapping[str, Any]) -> Controllable:
    """Raises KeyError, TypeError or ValueError for what device_to_json did not write."""
    return Controllable(
        device_key=device_key,
        nominal_power_w=float(kept["nominal_power_w"]),
        off_power_w=float(kept["off_power_w"]),
        away_longest=timedelta(seconds=kept["away_longest_s"]),
        rest_shortest=timedelta(seconds=kept["rest_shortest_s"]),
        left_alone=tuple(
            (time.fromisoformat(begin), time.fromisoformat(end))
            for begin, end in kept["left_alone"]
        ),
        timezone=kept["timezone"],
        normal_on=kept["normal_on"],
        own_timers=tuple(timedelta(seconds=hold) for hold in kept["own_timers_s"]),
        consent=kept["consent"],
    )


def with_timers(device: Controllable, own_timers: tuple[timedelta, ...]) -> Controllable:
    return device if device.own_timers == own_timers else replace(device, own_timers=own_timers)
