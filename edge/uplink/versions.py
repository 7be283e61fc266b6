"""Which FlexMeasures the box speaks to. Pure."""

import re

from edge.errors import Refused

OLDEST_VERSION = (0, 33)  # the first with jobs that take data; tested with 0.33.1 and 1.0.1
NEXT_UNKNOWN_VERSION = (2, 0)


class VersionRefused(Refused):
    """A FlexMeasures that the box does not know how to speak to."""


def is_supported(version: str) -> bool:
    found = re.match(r"(\d+)\.(\d+)", version)
    return found is not None and (
        OLDEST_VERSION <= (int(found[1]), int(found[2])) < NEXT_UNKNOWN_VERSION
    )


def supported_versions() -> str:
    oldest = ".".join(map(str, OLDEST_VERSION))
    return f"version {oldest} and newer, below {'.'.join(map(str, NEXT_UNKNOWN_VERSION))}"
