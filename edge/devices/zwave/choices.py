"""What a person chose for single Z-Wave devices, kept in the box's notebook."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from edge.family import Notebook

_DOCUMENT = "zwave"


class Choices:
    """`aliases`: device that took another's place → the name under which it goes on.
    `power_intervals`: device → how often a person wants its power reported.
    `names`: device → what a person calls it."""

    def __init__(self, notebook: Notebook | None) -> None:
        self._notebook = notebook
        self.aliases: dict[str, str] = {}
        self.power_intervals: dict[str, timedelta] = {}
        self.names: dict[str, str] = {}

    async def load(self) -> None:
        """Read them from the notebook."""
        document: Mapping[str, Any] = (
            await self._notebook.get(_DOCUMENT) if self._notebook else None
        ) or {}
        self.aliases = dict(document.get("aliases", {}))
        self.names = dict(document.get("names", {}))
        self.power_intervals = {
            device: timedelta(seconds=seconds)
            for device, seconds in document.get("power_intervals_s", {}).items()
        }

    async def forget(self, device: str) -> None:
        """The device left: its number may come back as another one's."""
        before = len(self.aliases) + len(self.names)
        self.names.pop(device, None)
        self.aliases = {own: old for own, old in self.aliases.items() if old != device}
        if len(self.aliases) + len(self.names) != before:
            await self.save()

    async def save(self) -> None:
        """Keep them in the notebook."""
        if self._notebook is not None:
            intervals = {d: i.total_seconds() for d, i in self.power_intervals.items()}
            document = {
                "aliases": self.aliases,
                "power_intervals_s": intervals,
                "names": self.names,
            }
            await self._notebook.put(_DOCUMENT, document)
