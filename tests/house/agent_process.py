"""The box's resident process as systemd runs it: one settings file, one folder of state, one log.

async with AgentProcess(folder, driver_url) as agent: await agent.pair(server, account)
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from edge.cli.door import ask
from edge.contract import Done, Message, PairAnswer, PairRequest, Status
from edge.errors import EdgeError
from tests.house import child

ANSWER_WITHIN_S = 30.0
POLL_S = 0.2
COMMIT_EVERY_S = 2
NEVER_TRUSTED = "2100-01-01T00:00:00Z"  # as a floor: whatever the machine's clock says is too early


class AgentProcess:
    """Started and stopped as often as a test likes; `state` and the log outlive it."""

    def __init__(self, state: Path, driver_url: str, stick: Path) -> None:
        state.mkdir(exist_ok=True)
        self.state = state
        self.log_file = state / "agent.log"
        self._settings = state / "agent.toml"
        self._driver_url = driver_url
        self._stick = stick
        self._runtime = Path(tempfile.mkdtemp(prefix="edge-"))  # short: it holds Unix sockets
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        shutil.rmtree(self._runtime)

    async def start(self, *, trusted: bool = True) -> None:
        """Start and wait for its first answer."""
        self._settings.write_text(self._toml(trusted))
        with self.log_file.open("a") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command("agent"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=child.ROOT,
                env=os.environ | child.EDGE_ENVIRONMENT,
                preexec_fn=child.die_with_parent,
            )
        async with asyncio.timeout(ANSWER_WITHIN_S):
            while True:
                with suppress(EdgeError):
                    await self.status()
                    return
                assert self._process.returncode is None, self.log_file.read_text()
                await asyncio.sleep(POLL_S)

    async def stop(self, how: int = signal.SIGTERM) -> None:
        if self._process is not None:
            await child.stop(self._process, how)
            self._process = None

    async def kill(self) -> None:
        """As kill -9, or a power cut without its harm to files: no good-bye, no last commit."""
        await self.stop(signal.SIGKILL)

    @property
    def socket(self) -> Path:
        """The agent's own door."""
        return self._runtime / "agent.sock"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def ask[Answer: Message](
        self, route: str, kind: type[Answer], body: Message | None = None, door: str = "agent"
    ) -> Answer:
        """One question at one of its doors: "agent" or "page"."""
        method = "GET" if kind is Status else "POST"
        return await asyncio.to_thread(ask, self.door(door), method, route, kind, body)

    def door(self, name: str = "agent") -> Path:
        return self._runtime / f"{name}.sock"

    async def status(self) -> Status:
        return await self.ask("/status", Status)

    async def until(self, true: Callable[[Status], bool], within_s: float = 60) -> Status:
        """Wait until something is true of its status."""
        status = await self.status()
        try:
            async with asyncio.timeout(within_s):
                while not true(status):
                    await asyncio.sleep(POLL_S)
                    status = await self.status()
        except TimeoutError:
            raise AssertionError(f"still {status.model_dump_json(indent=1)}") from None
        return status

    async def pair(self, url: str, email: str, password: str) -> PairAnswer:
        """Pair it, and feed every meter it knows."""
        request = PairRequest(
            url=url, email=email, password=password, site="My home", allow_private=True
        )
        paired = await self.ask("/flexmeasures/pair", PairAnswer, request)
        await self.ask("/flexmeasures/map", Done)
        return paired

    async def says(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """What a person sees who types `edge …`."""
        return await asyncio.to_thread(
            subprocess.run,
            self._command(*arguments),
            cwd=child.ROOT,
            capture_output=True,
            text=True,
            timeout=ANSWER_WITHIN_S,
            check=False,
        )

    def _command(self, *arguments: str) -> list[str]:
        return [*child.EDGE, "--config", str(self._settings), *arguments]

    def _toml(self, trusted: bool) -> str:
        sections: dict[str, dict[str, Any]] = {
            "clock": {"trust_always": True} if trusted else {},
            "buffer": {"commit_every_s": COMMIT_EVERY_S},
            "zwave": {"server_url": self._driver_url, "stick": os.fspath(self._stick)},
            "flexmeasures": {
                "allow_loopback": True,
                "upload_every_s": 5,
                "backfill_spread_s": 0,
                "poll_every_s": 5,
            },
        }
        lines = [
            f"state_dir = {json.dumps(os.fspath(self.state))}",
            f"runtime_dir = {json.dumps(os.fspath(self._runtime))}",
            "claim_window_s = 1e9",
        ]
        for section, keys in sections.items():
            lines += ["", f"[{section}]"]
            lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
        if not trusted:
            lines.insert(lines.index("[clock]") + 1, f"floor = {NEVER_TRUSTED}")
        return "\n".join(lines) + "\n"
