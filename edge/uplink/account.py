"""The box's tie with one FlexMeasures account: paired or not, as whom, and what feeds what."""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from edge.contract import FlexMeasuresStatus
from edge.model import Sensor
from edge.store.outbox import OutboxCounts


class Documents(Protocol):
    """What this room needs of store/settings.py."""

    async def get(self, name: str) -> Any: ...
    async def put(self, name: str, value: Any) -> None: ...


class Account:
    """At most one account at a time."""

    def __init__(self, settings: Documents) -> None:
        self._settings = settings
        self._sensors: tuple[Sensor, ...] = ()
        self.changed = asyncio.Event()

    def sensors(self) -> Sequence[Sensor]:
        """The sensors that are fed now."""
        return self._sensors

    def status(self, counts: OutboxCounts) -> FlexMeasuresStatus:
        """For `edge status` and the page."""
        return FlexMeasuresStatus(
            paired=False,
            url=None,
            paired_as=None,
            server_version=None,
            site=None,
            sensors=len(self._sensors),
            last_accepted=None,
            slots_accepted=counts.accepted_total,
            slots_waiting=counts.waiting,
            slots_rejected=counts.rejected_total,
            oldest_waiting=counts.oldest_waiting,
            catching_up_percent=None,
            last_error=None,
            advice=None,
        )
