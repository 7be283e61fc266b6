"""One HTTP exchange with FlexMeasures, and what can go wrong with it.

Whatever speaks HTTP (wire.py) is imported with the first exchange: it is a third of what the agent
would read in before it is ready. Everything that goes wrong comes out as one of the errors below,
with the sentence a person reads; bodies of answers never do, but for FlexMeasures' message.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from edge.certificates import import_aiohttp
from edge.errors import Refused, Unreachable
from edge.later import later
from edge.uplink.address import Address
from edge.uplink.verdict import Answer

if TYPE_CHECKING:
    from edge.uplink.wire import Wire

CONNECT_WITHIN = timedelta(seconds=15)
ANSWER_WITHIN = timedelta(seconds=60)  # a re-post of 200 values took a loaded server 8 s


class Away(Unreachable):
    """FlexMeasures gave no answer, or said that it cannot now.

    `may_have_arrived`: the request left, so ask what is stored before offering it again.
    `retry_after`: how long it asked to be left alone. `status`: of its answer, None without one.
    """

    def __init__(
        self,
        message: str,
        *,
        may_have_arrived: bool = False,
        retry_after: timedelta | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.may_have_arrived = may_have_arrived
        self.retry_after = retry_after
        self.status = status


class NoSuchHost(Away):
    """The name of the server leads nowhere; so it also looks while the internet is away."""


class BadCertificate(Refused):
    """Whoever answers cannot prove to be the server."""


class Connection:
    """A session with one server, opened when something is first asked; close() it."""

    def __init__(
        self,
        address: Address,
        *,
        connect_within: timedelta = CONNECT_WITHIN,
        answer_within: timedelta = ANSWER_WITHIN,
    ) -> None:
        self.address = address
        self._connect_within = connect_within
        self._answer_within = answer_within
        self._wire: Wire | None = None
        self._closed = False

    async def close(self) -> None:
        self._closed = True
        if self._wire is not None:
            await self._wire.close()

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        token: str | None = None,
    ) -> Answer:
        """Send one request and read its answer, whatever its status.

        Raises Away, NoSuchHost, BadCertificate, AddressRefused, NotFlexMeasures (a redirect or an
        endless answer).
        """
        if self._wire is None:
            wire = await later(_import_wire)
            if self._closed:
                raise Away(f"{self.address.host} cut the connection")
            self._wire = self._wire or wire(self.address, self._connect_within, self._answer_within)
        return await self._wire.exchange(method, path, query=query, body=body, token=token)


def _import_wire() -> "type[Wire]":
    import_aiohttp()
    from edge.uplink.wire import Wire

    return Wire
