"""What the box shows to anybody: remembered for a moment, since every request needs its hosts."""

import ipaddress
import time

from edge.contract.page import Front
from edge.errors import EdgeError
from edge.setup_page.agent_link import AgentLink, Caller

REMEMBER_S = 5.0  # a changed address of the box is known after this long


class Fronts:
    """The latest Front."""

    def __init__(self, link: AgentLink) -> None:
        self._link = link
        self._front: Front | None = None
        self._asked_s = 0.0

    async def current(self) -> Front:
        """At most REMEMBER_S old. Raises what AgentLink raises."""
        if self._front is None or time.monotonic() - self._asked_s > REMEMBER_S:
            self._front = await self._link.get("/front", Front, Caller())
            self._asked_s = time.monotonic()
        return self._front

    def forget(self) -> None:
        """The box has just changed: ask anew."""
        self._asked_s = -REMEMBER_S

    async def is_ours(self, host: str) -> bool:
        """Whether `host` names this box. While the agent is away the last known names count; a
        page that never knew them has nothing to show but that it is starting."""
        try:
            front = await self.current()
        except EdgeError:
            if self._front is None:
                return True
            front = self._front
        return _plain(host) in front.hosts


def _plain(host: str) -> str:
    """An IPv6 address in its one canonical form, anything else as it is."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return host
