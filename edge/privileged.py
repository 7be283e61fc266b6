"""Asking for an act that needs root: one line of JSON to the box's door, one line back.

On a machine that is no box there is no door, and nobody to ask (systemd/README.md lists the acts).
"""

import asyncio
import json
from pathlib import Path
from typing import Any

from edge.errors import Refused, Unreachable

DOOR = Path("/run/edge-doors/door")
DOOR_WITHIN_S = 100.0  # the door's own limit for an act is 90 s


class Privileged:
    """The acts root carries out for the agent."""

    def __init__(self, door: Path = DOOR) -> None:
        self._door = door

    def is_there(self) -> bool:
        return self._door.exists()

    async def act(self, name: str, **wanted: object) -> dict[str, Any]:
        """What the act answers. Raises Unreachable or Refused."""
        try:
            async with asyncio.timeout(DOOR_WITHIN_S):
                reader, writer = await asyncio.open_unix_connection(self._door)
                try:
                    writer.write(json.dumps({"act": name, **wanted}).encode() + b"\n")
                    await writer.drain()
                    answer = json.loads(await reader.readline())
                finally:
                    writer.close()
        except (OSError, ValueError, TimeoutError) as problem:
            raise Unreachable(f"the door does not answer ({type(problem).__name__})") from problem
        if not isinstance(answer, dict) or not answer.pop("ok", False):
            said = answer.get("text", "") if isinstance(answer, dict) else ""
            raise Refused(str(said) or "the door said no")
        return answer
