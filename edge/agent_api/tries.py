"""How often somebody may try a password: per address, and the whole network together.

Counted on CLOCK_BOOTTIME, in memory: a restart of the agent forgives, a new page process does not.
"""

import ipaddress
from collections import deque
from datetime import timedelta

from edge.agent_api.refusals import TooManyTries
from edge.clock import MILLISECOND, Clock

_ADDRESSES_MAX = 1000  # who fills this table is stopped by the limit for all


class Tries:
    """Two sliding windows; each limit is (tries, within)."""

    def __init__(
        self, clock: Clock, per_address: tuple[int, timedelta], in_all: tuple[int, timedelta]
    ) -> None:
        self._clock = clock
        self._per_address = per_address
        self._in_all = in_all
        self._by_address: dict[str, deque[int]] = {}
        self._all: deque[int] = deque()

    def spend(self, address: str) -> None:
        """Count one try before it is made. Raises TooManyTries."""
        now_ms = self._clock.boottime_ms()
        mine = self._by_address.get(_neighbourhood(address), deque())
        wait_ms = max(
            _wait_ms(mine, now_ms, *self._per_address), _wait_ms(self._all, now_ms, *self._in_all)
        )
        if wait_ms > 0:
            raise TooManyTries(-(-wait_ms // 1000))
        if len(self._by_address) >= _ADDRESSES_MAX:
            self._by_address.pop(next(iter(self._by_address)))
        mine.append(now_ms)
        self._by_address[_neighbourhood(address)] = mine
        self._all.append(now_ms)

    def forget(self, address: str) -> None:
        """The password was right: tries of this address no longer count against anybody."""
        for tried_ms in self._by_address.pop(_neighbourhood(address), ()):
            if tried_ms in self._all:
                self._all.remove(tried_ms)


def _wait_ms(tried: deque[int], now_ms: int, most: int, within: timedelta) -> int:
    within_ms = within // MILLISECOND
    while tried and tried[0] <= now_ms - within_ms:
        tried.popleft()
    return tried[0] + within_ms - now_ms if len(tried) >= most else 0


def _neighbourhood(address: str) -> str:
    """One subscriber: an IPv4 address, or the /64 an IPv6 host may choose its address from."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
