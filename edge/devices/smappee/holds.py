"""The durations Smappee's own timer knows."""

from datetime import timedelta
from enum import IntEnum


class SmappeeHold(IntEnum):
    """The only durations, in seconds, that Smappee honours. Any other means for ever."""

    FIVE_MINUTES = 300
    QUARTER = 900
    HALF_HOUR = 1800
    HOUR = 3600


OWN_TIMERS = tuple(timedelta(seconds=hold) for hold in SmappeeHold)


def exact_hold(wanted: timedelta) -> SmappeeHold | None:
    """The hold of exactly this length, or None: there is no such thing at Smappee."""
    seconds = wanted.total_seconds()
    return next((hold for hold in SmappeeHold if hold == seconds), None)
