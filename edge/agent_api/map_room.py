"""The page's room for the map: which channels feed which sensors, and what stays in the house.

A row is a sensor that is fed, one the box proposes, or one the person left out. Rows left out are
remembered by their channels, so that they are proposed no more.
"""

from collections.abc import Callable, Mapping, Sequence

from edge.agent_api import web
from edge.agent_api.door import answer, asked
from edge.agent_api.names import clamp_name, display_names
from edge.agent_api.refusals import NotAllowed
from edge.clock import Clock
from edge.contract.setup import (
    ChannelView,
    MapRequest,
    MapRow,
    MapView,
    SensorView,
    TermView,
)
from edge.documents import Documents
from edge.intake import ReadingIntake
from edge.model import Channel, Device, Direction, Kind, Quantity, Sensor, Term
from edge.overlap import seen_twice
from edge.uplink.account import Account
from edge.uplink.mapping import EVENT_RESOLUTION, Feed, default_mapping

_LEFT_OUT = "map.left_out"
_SENSORS_REMEMBERED_MS = 60_000
_POWER_UNITS = {"W", "kW", "MW"}
_VOLUME_UNITS = {"m³", "m3"}

type Devices = Callable[[], Sequence[Device]]


class MapRoom:
    """Routes over uplink/account.py and the intake's channels."""

    def __init__(
        self,
        account: Account,
        intake: ReadingIntake,
        devices: Devices,
        documents: Documents,
        clock: Clock,
    ) -> None:
        self._account = account
        self._intake = intake
        self._devices = devices
        self._documents = documents
        self._clock = clock
        self._sensors: tuple[float, list[SensorView]] | None = None

    def routes(self) -> list[web.Route]:
        return [
            web.get("/map", self._show),
            web.get("/map/values", self._values),
            web.put("/map", self._keep),
        ]

    async def rows(self) -> list[MapRow]:
        """Every row: those that are fed first, then proposals, then what stays at home."""
        fed = [self._fed(sensor) for sensor in self._account.sensors()]
        taken = {term.channel_key for row in fed for term in row.terms}
        left_out = [tuple(terms) for terms in await self._documents.get(_LEFT_OUT) or []]
        others: list[MapRow] = []
        for feed in default_mapping(self._intake.channels().values()):
            keys = tuple(term.channel_key for term in feed.terms)
            if not taken.intersection(keys):
                others.append(self._proposed(feed, send=keys not in left_out))
        return fed + sorted(others, key=lambda row: not row.send)

    def is_turned(self, sensor: Sensor) -> bool:
        """Whether the server counts this sensor the other way round than the house does."""
        return _is_turned(sensor, self._intake.channels())

    async def _show(self, _: web.Request) -> web.Response:
        if self._account.paired is None:
            raise NotAllowed("pair_first", 409)
        names = self._names()
        channels = [
            self._channel(channel, names)
            for _, channel in sorted(self._intake.channels().items())
            if channel.kind is not Kind.COUNTER or channel.quantity is not Quantity.PULSES
        ]
        return answer(
            MapView(rows=await self.rows(), channels=channels, sensors=await self._known_sensors())
        )

    async def _values(self, _: web.Request) -> web.Response:
        return answer(MapView(rows=await self.rows(), channels=[], sensors=[]))

    async def _keep(self, request: web.Request) -> web.Response:
        wanted = await asked(request, MapRequest)
        if not wanted.twice:
            self._refuse_twice(wanted)
        known = {row.ident: row for row in await self.rows()}
        feeds = [self._feed(row, known.get(row.ident)) for row in wanted.rows if row.send]
        left = [[t.channel_key for t in row.terms] for row in wanted.rows if not row.send]
        await self._documents.put(_LEFT_OUT, left)
        await self._account.map([feed for feed in feeds if feed.terms])
        self._sensors = None
        if self._account.refused:
            raise NotAllowed("map_refused", 409, "; ".join(self._account.refused)[:1000])
        return web.Response(status=204)

    def _refuse_twice(self, wanted: MapRequest) -> None:
        """One meter by two paths counts double; only who insists gets it."""
        chosen = [term.channel_key for row in wanted.rows if row.send for term in row.terms]
        channels = self._intake.channels()
        if pairs := seen_twice(chosen, channels.values()):
            names = self._names()
            first, second = (channels[key] for key in pairs[0])
            told = [f"{names.get(c.device_key, c.device)} ({c.family})" for c in (first, second)]
            raise NotAllowed("map_twice", 409, " = ".join(told)[:1000])

    async def _known_sensors(self) -> list[SensorView]:
        """The sensors below the site; asked of the server at most once a minute."""
        now_ms = self._clock.boottime_ms()
        if self._sensors is None or now_ms - self._sensors[0] > _SENSORS_REMEMBERED_MS:
            found = [
                SensorView(
                    sensor_id=each.sensor_id,
                    name=each.name,
                    unit=each.unit,
                    resolution_s=int(each.event_resolution.total_seconds()),
                    refused=_why_not(each.unit, each.event_resolution.total_seconds()),
                )
                for each in await self._account.sensors_of_site()
            ]
            self._sensors = (now_ms, found)
        return self._sensors[1]

    # --- rows -------------------------------------------------------------------------------------

    def _fed(self, sensor: Sensor) -> MapRow:
        turned = self.is_turned(sensor)
        terms = [
            TermView(channel_key=t.channel_key, sign=1 if (t.sign > 0) != turned else -1)
            for t in sensor.terms
        ]
        return self._row(f"sensor{sensor.sensor_id}", sensor.name, True, sensor.sensor_id, terms)

    def _proposed(self, feed: Feed, *, send: bool) -> MapRow:
        terms = [
            TermView(channel_key=t.channel_key, sign=1 if t.sign > 0 else -1) for t in feed.terms
        ]
        return self._row(f"feed:{feed.device_key}:{feed.name}", feed.name, send, None, terms)

    def _row(
        self, ident: str, name: str, send: bool, sensor_id: int | None, terms: list[TermView]
    ) -> MapRow:
        first = self._intake.channels().get(terms[0].channel_key) if terms else None
        clamps = {term.channel_key.rsplit("/", 2)[0] for term in terms}  # both ways of one are one
        return MapRow(
            ident=ident[:200],
            name=(name if len(clamps) > 1 else self._title(first, name))[:200],
            send=send,
            sensor_id=sensor_id,
            terms=terms,
            quantity=str(first.quantity) if first else "",
            unit=first.unit if first else "",
            value=self._value(terms),
        )

    def _title(self, first: Channel | None, otherwise: str) -> str:
        """What a person calls it: the device, and the clamp where it has several."""
        if first is None:
            return otherwise
        device = self._names().get(first.device_key, first.device)
        return f"{device} {clamp_name(first, device)}".strip()

    def _value(self, terms: Sequence[TermView]) -> float | None:
        total = 0.0
        for term in terms:
            latest = self._intake.latest(term.channel_key)
            if latest is None:
                return None
            total += term.sign * latest.value
        return total if terms else None

    def _feed(self, row: MapRow, before: MapRow | None) -> Feed:
        """The sensor to be of a row. Counters that stand in for power come with their channel."""
        channels = self._intake.channels()
        first = channels.get(row.terms[0].channel_key) if row.terms else None
        usual = {
            term.channel_key: term
            for feed in default_mapping(channels.values())
            for term in feed.terms
        }
        proposal = self._usual_feed(row)
        renamed = before is None or row.name != before.name
        return Feed(
            device_key=first.device_key if first else "",
            name=proposal.name if proposal and not renamed else row.name,
            unit=proposal.unit if proposal else _unit_for(first),
            event_resolution=proposal.event_resolution if proposal else EVENT_RESOLUTION,
            terms=tuple(
                Term(
                    t.channel_key,
                    t.sign,
                    usual[t.channel_key].fallback_key if t.channel_key in usual else None,
                )
                for t in row.terms
                if t.channel_key in channels
            ),
            sensor_id=row.sensor_id,
        )

    def _usual_feed(self, row: MapRow) -> Feed | None:
        keys = {term.channel_key for term in row.terms}
        for feed in default_mapping(self._intake.channels().values()):
            if {term.channel_key for term in feed.terms} == keys:
                return feed
        return None

    def _channel(self, channel: Channel, names: Mapping[str, str]) -> ChannelView:
        latest = self._intake.latest(channel.key)
        return ChannelView(
            key=channel.key,
            device=names.get(channel.device_key, channel.device),
            name=clamp_name(channel, names.get(channel.device_key, "")),
            quantity=str(channel.quantity),
            unit=channel.unit,
            direction=str(channel.direction),
            value=latest.value if latest else None,
            age_s=latest.age.total_seconds() if latest else None,
            repeats=channel.repeats in self._intake.channels(),
        )

    def _names(self) -> dict[str, str]:
        return display_names(self._devices())


def _is_turned(sensor: Sensor, channels: Mapping[str, Channel]) -> bool:
    """Whether the server counts the other way round: its signs are then all opposite to ours."""
    expected = [
        -1 if known.direction is Direction.EXPORT else 1
        for term in sensor.terms
        if (known := channels.get(term.channel_key)) is not None
    ]
    found = [term.sign for term in sensor.terms if term.channel_key in channels]
    return bool(found) and not sensor.created_by_box and found == [-sign for sign in expected]


def _unit_for(channel: Channel | None) -> str:
    if channel is None or channel.unit in ("W", "kWh"):
        return "kW"
    return channel.unit or "dimensionless"


def _why_not(unit: str, resolution_s: float) -> str | None:
    """Why nothing of a house can feed such a sensor."""
    if resolution_s <= 0:
        return "resolution"
    return None if unit in _POWER_UNITS | _VOLUME_UNITS | {"kWh", "Wh", "MWh"} else "unit"
