"""The rules of address.py at the moment they matter: when a name has become addresses."""

import socket
from ipaddress import ip_address

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from edge.uplink.address import AddressRefused, Reach, is_own, kind_of, why_not


class Doorman(AbstractResolver):
    """Resolves names for aiohttp and lets only permitted addresses through: what was checked is
    what is connected to, so a name cannot change its mind in between."""

    def __init__(self, reach: Reach, resolver: AbstractResolver | None = None) -> None:
        self._reach = reach
        self._resolver = resolver or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises OSError where there is no such host, AddressRefused where none is permitted."""
        found = await self._resolver.resolve(host, port, family)
        permitted, reasons = [], []
        for result in found:
            address = ip_address(result["host"].partition("%")[0])
            reason = why_not(address, self._reach)
            if reason is None and not address.is_loopback and is_own(address):
                reason = "is the box itself"
            if reason is None:
                permitted.append(result)
            else:
                reasons.append(reason)
        if not permitted:
            reason = reasons[0] if reasons else "has no address"
            raise AddressRefused(f"{host} {reason}", kind_of(reason))
        return permitted

    async def close(self) -> None:
        await self._resolver.close()
