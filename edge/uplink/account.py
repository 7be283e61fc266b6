"""The box's tie with one FlexMeasures account: paired or not, as whom, and what feeds what.

Owns two documents (pairing, mapping) and one secret. What changes takes effect at once: DueSlots
and Shipping ask server() and sensors() each round.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from edge.clock import Clock
from edge.credentials import Credentials
from edge.documents import Documents
from edge.errors import Malformed, Refused
from edge.model import Channel, Device, Sensor
from edge.uplink import pairing
from edge.uplink.address import Address, Reach, parse_address
from edge.uplink.flexmeasures import FlexMeasures
from edge.uplink.mapping import Feed, default_mapping, moved, sensors_from_json, sensors_to_json
from edge.uplink.pairing import Look, Pairing, SiteWish
from edge.uplink.remote import RemoteSensor

log = logging.getLogger(__name__)

PASSWORD = "flexmeasures.password"  # noqa: S105 – the name it is kept under
_PAIRING = "pairing"
_MAPPING = "mapping"


@dataclass(frozen=True, slots=True)
class LogIn:
    """Where, as whom, and with which password; never stored as a whole, never shown."""

    address: Address
    email: str
    password: str

    def __repr__(self) -> str:
        return f"LogIn({self.address.base}, {self.email})"


@dataclass(frozen=True, slots=True)
class Paired:
    """The account this box is paired with."""

    url: str
    email: str
    private: bool
    site_asset_id: int
    site: str
    server_version: str
    since: str


class Account:
    """At most one account at a time. `box` is the box's lasting identity."""

    def __init__(
        self,
        box: str,
        settings: Documents,
        credentials: Credentials,
        clock: Clock,
        channels: Callable[[], Mapping[str, Channel]],
        devices: Callable[[], Sequence[Device]],
        forget_slots: Callable[[], Awaitable[None]],
        *,
        allow_loopback: bool = False,
    ) -> None:
        self.box = box
        self.paired: Paired | None = None
        self._typed: str | None = None  # the server somebody wants to pair with
        self.refused: tuple[str, ...] = ()  # feeds that no sensor could be had for, and why
        self._settings = settings
        self._credentials = credentials
        self._clock = clock
        self._channels = channels
        self._devices = devices
        self._forget_slots = forget_slots
        self._allow_loopback = allow_loopback
        self._sensors: tuple[Sensor, ...] = ()
        self.on_mapped: Callable[[frozenset[str]], Awaitable[None]] = _nobody  # fed for the first
        self._client: FlexMeasures | None = None
        self._changed = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()

    async def restore(self) -> None:
        """Know the pairing and the mapping of earlier runs again."""
        try:
            kept = await self._settings.get(_PAIRING)
            self.paired = Paired(**kept) if kept else None
            self._sensors = tuple(sensors_from_json(await self._settings.get(_MAPPING)))
        except (TypeError, Malformed):  # put there by a damaged backup: the box starts all the same
            log.exception("the pairing cannot be read; pair again")
            self.paired, self._sensors = None, ()

    async def run(self) -> None:
        """Hold the client of the account for as long as it is paired; a part for keep_running."""
        self._changed.clear()
        if self.paired is None:
            await self._changed.wait()
            return
        async with self._open(self._kept_log_in(self.paired)) as self._client:
            try:
                await self._changed.wait()
            finally:
                self._client = None

    def server(self) -> FlexMeasures | None:
        """The client to ship with; None while not paired."""
        return self._client

    def site_id(self) -> int | None:
        """The asset below which everything of this box lies; None while not paired."""
        return self.paired.site_asset_id if self.paired else None

    def sensors(self) -> Sequence[Sensor]:
        """The sensors that are fed now."""
        return self._sensors

    def log_in(self, url: str, email: str, password: str, *, allow_private: bool) -> LogIn:
        """What a person typed. Raises AddressRefused."""
        reach = Reach(private=allow_private, loopback=self._allow_loopback)
        address = parse_address(url, reach)
        self._typed = address.base
        return LogIn(address, email.strip(), password)

    def time_source(self) -> str | None:
        """The server that may be asked for the time where time servers are blocked: pairing itself
        needs the time."""
        return self.paired.url if self.paired else self._typed

    async def look(self, log_in: LogIn) -> Look:
        """What that log-in sees. Changes nothing. Raises what pairing.trouble_of names."""
        async with self._open(log_in) as client:
            return await pairing.look(client, self.box, self._clock)

    async def pair(self, log_in: LogIn, wish: SiteWish) -> Pairing:
        """Pair with that account, in place of any earlier one."""
        async with self._one_at_a_time, self._open(log_in) as client:
            made = await pairing.pair(
                client,
                self.box,
                wish,
                self._devices(),
                feeds=(),
                channels=self._channels(),
                clock=self._clock,
            )
            before = self.paired
            self.paired = Paired(
                url=log_in.address.base,
                email=log_in.email,
                private=log_in.address.reach.private,
                site_asset_id=made.site.asset_id,
                site=made.site.name,
                server_version=made.version,
                since=_text(self._clock.wall_now()),
            )
            if before is None or _place(before) != _place(self.paired):
                await self._leave()
            self._credentials.put(PASSWORD, log_in.password)
            await self._settings.put(_PAIRING, _as_document(self.paired))
        self._changed.set()
        return made

    async def unpair(self) -> None:
        """Forget the account, its password and the mapping. The readings stay, for the next one."""
        self.paired = None
        await self._settings.delete(_PAIRING)
        self._credentials.delete(PASSWORD)
        await self._leave()
        self._changed.set()

    async def sensors_of_site(self) -> Sequence[RemoteSensor]:
        """Every sensor below the site, to choose from. Raises Refused while not paired."""
        if self.paired is None:
            raise Refused("pair the box with FlexMeasures first")
        async with self._open(self._kept_log_in(self.paired)) as client:
            return await client.sensors(self.paired.site_asset_id)

    async def price_sensors(self) -> Sequence[RemoteSensor]:
        """Every energy price that the user may read. Raises Refused while not paired."""
        if self.paired is None:
            raise Refused("pair the box with FlexMeasures first")
        async with self._open(self._kept_log_in(self.paired)) as client:
            return await client.price_sensors()

    async def map(self, feeds: Iterable[Feed]) -> Sequence[Sensor]:
        """Feed exactly these from now on; sensors that are missing are made.

        Raises Refused while not paired; single feeds that cannot be are in `refused`.
        """
        if self.paired is None:
            raise Refused("pair the box with FlexMeasures first")
        async with self._one_at_a_time, self._open(self._kept_log_in(self.paired)) as client:
            found, refused = await pairing.provide(
                client,
                self.box,
                self.paired.site_asset_id,
                await client.member(),
                self._devices(),
                list(feeds),
                self._channels(),
                self._sensors,
            )
            await self._keep_mapping(found)
            self.refused = tuple(refused)
        return self._sensors

    async def map_by_default(self) -> Sequence[Sensor]:
        """Feed every meter as default_mapping says."""
        return await self.map(default_mapping(self._channels().values()))

    async def move_feeds(self, device_key: str, old_key: str) -> None:
        """What a device fed is fed by the one whose place it took; both are the same from now."""
        async with self._one_at_a_time:
            await self._keep_mapping(moved(self._sensors, device_key, old_key))

    # --- inside -----------------------------------------------------------------------------------

    def _open(self, log_in: LogIn) -> FlexMeasures:
        return FlexMeasures(log_in.address, log_in.email, lambda: log_in.password, self._clock)

    def _kept_log_in(self, paired: Paired) -> LogIn:
        password = self._credentials.get(PASSWORD) or ""
        return self.log_in(paired.url, paired.email, password, allow_private=paired.private)

    async def _leave(self) -> None:
        """Slots of sensors elsewhere mean nothing here; they are made again from the readings."""
        await self._keep_mapping(())
        await self._forget_slots()

    async def _keep_mapping(self, sensors: Sequence[Sensor]) -> None:
        await self._settings.put(_MAPPING, sensors_to_json(sensors))
        before, self._sensors = self._sensors, tuple(sensors)
        if newly := _keys(self._sensors) - _keys(before):
            await self.on_mapped(newly)


async def _nobody(_: frozenset[str]) -> None:
    """Nobody wants to know."""


def _keys(sensors: Iterable[Sensor]) -> frozenset[str]:
    return frozenset(term.channel_key for sensor in sensors for term in sensor.terms)


def _place(paired: Paired) -> tuple[str, int]:
    return paired.url, paired.site_asset_id


def _as_document(paired: Paired) -> dict[str, Any]:
    return {name: getattr(paired, name) for name in Paired.__slots__}


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
