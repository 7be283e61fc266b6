"""What FlexMeasures keeps, as its API tells it: assets, sensors, series. Pure.

Reading raises NotFlexMeasures where a field is missing or of another kind, never KeyError.
"""

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from edge.errors import Malformed

_DURATION = re.compile(
    r"(?P<minus>-?)P(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?"
)
_SECOND = timedelta(seconds=1)


class NotFlexMeasures(Malformed):
    """Somebody answers, but not as FlexMeasures does."""


@dataclass(frozen=True, slots=True)
class RemoteAsset:
    """An asset of FlexMeasures; `external_id` is what its maker calls it. `shows_sensors`: a
    choice was made of what its pages (charts and status) show; without one they show nothing.
    Flex-model and flex-context are told only where one asset is asked for."""

    asset_id: int
    name: str
    type_name: str = ""
    parent_id: int | None = None
    external_id: str | None = None
    attributes: dict[str, object] = field(default_factory=dict)
    shows_sensors: bool = False
    flex_model: dict[str, object] = field(default_factory=dict)
    flex_context: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RemoteSensor:
    """A sensor of FlexMeasures."""

    sensor_id: int
    asset_id: int
    name: str
    unit: str
    event_resolution: timedelta
    attributes: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Series:
    """Values at equal distances from `start`; None where there is none."""

    start: datetime
    resolution: timedelta
    values: tuple[float | None, ...]

    def points(self) -> dict[datetime, float]:
        """Each value that there is, by the start of its interval."""
        return {
            self.start + number * self.resolution: value
            for number, value in enumerate(self.values)
            if value is not None
        }


@dataclass(frozen=True, slots=True)
class Member:
    """The user we are, and the account whose assets we see. `has_role`: more than a box needs."""

    user_id: int
    account_id: int
    has_role: bool = False


def asset_from(content: object) -> RemoteAsset:
    told = _object(content)
    kind = told.get("generic_asset_type")
    return RemoteAsset(
        asset_id=whole(told, "id"),
        name=str(told.get("name") or ""),
        type_name=str(kind.get("name") or "") if isinstance(kind, dict) else "",
        parent_id=_whole_or_none(told.get("parent_asset_id")),
        external_id=str(told["external_id"]) if told.get("external_id") else None,
        attributes=_attributes(told.get("attributes")),
        shows_sensors=told.get("sensors_to_show") not in (None, "", "[]", []),
        flex_model=_attributes(told.get("flex_model")),
        flex_context=_attributes(told.get("flex_context")),
    )


def sensor_from(content: object) -> RemoteSensor:
    told = _object(content)
    return RemoteSensor(
        sensor_id=whole(told, "id"),
        asset_id=whole(told, "generic_asset_id"),
        name=str(told.get("name") or ""),
        unit=str(told.get("unit") or ""),
        event_resolution=duration_from(str(told.get("event_resolution") or "")),
        attributes=_attributes(told.get("attributes")),
    )


def series_from(content: object) -> Series:
    """Without a stated resolution (schedules) it follows from duration and count."""
    told = _object(content)
    values = told.get("values")
    if not isinstance(values, list):
        raise NotFlexMeasures("a series without values", str(told))
    numbers = tuple(_number_or_none(value) for value in values)
    resolution = told.get("resolution")
    if resolution:
        step = duration_from(str(resolution))
    else:
        step = duration_from(str(told.get("duration") or "")) / max(len(numbers), 1)
    return Series(moment_from(told.get("start")), step, numbers)


def whole(content: object, name: str) -> int:
    """The whole number called `name` in a JSON object."""
    number = _whole_or_none(_object(content).get(name))
    if number is None:
        raise NotFlexMeasures(f"FlexMeasures' answer has no {name}", str(content))
    return number


def moment_from(content: object) -> datetime:
    try:
        moment = datetime.fromisoformat(str(content))
    except ValueError:
        raise NotFlexMeasures("FlexMeasures' answer has no time", str(content)) from None
    if moment.tzinfo is None:
        raise NotFlexMeasures("FlexMeasures' time has no zone", str(content))
    return moment.astimezone(UTC)


def duration_from(text: str) -> timedelta:
    """An ISO 8601 duration without months or years."""
    found = _DURATION.fullmatch(text)
    if found is None or text.endswith(("P", "T")):
        raise NotFlexMeasures("FlexMeasures' duration cannot be read", text)
    parts = {
        unit: float(found[unit] or 0) for unit in ("weeks", "days", "hours", "minutes", "seconds")
    }
    span = timedelta(**parts)
    return -span if found["minus"] else span


def iso_duration(span: timedelta) -> str:
    """`span`, at least zero and in whole seconds, as FlexMeasures reads it."""
    minutes, seconds = divmod(span // _SECOND, 60)
    return f"PT{minutes}M" if not seconds else f"PT{minutes}M{seconds}S"


def _object(content: object) -> dict[str, object]:
    if not isinstance(content, dict):
        raise NotFlexMeasures("FlexMeasures' answer cannot be read", str(content))
    return content


def _attributes(content: object) -> dict[str, object]:
    """Attributes, flex-model and flex-context travel as strings of JSON."""
    if isinstance(content, str):
        try:
            content = json.loads(content)
        except ValueError:
            return {}
    return dict(content) if isinstance(content, dict) else {}


def _whole_or_none(content: object) -> int | None:
    return content if isinstance(content, int) and not isinstance(content, bool) else None


def _number_or_none(content: object) -> float | None:
    if isinstance(content, int | float) and not isinstance(content, bool):
        return float(content)
    return None
