"""Durations as people type them at the command line. Pure."""

import re

from edge.errors import ConfigFault

MINUTES_MAX = 720
_TYPED = re.compile(r"(?:PT)?(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)(?:M|MIN)?)?", re.IGNORECASE)


def minutes_from(typed: str) -> int:
    """Minutes of "30", "30m", "1h", "1h30" or "PT30M". Raises ConfigFault."""
    found = _TYPED.fullmatch(typed.strip())
    minutes = 0
    if found is not None:
        minutes = 60 * int(found["hours"] or 0) + int(found["minutes"] or 0)
    if not 0 < minutes <= MINUTES_MAX:
        raise ConfigFault(f"{typed} is no duration; say 30 (minutes), 30m, 1h or PT30M")
    return minutes
