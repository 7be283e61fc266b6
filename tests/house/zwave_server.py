"""The real zwave-server of the simulated house: the unmodified bundle, as a child process.

Its command line is made in one place, command(); a test compares it with the unit of the box. Its
folder holds config.json (with the network keys) and the driver's cache; both outlive a restart.
"""

import asyncio
import json
import os
import secrets
import signal
import socket
from collections import deque
from pathlib import Path
from typing import Any, Self

from tests.house import child

BUNDLE = child.BUILD / "zwave-server" / "server" / "bin" / "zwave-server.cjs"

# Node keeps near 125 MB with these and 190 MB without; 32 MB of old space is too little to start.
# As in systemd/zwave-js-server.service.
UNIT_ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "UV_THREADPOOL_SIZE": "2"}
NODE_FLAGS = ("--max-old-space-size=64", "--max-semi-space-size=1", "--optimize-for-size")
# It asks nobody for a password: it listens for this machine only, and announces itself to nobody.
SERVER_FLAGS = ("--host", "127.0.0.1", "--disable-dns-sd")

READY_PATIENCE_S = 60.0
READY_POLL_S = 0.05
SAID_LINES_MAX = 40  # enough to hold the reason of a stack trace
RESPAWN_PAUSE_S = 2.0  # RestartSec= of the box's unit


def command(node: Path, bundle: Path, device: Path, config: Path, port: int) -> list[str]:
    """The command line. The device comes first: after a flag it would be that flag's value."""
    return [
        *map(str, (node, *NODE_FLAGS, bundle, device)),
        *("--config", str(config), "--port", str(port), *SERVER_FLAGS),
    ]


def configure(folder: Path, *, log_level: str | None = None) -> dict[str, Any]:
    """The driver's settings, made once per folder: new network keys, and where its cache lies."""
    path = folder / "config.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        document = {
            "logConfig": {"enabled": log_level is not None, "level": log_level or "warn"},
            "storage": {"cacheDir": str(folder.resolve() / "cache"), "throttle": "slow"},
            "securityKeys": _keys("S0_Legacy", "S2_Unauthenticated", "S2_Authenticated")
            | _keys("S2_AccessControl"),
            "securityKeysLongRange": _keys("S2_Authenticated", "S2_AccessControl"),
        }
        (folder / "cache").mkdir(exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(json.dumps(document, indent=2))
    held: dict[str, Any] = json.loads(path.read_text())
    return held


def _keys(*names: str) -> dict[str, str]:
    return {name: secrets.token_hex(16) for name in names}


class ZwaveServer:
    """`async with ZwaveServer(device, folder) as server`: running, its driver ready.

    With `respawn` it is started again whenever it ends, as systemd does on the box.
    `await start(ready=False)` does not wait for the driver; without a stick it never is ready.
    The port stays the same over restarts.
    """

    def __init__(
        self,
        device: Path,
        folder: Path,
        *,
        port: int = 0,
        respawn: bool = False,
        log_level: str | None = None,
    ) -> None:
        self.config = configure(folder, log_level=log_level)
        self.keys: dict[str, str] = self.config["securityKeys"]
        self.port = port or _free_port()
        self.url = f"ws://127.0.0.1:{self.port}"
        self._command = command(
            child.node_binary(), BUNDLE, device, folder.resolve() / "config.json", self.port
        )
        self._server: asyncio.subprocess.Process | None = None
        self._output: asyncio.Task[None] | None = None
        self._respawn = respawn
        self._keeper: asyncio.Task[None] | None = None
        self._said: deque[str] = deque(maxlen=SAID_LINES_MAX)

    async def __aenter__(self) -> Self:
        try:
            await self.start()
            if self._respawn:
                self._keeper = asyncio.create_task(self._keep_running())
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._keeper is not None:
            await child.end(self._keeper)
        await self.stop()

    @property
    def running(self) -> bool:
        return self._server is not None and self._server.returncode is None

    @property
    def pid(self) -> int:
        assert self._server is not None
        return self._server.pid

    async def start(self, *, ready: bool = True) -> None:
        if self.running:
            return
        self._server = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"HOME": os.devnull, "PATH": os.defpath} | UNIT_ENVIRONMENT,
            preexec_fn=child.die_with_parent,
        )
        assert self._server.stdout is not None
        self._output = asyncio.create_task(child.follow(self._server.stdout, self._heard))
        if ready:
            await self.wait_ready()

    async def wait_ready(self) -> None:
        """Return once clients can connect, which is when the driver is ready."""
        async with asyncio.timeout(READY_PATIENCE_S):
            while not await self._listening():
                if not self.running and self._keeper is None:  # nobody starts it again
                    if self._output is not None:
                        await self._output
                    raise RuntimeError(child.gist("\n".join(self._said)) or "it ended at once")
                await asyncio.sleep(READY_POLL_S)

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """As kill -9: no good-bye to anybody. With `respawn` it comes back by itself."""
        await self._end(signal.SIGKILL)

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def wait_ended(self) -> int:
        """Wait until it has ended by itself; its exit code."""
        assert self._server is not None
        return await self._server.wait()

    def _heard(self, line: str) -> None:
        self._said.append(line)
        child.log_lines("zwave-server")(line)

    async def _keep_running(self) -> None:
        while True:
            await self.wait_ended()
            await asyncio.sleep(RESPAWN_PAUSE_S)
            await self.start(ready=False)

    async def _end(self, how: int) -> None:
        if self._server is not None:
            await child.stop(self._server, how)
        if self._output is not None:
            await self._output
            self._output = None

    async def _listening(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True


def _free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port: int = chosen.getsockname()[1]
        return port
