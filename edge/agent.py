"""The composition root: builds every part, opens the one TaskGroup, stops it in order.

Nothing else creates tasks. A part that fails is restarted by keep_running(); SIGTERM ends all of
them and commits what was read.
"""

import asyncio
import logging
import signal
import sys
from pathlib import Path

from aiohttp import web

from edge.agent_api.door import application, serve
from edge.clock import SystemClock
from edge.config import Config
from edge.credentials import Credentials, machine_key
from edge.errors import ConfigFault
from edge.health import Health


def main(config: Config) -> int:
    """Run the agent until it is told to stop; the exit code."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(name)s: %(message)s")
    asyncio.run(_until_stopped(Agent(config)))
    return 0


async def _until_stopped(agent: "Agent") -> None:
    loop = asyncio.get_running_loop()
    running = asyncio.current_task()
    if running is None:
        return
    for stop in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(stop, running.cancel)
    try:
        await agent.run()
    except asyncio.CancelledError:
        logging.getLogger(__name__).info("stopped")


class Agent:
    """Every part of the box, and how they are joined."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.clock = SystemClock(config.clock.floor, trust_always=config.clock.trust_always)
        self.health = Health(self.clock)
        for folder in (config.state_dir, config.runtime_dir):
            _make_folder(folder)
        self.credentials = Credentials(config.state_dir / "credentials.json", machine_key())

    async def run(self) -> None:
        """Run every part until cancelled."""
        door = await serve(self.config.own_socket, application(self._own_routes()), mode=0o600)
        try:
            await asyncio.Event().wait()
        finally:
            await door.cleanup()

    def _own_routes(self) -> list[web.RouteDef]:
        return []


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as problem:
        raise ConfigFault(f"{folder} cannot be made: {problem.strerror}") from problem
