"""Copies of the stick's memory, taken before devices are added or removed.

A stick that dies takes the network with it; with a copy (and the network keys) a new one carries
on. Reading the memory takes the radio off the air for a while.
"""

import asyncio
from datetime import datetime
from pathlib import Path

from zwave_js_server.model.driver import Driver

from edge.devices.zwave.door import answered
from edge.devices.zwave.events import BackupImpossible, BackupStarted, BackupTaken, EventLog
from edge.errors import EdgeError, Refused
from edge.files import write_atomically

BACKUP_WITHIN_S = 300.0  # 500 series sticks hand out 256 KB in small pieces
KEPT_MAX = 5


class Backups:
    """The last copies, one file each, named by home id and time. Without a folder none are kept."""

    def __init__(self, folder: Path | None, log: EventLog) -> None:
        self._folder = folder
        self._log = log

    def files(self) -> list[Path]:
        """The copies, the newest last."""
        return sorted(self._folder.glob("*.nvm")) if self._folder else []

    def read(self, name: str) -> bytes:
        """The copy of this name. Raises Refused where there is none."""
        for path in self.files():
            if path.name == name:
                return path.read_bytes()
        raise Refused("this copy of a stick's memory is gone; choose another")

    async def take(self, driver: Driver, now: datetime) -> Path | None:
        """Copy the stick's memory now; None where that cannot be done, which is told as an event.

        A copy that fails stops nobody from adding a device.
        """
        if self._folder is None:
            return None
        self._log.add(BackupStarted())
        try:
            async with answered("copying the stick's memory", BACKUP_WITHIN_S):
                memory = await driver.controller.async_backup_nvm_raw()
            name = f"{driver.controller.home_id or 0:08x}-{now:%Y%m%dT%H%M%S}.nvm"
            path = await asyncio.to_thread(self._keep, name, memory)
        except (EdgeError, OSError) as problem:
            self._log.add(BackupImpossible(str(problem)))
            return None
        self._log.add(BackupTaken(path.name, len(memory)))
        return path

    def _keep(self, name: str, memory: bytes) -> Path:
        if self._folder is None or not memory:  # an empty copy is worse than none
            raise OSError("the stick gave an empty copy of its memory")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / name
        write_atomically(path, memory)
        for old in self.files()[:-KEPT_MAX]:
            old.unlink(missing_ok=True)
        return path
