"""Backups of this box: made when a person asks and every night, brought back when they say so.

The nightly one lies where the machine copies it to a USB drive from (systemd/edge-backup.timer);
it holds no secret, because nobody is there to give a passphrase.
"""

import asyncio
import base64
import json
import logging
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from edge.agent_api import backup
from edge.clock import Clock
from edge.contract.care import RestoreAnswer
from edge.credentials import Credentials
from edge.errors import EdgeError
from edge.files import write_atomically
from edge.privileged import Privileged
from edge.store.settings import Settings

log = logging.getLogger(__name__)

EVERY = timedelta(hours=12)  # the USB copy is taken at half past three at night
NETWORK_KEYS = "zwave.network-keys"
_MEMORIES = "zwave"  # where devices/zwave/backup.py keeps the stick's memory
_MEMORY_NAME = re.compile(r"[0-9a-f]{8}-[0-9]{8}T[0-9]{6}\.nvm")


class BackupDesk:
    """Takes and brings back; `run` is a part of the agent."""

    def __init__(
        self,
        state_dir: Path,
        release: str,
        settings: Settings,
        credentials: Credentials,
        clock: Clock,
        privileged: Privileged,
    ) -> None:
        self._state_dir = state_dir
        self._release = release
        self._settings = settings
        self._credentials = credentials
        self._clock = clock
        self._privileged = privileged

    async def run(self) -> None:
        """Keep the latest backup on the card, for the nightly copy."""
        while True:
            folder = self._state_dir / "backup"
            content = await self.take("")
            await asyncio.to_thread(_keep, folder, content)
            await self._clock.sleep(EVERY)

    async def take(self, passphrase: str) -> bytes:
        """The file; with a passphrase the secrets are in it, the Z-Wave keys among them."""
        memories = await asyncio.to_thread(backup.memories_in, self._state_dir / _MEMORIES)
        return await backup.take(
            self._settings,
            self._credentials,
            memories,
            self._clock.wall_now(),
            self._release,
            passphrase,
            await self._network_keys() if passphrase else {},
        )

    async def bring_back(self, content: bytes, passphrase: str) -> RestoreAnswer:
        """Put everything where it was. Raises NotAllowed before anything was changed."""
        found = backup.read(content)
        secrets = await asyncio.to_thread(backup.open_secrets, found, passphrase)
        documents = {k: v for k, v in found.documents.items() if k not in backup.NEVER_KEPT}
        for name, value in documents.items():
            await self._settings.put(name, value)
        keys = secrets.pop(NETWORK_KEYS, None)
        for name, secret in secrets.items():
            self._credentials.put(name, secret)
        await asyncio.to_thread(self._put_memories, found.memories)
        if keys is not None and self._privileged.is_there():
            await self._privileged.act("driver-keys-restore", **json.loads(keys))
        count = len(secrets) + (keys is not None)
        return RestoreAnswer(documents=len(documents), secrets=count, taken_at=found.taken_at)

    async def _network_keys(self) -> dict[str, str]:
        """The Z-Wave driver's keys: without them every secure device must be added anew."""
        if not self._privileged.is_there():
            return {}
        try:
            return {NETWORK_KEYS: json.dumps(await self._privileged.act("driver-keys"))}
        except EdgeError as problem:
            log.warning("the backup is without the Z-Wave keys: %s", problem)
            return {}

    def _put_memories(self, memories: Mapping[str, str]) -> None:
        """The copies of a stick's memory, under the names we give them and no others."""
        folder = self._state_dir / _MEMORIES
        folder.mkdir(mode=0o700, exist_ok=True)
        for name, text in memories.items():
            if _MEMORY_NAME.fullmatch(name):
                write_atomically(folder / name, base64.b64decode(text))


def _keep(folder: Path, content: bytes) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    write_atomically(folder / "latest", content)
