"""What the box shows outside itself: a lamp, where to ask for the time, whether it curtails.

Three small files in the runtime folder, written when they change; on the image, units of systemd/
act on them. Elsewhere nobody reads them.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from edge.clock import Clock
from edge.files import write_atomically
from edge.health import Health

LOOK_EVERY = timedelta(seconds=5)


class Lamp(StrEnum):
    """What the green lamp says."""

    UNCLAIMED = "unclaimed"
    HEALTHY = "healthy"
    OFFLINE = "offline"
    PERSON = "person"


def lamp(*, claimed: bool, health: Health, card_trouble: bool = False) -> Lamp:
    """The one word that matters most."""
    if not claimed:
        return Lamp.UNCLAIMED
    if health.alarms or card_trouble:
        return Lamp.PERSON
    shipping = health.parts.get("shipping")
    if shipping is not None and shipping.state.startswith("waiting"):
        return Lamp.OFFLINE
    return Lamp.HEALTHY


class Signs:
    """A part of the agent. `server` is the FlexMeasures it is or wants to be paired with;
    `card_trouble`: whether a file on the card wants a person (full, damaged, not to be written)."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        health: Health,
        is_claimed: Callable[[], Awaitable[bool]],
        server: Callable[[], str | None],
        is_curtailing: Callable[[], bool],
        card_trouble: Callable[[], bool],
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._health = health
        self._is_claimed = is_claimed
        self._server = server
        self._is_curtailing = is_curtailing
        self._card_trouble = card_trouble
        self._shown: dict[str, str | None] = {}

    async def run(self) -> None:
        """Keep the files true, for ever."""
        while True:
            await self.show()
            await self._clock.sleep(LOOK_EVERY)

    async def show(self) -> None:
        """Write what changed."""
        word = lamp(
            claimed=await self._is_claimed(),
            health=self._health,
            card_trouble=self._card_trouble(),
        )
        self._put("lamp", word.value)
        self._put("time-source", self._server())
        self._put("curtailing", "yes" if self._is_curtailing() else None)

    def _put(self, name: str, text: str | None) -> None:
        if name in self._shown and self._shown[name] == text:
            return
        path = self._folder / name
        if text is None:
            path.unlink(missing_ok=True)
        else:
            write_atomically(path, f"{text}\n".encode(), mode=0o644)
        self._shown[name] = text
