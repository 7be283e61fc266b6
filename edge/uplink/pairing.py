"""Joins the box to an account of FlexMeasures: its site, an asset for each device, the sensors.

Everything the box makes carries an external id, so that it is found again and never made twice, on
the next start as after a lost card. Assets of a box that died can be adopted, with their sensors
and history. The same code serves `make run` and the setup page. Raises EdgeError only; trouble.py
names it for the page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from edge.clock import Clock
from edge.errors import ConfigFault, Refused, Unreachable
from edge.model import Channel, Device, Sensor
from edge.uplink.adoption import adopt, boxes_in, external_id, owner, still_heard
from edge.uplink.flexmeasures import FlexMeasures
from edge.uplink.mapping import SIGNED_UNITS, Feed, turned_for
from edge.uplink.remote import Member, RemoteAsset, RemoteSensor, iso_duration
from edge.uplink.resample import check
from edge.uplink.session import NoRights

ASSET_TYPE = "building"  # "process" and "load" would fall to a scheduler that is broken in 1.0
# In good health a sensor's newest value ages to 10 min 50 s before the next upload. A silence must
# show within fifteen minutes: a meter that reports each minute holds its last slot for four more.
STALE_AFTER = timedelta(minutes=11)


class StillHeard(Refused):
    """The box whose place this one should take sends: somebody must say that it will be off."""


class ClockNotSet(Unreachable):
    """The box does not know the time yet, so it could neither check a certificate nor date data."""


@dataclass(frozen=True, slots=True)
class SiteWish:
    """An existing asset, or a name to find or create; `adopt` takes over what a box left there,
    `although_heard` also where that box sends still."""

    asset_id: int | None = None
    name: str | None = None
    adopt: bool = False
    although_heard: bool = False


@dataclass(frozen=True, slots=True)
class SiteChoice:
    """An asset that can be the site. `left_by`: other boxes that have device assets in it;
    `still_heard`: one of them sends still, so this box would stand beside it."""

    asset: RemoteAsset
    left_by: frozenset[str]
    still_heard: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """What a log-in sees. `may_create`: the user has a role, so it can make a site."""

    version: str
    member: Member
    choices: tuple[SiteChoice, ...]

    @property
    def may_create(self) -> bool:
        return self.member.has_role


@dataclass(frozen=True, slots=True)
class Pairing:
    """Where the box is paired, and the sensors its channels feed."""

    version: str
    member: Member
    site: RemoteAsset
    sensors: tuple[Sensor, ...]
    refused: tuple[str, ...] = ()  # feeds that no sensor could be had for, with the reason


async def look(flexmeasures: FlexMeasures, box: str, clock: Clock) -> Look:
    """Check address, version and log-in, and list the sites to choose from. Changes nothing."""
    if not clock.is_trusted():
        raise ClockNotSet("the box does not know the time yet; it asks the internet for it")
    version = await flexmeasures.server_version()
    member = await flexmeasures.member()
    assets = await flexmeasures.assets()
    choices = []
    for asset in assets:
        if _can_be_site(asset, assets):
            left_by = frozenset(boxes_in(asset, assets) - {box})
            heard = bool(left_by) and await still_heard(
                flexmeasures, asset, assets, left_by, clock.wall_now()
            )
            choices.append(SiteChoice(asset, left_by, heard))
    return Look(version, member, tuple(choices))


async def pair(
    flexmeasures: FlexMeasures,
    box: str,
    wish: SiteWish,
    devices: Sequence[Device],
    feeds: Sequence[Feed],
    channels: Mapping[str, Channel],
    clock: Clock,
    known: Sequence[Sensor] = (),
) -> Pairing:
    """Find or make the site, the assets and the sensors. `box` is the box's lasting identity,
    `known` the mapping so far; calling it again changes nothing. Raises StillHeard."""
    seen = await look(flexmeasures, box, clock)
    site = await _site(flexmeasures, box, wish, seen)
    if wish.adopt:
        is_heard = any(c.still_heard for c in seen.choices if c.asset.asset_id == site.asset_id)
        if is_heard and not wish.although_heard:
            raise StillHeard(f"another box sends to {site.name}; switch it off for good first")
        await adopt(flexmeasures, box, site)
    sensors, refused = await provide(
        flexmeasures, box, site.asset_id, seen.member, devices, feeds, channels, known
    )
    return Pairing(seen.version, seen.member, site, tuple(sensors), tuple(refused))


async def provide(
    flexmeasures: FlexMeasures,
    box: str,
    site_id: int,
    member: Member,
    devices: Sequence[Device],
    feeds: Sequence[Feed],
    channels: Mapping[str, Channel],
    known: Sequence[Sensor] = (),
) -> tuple[list[Sensor], list[str]]:
    """The sensors of these feeds, those that are missing made; and why some could not be had.

    Call it again when devices were added: what is there already is found, not repeated.
    """
    yard = await Yard.open(flexmeasures, box, site_id, member)
    names = {device.key: device.name or device.model or device.device for device in devices}
    kept = {sensor.terms: sensor for sensor in known}
    sensors: list[Sensor] = []
    refused: list[str] = []
    for feed in feeds:
        before = kept.get(feed.terms)
        if before is not None and feed.sensor_id is None and yard.has(before):
            sensors.append(before)
            continue
        try:
            found = await yard.sensor_for(feed, names.get(feed.device_key, feed.device_key))
            check(found, channels)
        except ConfigFault as problem:
            refused += problem.faults
        except SensorUnfit as problem:
            refused.append(str(problem))
        else:
            sensors.append(found)
    await yard.show(sensors)
    return sensors, refused


class SensorUnfit(Refused):
    """An existing sensor cannot take these channels."""


class Yard:
    """The assets and sensors below a site: found by external id and name, made where missing."""

    def __init__(
        self,
        flexmeasures: FlexMeasures,
        box: str,
        site_id: int,
        member: Member,
        assets: list[RemoteAsset],
        sensors: list[RemoteSensor],
        type_id: int,
    ) -> None:
        self._flexmeasures = flexmeasures
        self._box = box
        self._site_id = site_id
        self._member = member
        self._assets = assets
        self._sensors = {sensor.sensor_id: sensor for sensor in sensors}
        self._type_id = type_id

    @classmethod
    async def open(
        cls, flexmeasures: FlexMeasures, box: str, site_id: int, member: Member
    ) -> "Yard":
        return cls(
            flexmeasures,
            box,
            site_id,
            member,
            await flexmeasures.assets(),
            await flexmeasures.sensors(site_id),
            await asset_type(flexmeasures),
        )

    def has(self, sensor: Sensor) -> bool:
        """Whether a sensor that was mapped before is there still, as it was."""
        remote = self._sensors.get(sensor.sensor_id)
        return remote is not None and (remote.unit, remote.event_resolution) == (
            sensor.unit,
            sensor.event_resolution,
        )

    async def asset(
        self, key: str, name: str, attributes: Mapping[str, object] | None = None
    ) -> RemoteAsset:
        """The asset the box keeps for `key`."""
        wanted = external_id(self._box, key)
        for asset in self._assets:
            if asset.external_id == wanted:
                return asset
        made = await self._flexmeasures.create_asset(
            self._free_name(name),
            self._type_id,
            self._member.account_id,
            parent_id=self._site_id,
            external_id=wanted,
            attributes=attributes,
        )
        self._assets.append(made)
        return made

    async def sensor_for(self, feed: Feed, device_name: str) -> Sensor:
        """The sensor of a feed: the chosen one, the one of that name, or a new one."""
        if feed.sensor_id is not None:
            remote = self._sensors.get(feed.sensor_id)
            return _fitting(feed, remote or await self._flexmeasures.sensor(feed.sensor_id))
        asset = await self.asset(feed.device_key, device_name)
        remote = self.named(asset.asset_id, feed.name)
        if remote is not None:
            return _fitting(feed, remote)
        return _fitting(feed, await self.new_sensor(asset, feed), created=True)

    def named(self, asset_id: int, name: str) -> RemoteSensor | None:
        for sensor in self._sensors.values():
            if (sensor.asset_id, sensor.name) == (asset_id, name):
                return sensor
        return None

    async def new_sensor(self, asset: RemoteAsset, feed: Feed) -> RemoteSensor:
        made = await self._flexmeasures.create_sensor(
            asset.asset_id, feed.name, feed.unit, feed.event_resolution, sensor_attributes(feed)
        )
        self._sensors[made.sensor_id] = made
        return made

    async def show(self, sensors: Sequence[Sensor]) -> None:
        """Have FlexMeasures' pages show these: their charts and their status name only sensors
        that were chosen. What a person chose stays."""
        site_is_ours = external_id(self._box, "site")
        for asset in self._assets:
            if asset.shows_sensors or owner(asset)[0] != self._box:
                continue
            whole = asset.external_id == site_is_ours
            shown = [s.sensor_id for s in sensors if whole or s.asset_id == asset.asset_id]
            if shown:
                await self._flexmeasures.update_asset(asset, shown=shown)

    def _free_name(self, name: str) -> str:
        """A name that no sibling bears: FlexMeasures refuses a second one."""
        taken = {asset.name for asset in self._assets if asset.parent_id == self._site_id}
        number, free = 1, name
        while free in taken:
            number += 1
            free = f"{name} {number}"
        return free


def sensor_attributes(feed: Feed) -> dict[str, object]:
    """What a sensor must carry from its first day: a plain user cannot change it later."""
    stale_after = max(STALE_AFTER, 2 * feed.event_resolution + timedelta(minutes=2))
    limits = {
        "staleness_search": {},
        "max_staleness": iso_duration(stale_after),
        "max_future_staleness": "-PT12H",
    }
    sign = {"consumption_is_positive": True} if feed.unit in SIGNED_UNITS else {}
    return {**sign, "status_specs": limits}


async def asset_type(flexmeasures: FlexMeasures) -> int:
    types = await flexmeasures.asset_types()
    if not types:
        raise Refused("this FlexMeasures has no types of asset; its host must add them")
    return types.get(ASSET_TYPE, next(iter(types.values())))


async def _site(flexmeasures: FlexMeasures, box: str, wish: SiteWish, seen: Look) -> RemoteAsset:
    sites = [choice.asset for choice in seen.choices]
    if wish.asset_id is not None:
        for asset in sites:
            if asset.asset_id == wish.asset_id:
                return asset
        raise Refused(f"FlexMeasures shows no site {wish.asset_id} to {flexmeasures.email}")
    ours = external_id(box, "site")
    for asset in sites:
        if asset.parent_id is None and asset.name == wish.name:
            return asset
    for choice in seen.choices:
        if choice.asset.external_id == ours:
            return choice.asset
    if not wish.name:
        raise Refused("choose the site that the box stands in, or give a new one a name")
    try:
        return await flexmeasures.create_asset(
            wish.name, await asset_type(flexmeasures), seen.member.account_id, external_id=ours
        )
    except NoRights:
        raise NoRights(
            f"FlexMeasures does not let {flexmeasures.email} make a site; choose one that is"
            " there, or pair once as an admin of the account"
        ) from None


def _fitting(feed: Feed, remote: RemoteSensor, *, created: bool = False) -> Sensor:
    """The sensor as it is, fed by these terms. Raises SensorUnfit."""
    if remote.event_resolution <= timedelta(0):
        raise SensorUnfit(
            f"sensor {remote.sensor_id} ({remote.name}) is instantaneous; the box needs a sensor"
            " with a resolution"
        )
    return Sensor(
        sensor_id=remote.sensor_id,
        name=remote.name,
        unit=remote.unit,
        event_resolution=remote.event_resolution,
        terms=turned_for(feed, remote.attributes, remote.unit),
        asset_id=remote.asset_id,
        created_by_box=created or "status_specs" in remote.attributes,
    )


def _can_be_site(asset: RemoteAsset, assets: Sequence[RemoteAsset]) -> bool:
    """Whether a person may mean this asset by their home: not a device, not what a box made."""
    if owner(asset)[1] not in ("", "site"):
        return False
    has_children = any(other.parent_id == asset.asset_id for other in assets)
    return asset.parent_id is None or has_children or asset.type_name == ASSET_TYPE
