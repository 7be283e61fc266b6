"""Whose an asset is, whether its box still lives, and taking over what a dead one left.

Every asset the box makes carries an external id with the box's own identity, so that it is found
again and never made twice. Two boxes may share a site: only what a silent one left is offered.
"""

from collections.abc import Sequence, Set
from datetime import datetime, timedelta

from edge.uplink.flexmeasures import FlexMeasures
from edge.uplink.remote import RemoteAsset

HEARD_WITHIN = timedelta(minutes=30)  # a box that lives sends every five
_ASKED_MAX = 4  # sensors of a silent box; its heartbeat comes first
_HEARTBEAT = "heartbeat"
_EXTERNAL = "edge"


def external_id(box: str, key: str) -> str:
    """What FlexMeasures knows an asset of this box by; unique in the account."""
    return f"{_EXTERNAL}:{box}:{key}"


def owner(asset: RemoteAsset) -> tuple[str, str]:
    """Which box keeps this asset, and for which key; empty where none does."""
    kind, _, rest = (asset.external_id or "").partition(":")
    box, _, key = rest.partition(":")
    return (box, key) if kind == _EXTERNAL and key else ("", "")


def boxes_in(site: RemoteAsset, assets: Sequence[RemoteAsset]) -> set[str]:
    """The boxes that keep device assets right below this asset."""
    below = [asset for asset in assets if asset.parent_id == site.asset_id]
    return {whose for asset in below if (whose := owner(asset)[0])}


async def still_heard(
    flexmeasures: FlexMeasures,
    site: RemoteAsset,
    assets: Sequence[RemoteAsset],
    boxes: Set[str],
    now: datetime,
) -> bool:
    """Whether one of these boxes sent something lately: its heartbeat, or else its readings."""
    theirs = {asset.asset_id for asset in assets if owner(asset)[0] in boxes}
    found = [s for s in await flexmeasures.sensors(site.asset_id) if s.asset_id in theirs]
    found.sort(key=lambda sensor: sensor.name != _HEARTBEAT)
    for sensor in found[:_ASKED_MAX]:
        since = now - HEARD_WITHIN - sensor.event_resolution
        series = await flexmeasures.data(sensor.sensor_id, since, now, "user", sensor.unit)
        if series is not None and any(start >= since for start in series.points()):
            return True
    return False


async def adopt(flexmeasures: FlexMeasures, box: str, site: RemoteAsset) -> None:
    """Make what other boxes left in this site ours; what we have already stays theirs."""
    assets = await flexmeasures.assets()
    ours = {asset.external_id for asset in assets}
    for asset in [site, *(a for a in assets if a.parent_id == site.asset_id)]:
        whose, key = owner(asset)
        wanted = external_id(box, key)
        if whose and whose != box and wanted not in ours:
            await flexmeasures.update_asset(asset, external_id=wanted)
