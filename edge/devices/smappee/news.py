"""What of the cloud's words is new, and what has to be said again with it. Pure.

The box keeps readings two days after their slots. What comes later than that would be alone: the
rest of its hour or day, and the other side of a difference, are gone. So it comes with all of that.
"""

import math
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime

from edge.devices.smappee.readings import FIVE_MINUTES, KEPT_BY_CLOUD, Measured, start_of
from edge.model import Reading


class News:
    """What was offered already, of every channel."""

    def __init__(self) -> None:
        self._offered: defaultdict[str, OfferedSoFar] = defaultdict(OfferedSoFar)
        self._events: defaultdict[str, EventsSoFar] = defaultdict(EventsSoFar)

    def forget(self, channel_keys: Collection[str]) -> None:
        """Everything of these channels is new again."""
        for key in channel_keys:
            self._offered.pop(key, None)
            self._events.pop(key, None)

    def of(
        self, told: Sequence[tuple[Measured, Reading]], far: datetime
    ) -> Iterator[tuple[Measured, Reading]]:
        """What is new or different; where any of it is late and from before `far`, all of that."""
        offered = self._offered
        began = {m.channel.key: offered[m.channel.key].began for m, _ in told}
        is_far = [start_of(reading) < far for _, reading in told]
        is_news = [offered[reading.channel_key].is_news(reading) for _, reading in told]
        is_late = any(
            new and old and start_of(reading) >= began[reading.channel_key]
            for (_, reading), new, old in zip(told, is_news, is_far, strict=True)
        )
        for each, new, old in zip(told, is_news, is_far, strict=True):
            if new or (is_late and old):
                yield each

    def is_news(self, event: Reading, now: datetime) -> bool:
        """Whether an appliance's event was not offered yet; remembers it."""
        return self._events[event.channel_key].is_news(event, now)


class OfferedSoFar:
    """Remembers what was offered of one channel in the cloud's 14 days: 49 kB, never more."""

    _SIZE = KEPT_BY_CLOUD // FIVE_MINUTES + 12

    def __init__(self) -> None:
        self._numbers = array("I", [0]) * self._SIZE  # five minutes since 1970
        self._values = array("d", [math.nan]) * self._SIZE
        self.began = datetime.max.replace(tzinfo=UTC)  # the earliest that was offered

    def is_news(self, reading: Reading) -> bool:
        """Whether this interval was not offered yet, or with another value; remembers it."""
        number = (start_of(reading) - datetime.fromtimestamp(0, UTC)) // FIVE_MINUTES
        place = number % self._SIZE
        if self._numbers[place] == number and self._values[place] == reading.value:
            return False
        self._numbers[place], self._values[place] = number, reading.value
        self.began = min(self.began, start_of(reading))
        return True


class EventsSoFar:
    """Remembers the events of one appliance in the cloud's 14 days; several may fall together."""

    def __init__(self) -> None:
        self._values: dict[datetime, float] = {}

    def is_news(self, event: Reading, now: datetime) -> bool:
        """Whether this moment was not offered yet, or with another value; remembers it."""
        for forgotten in [at for at in self._values if at < now - KEPT_BY_CLOUD]:
            del self._values[forgotten]
        known = self._values.get(start_of(event))
        self._values[start_of(event)] = event.value
        return known != event.value
