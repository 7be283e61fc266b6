"""What every part says of itself, for `edge status`, the page and FlexMeasures.

Holds only what is true now; nothing here is stored. Cheap to call from anywhere.
"""

from collections import Counter, deque
from dataclasses import dataclass
from datetime import datetime

from edge.clock import Clock

_SAMPLES_MAX = 20  # enough to see a pattern; each is at most 200 characters


@dataclass(frozen=True, slots=True)
class PartState:
    """A part of the agent: "running", "waiting: why", "broken, see the log"."""

    state: str
    since_boottime_ms: int


@dataclass(frozen=True, slots=True)
class MalformedSample:
    """Something the other side said that nobody could read."""

    part: str
    at: datetime
    sample: str


class Health:
    """The box's own pulse."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.parts: dict[str, PartState] = {}
        self.alarms: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        self.malformed: deque[MalformedSample] = deque(maxlen=_SAMPLES_MAX)

    def report(self, part: str, state: str) -> None:
        """Say how `part` is doing; the time of the last change is kept."""
        known = self.parts.get(part)
        if known is None or known.state != state:
            self.parts[part] = PartState(state, self._clock.boottime_ms())

    def alarm(self, name: str, text: str) -> None:
        """Something a person should know: `text` says what, and what to do. Stays until cleared."""
        self.alarms[name] = text

    def clear(self, name: str) -> None:
        self.alarms.pop(name, None)

    def count(self, what: str, times: int = 1) -> None:
        self.counts[what] += times

    def keep_sample(self, part: str, sample: str) -> None:
        self.counts[f"{part} malformed"] += 1
        self.malformed.append(MalformedSample(part, self._clock.wall_now(), sample[:200]))
