"""The box's client of FlexMeasures: the only room that knows its URLs.

Asks, and says what the answers mean (verdict.py); keeps nothing but a token in memory. Never logs,
never repeats a secret. Raises Away (and NoSuchHost), Refused (LogInRefused, NoRights,
SensorRefused, AddressRefused, BadCertificate) and NotFlexMeasures; connection.py says when.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from edge.clock import Clock
from edge.errors import Refused
from edge.model import Sensor
from edge.store.outbox import OutboxSlot, Verdict
from edge.uplink.address import Address
from edge.uplink.connection import Away, Connection, NoSuchHost
from edge.uplink.pacing import Allowance
from edge.uplink.remote import (
    Member,
    NotFlexMeasures,
    RemoteAsset,
    RemoteSensor,
    Series,
    asset_from,
    iso_duration,
    sensor_from,
    series_from,
    whole,
)
from edge.uplink.session import VERSION_HEADER, LogInRefused, NoRights, PasswordSource, Session
from edge.uplink.verdict import (
    Answer,
    JobState,
    Meaning,
    is_under_way,
    job_state,
    meaning_of,
    reason_for,
)
from edge.uplink.versions import VersionRefused, is_supported, supported_versions

__all__ = [
    "Away",
    "FlexMeasures",
    "LogInRefused",
    "NoRights",
    "NoSuchHost",
    "NotFlexMeasures",
    "Posted",
    "SensorRefused",
]

_TOKEN = "/api/requestAuthToken"  # noqa: S105
_PRICE_UNIT = re.compile(r"[A-Z]{3}/[kM]Wh")
_V3 = "/api/v3_0"
_ASSET_FIELDS = "id|name|external_id|parent_asset_id|attributes|generic_asset_type|sensors_to_show"


class SensorRefused(Refused):
    """One sensor takes nothing until a person acts; the others may go on."""

    def __init__(self, message: str, sensor_id: int) -> None:
        super().__init__(message)
        self.sensor_id = sensor_id


@dataclass(frozen=True, slots=True)
class Posted:
    """What became of one batch: its verdicts, or the job to ask, or that halves must be offered."""

    verdicts: Mapping[int, tuple[Verdict, str]]
    job: str | None = None
    split: bool = False


class FlexMeasures:
    """One user on one server. Made inside a running loop; `async with` or close() it."""

    def __init__(
        self,
        address: Address,
        email: str,
        password_source: PasswordSource,
        clock: Clock,
        *,
        connection: Connection | None = None,
    ) -> None:
        self.address = address
        self.email = email
        self._session = Session(
            address, email, password_source, clock, _TOKEN, connection or Connection(address)
        )

    @property
    def version(self) -> str:
        """Of the server, as its last answer said; empty before."""
        return self._session.version

    @property
    def allowance(self) -> Allowance | None:
        """What the rate limiter still grants this user, as the last answer said."""
        return self._session.allowance

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._session.close()

    # --- who is there -----------------------------------------------------------------------------

    async def server_version(self) -> str:
        """The version of the server. Raises NotFlexMeasures, VersionRefused; needs no log-in."""
        answer = await self._session.exchange("GET", "/api/")
        self._session.raise_if_away(answer)
        versions = answer.field("versions")
        version = (answer.headers or {}).get(VERSION_HEADER, "")
        if answer.status != 200 or not isinstance(versions, list) or not version:
            raise NotFlexMeasures(
                f"{self.address.host} answers, but it is not FlexMeasures", answer.text
            )
        if "v3_0" not in versions or not is_supported(version):
            raise VersionRefused(
                f"{self.address.host} runs FlexMeasures {version}; this box speaks to"
                f" {supported_versions()}"
            )
        return version

    async def log_in(self) -> int:
        """Get a token with the password; our user id. Raises LogInRefused."""
        return await self._session.log_in()

    async def member(self) -> Member:
        """Who we are."""
        user_id = await self.log_in()
        user = await self._session.ask("GET", f"{_V3}/users/{user_id}")
        account_id = whole(user.content, "account_id")
        return Member(user_id, account_id, bool(user.field("flexmeasures_roles")))

    # --- assets and sensors -----------------------------------------------------------------------

    async def asset_types(self) -> dict[str, int]:
        """The ids of this server's kinds of asset, by name."""
        answer = await self._session.ask("GET", f"{_V3}/assets/types")
        return {asset.name: asset.asset_id for asset in map(asset_from, _list(answer))}

    async def assets(self) -> list[RemoteAsset]:
        """All assets of our account."""
        answer = await self._session.ask("GET", f"{_V3}/assets", query={"fields": _ASSET_FIELDS})
        return [asset_from(each) for each in _list(answer)]

    async def asset(self, asset_id: int) -> RemoteAsset:
        """One asset, with its flex-model and flex-context."""
        return asset_from((await self._session.ask("GET", f"{_V3}/assets/{asset_id}")).content)

    async def create_asset(
        self,
        name: str,
        type_id: int,
        account_id: int,
        *,
        parent_id: int | None = None,
        external_id: str | None = None,
        attributes: Mapping[str, object] | None = None,
    ) -> RemoteAsset:
        """Make an asset. A name that its parent has already, or an external id that the account
        has, is refused in ways of all kinds (422, 500): look first."""
        body: dict[str, object] = {
            "name": name,
            "generic_asset_type_id": type_id,
            "account_id": account_id,
            "attributes": json.dumps(dict(attributes or {})),
        }
        if parent_id is not None:
            body["parent_asset_id"] = parent_id
        if external_id is not None:
            body["external_id"] = external_id
        return asset_from((await self._session.ask("POST", f"{_V3}/assets", body=body)).content)

    async def update_asset(
        self,
        asset: RemoteAsset,
        *,
        attributes: Mapping[str, object] | None = None,
        external_id: str | None = None,
        shown: Sequence[int] = (),
        flex_model: Mapping[str, object] | None = None,
        flex_context: Mapping[str, object] | None = None,
    ) -> RemoteAsset:
        """Change an asset; attributes are added to those it has, `shown` are the sensors that its
        pages show, flex-model and flex-context what whoever triggers a schedule finds there."""
        body: dict[str, object] = {}
        if attributes is not None:
            body["attributes"] = json.dumps({**asset.attributes, **attributes})
        if external_id is not None:
            body["external_id"] = external_id
        if shown:
            body["sensors_to_show"] = json.dumps(list(shown))
        if flex_model is not None:
            body["flex_model"] = json.dumps(dict(flex_model))
        if flex_context is not None:
            body["flex_context"] = json.dumps(dict(flex_context))
        path = f"{_V3}/assets/{asset.asset_id}"
        return asset_from((await self._session.ask("PATCH", path, body=body)).content)

    async def sensors(self, asset_id: int) -> list[RemoteSensor]:
        """The sensors of an asset and of all assets below it."""
        answer = await self._session.ask("GET", f"{_V3}/sensors", query={"asset_id": str(asset_id)})
        return [sensor_from(each) for each in _list(answer)]

    async def price_sensors(self) -> list[RemoteSensor]:
        """Every sensor of an energy price that the user may read, public ones included."""
        answer = await self._session.ask(
            "GET", f"{_V3}/sensors", query={"include_public_assets": "true"}
        )
        found = [sensor_from(each) for each in _list(answer)]
        return [each for each in found if _PRICE_UNIT.fullmatch(each.unit)]

    async def sensor(self, sensor_id: int) -> RemoteSensor:
        return sensor_from((await self._session.ask("GET", f"{_V3}/sensors/{sensor_id}")).content)

    async def create_sensor(
        self,
        asset_id: int,
        name: str,
        unit: str,
        event_resolution: timedelta,
        attributes: Mapping[str, object],
    ) -> RemoteSensor:
        """Make a sensor; a plain user cannot change it afterwards. A name that the asset has
        already is answered with 500: look first."""
        body = {
            "generic_asset_id": asset_id,
            "name": name,
            "unit": unit,
            "event_resolution": iso_duration(event_resolution),
            "attributes": json.dumps(dict(attributes)),
        }
        return sensor_from((await self._session.ask("POST", f"{_V3}/sensors", body=body)).content)

    # --- readings ---------------------------------------------------------------------------------

    async def post_slots(self, sensor: Sensor, slots: Sequence[OutboxSlot]) -> Posted:
        """Offer slots of one sensor and one prior, in order of time; gaps between them stay gaps.

        Raises SensorRefused and, as everything here, Away and NotFlexMeasures: then nothing is
        settled.
        """
        answer = await self._session.with_token(
            "POST", f"{_V3}/sensors/{sensor.sensor_id}/data", body=_batch(sensor, slots)
        )
        meaning = meaning_of(answer, len(slots))
        if meaning is Meaning.ACCEPTED:
            return Posted({slot.row_id: (Verdict.ACCEPT, "") for slot in slots})
        if meaning is Meaning.REJECTED:
            return Posted({slot.row_id: (Verdict.REJECT, reason_for(answer)) for slot in slots})
        if meaning is Meaning.IN_JOB:
            return Posted({}, job=answer.job)
        if meaning is Meaning.SPLIT:
            return Posted({}, split=True)
        if meaning is Meaning.SENSOR_REFUSED:
            raise SensorRefused(_sensor_trouble(sensor, answer), sensor.sensor_id)
        self._session.raise_if_away(answer)
        if meaning is Meaning.AWAY:
            raise Away(f"FlexMeasures takes no data at all ({answer.status})", status=answer.status)
        raise NotFlexMeasures("FlexMeasures' answer to readings cannot be read", answer.text)

    async def job(self, job_id: str) -> JobState:
        """How far a job of post_slots has come."""
        answer = await self._session.with_token("GET", f"{_V3}/jobs/{job_id}")
        self._session.raise_if_away(answer)
        state = job_state(answer)
        if state is None:
            raise NotFlexMeasures("FlexMeasures' answer about a job cannot be read", answer.text)
        return state

    async def stored(self, sensor: Sensor, start: datetime, end: datetime) -> dict[datetime, float]:
        """What users (never schedulers) have posted to the sensor, by start of slot."""
        series = await self.data(sensor.sensor_id, start, end, "user", sensor.unit)
        return series.points() if series else {}

    # --- schedules --------------------------------------------------------------------------------

    async def data(
        self, sensor_id: int, start: datetime, end: datetime, source_type: str, unit: str
    ) -> Series | None:
        """The newest values of one kind of source ("user", "scheduler"); None where that kind has
        never written to the sensor. Covers the full hours and minutes around the span."""
        # A start off the sensor's grid is answered with nulls, one off the minute not at all.
        start = start.replace(minute=0, second=0, microsecond=0)
        end = start - (start - end) // _MINUTE * _MINUTE
        query = {
            "start": start.isoformat(),
            "duration": iso_duration(end - start),
            "unit": unit,
            "source-type": source_type,
        }
        answer = await self._session.with_token(
            "GET", f"{_V3}/sensors/{sensor_id}/data", query=query
        )
        if answer.status == 422 and "source-type" in answer.message.replace("_", "-"):
            return None
        self._session.raise_unless_done(answer)
        return series_from(answer.content)

    async def trigger(
        self,
        asset_id: int,
        start: datetime,
        duration: timedelta,
        flex_model: Sequence[Mapping[str, object]] = (),
        flex_context: Mapping[str, object] | None = None,
    ) -> str:
        """Ask for a schedule of an asset; the job to pass to schedule(). Ten triggers in five
        minutes is what a whole account has."""
        body: dict[str, object] = {"start": start.isoformat(), "duration": iso_duration(duration)}
        if flex_model:
            body["flex-model"] = list(flex_model)
        if flex_context:
            body["flex-context"] = flex_context
        answer = await self._session.ask(
            "POST", f"{_V3}/assets/{asset_id}/schedules/trigger", body=body
        )
        if not answer.job:
            raise NotFlexMeasures("FlexMeasures' answer to a trigger names no job", answer.text)
        return answer.job

    async def schedule(
        self, sensor_id: int, job_id: str, duration: timedelta, unit: str
    ) -> Series | None:
        """The schedule a job made for a sensor, consumption positive; None until it is there.
        Raises Refused where there is none to come (infeasible, prices unknown)."""
        query = {"duration": iso_duration(duration), "unit": unit}
        path = f"{_V3}/sensors/{sensor_id}/schedules/{job_id}"
        answer = await self._session.with_token("GET", path, query=query)
        if is_under_way(answer):
            return None
        self._session.raise_unless_done(answer)
        # 0.33 answers a question without solution by a rule of thumb: here, or elsewhere (303).
        if answer.status != 200 or "Fallback" in str(answer.field("scheduler_info")):
            raise Refused(f"FlexMeasures says: InfeasibleProblem, {answer.message}")
        return series_from(answer.content)


_MINUTE = timedelta(minutes=1)


def _batch(sensor: Sensor, slots: Sequence[OutboxSlot]) -> dict[str, object]:
    """The body of a post: equal distances, null for gaps, one belief time for all."""
    step = sensor.event_resolution
    start = slots[0].slot.start
    values: list[float | None] = [None] * ((slots[-1].slot.start - start) // step + 1)
    for slot in slots:
        values[(slot.slot.start - start) // step] = slot.slot.value
    body: dict[str, object] = {
        "values": values,
        "start": start.isoformat(),
        "duration": iso_duration(step * len(values)),
        "unit": sensor.unit,
    }
    prior = slots[0].prior
    # Known at the end of each slot: however often it is posted, it is the same belief.
    return body | ({"horizon": "PT0H"} if prior is None else {"prior": prior.isoformat()})


def _sensor_trouble(sensor: Sensor, answer: Answer) -> str:
    name = f"sensor {sensor.sensor_id} ({sensor.name})"
    if answer.status == 404:
        return f"FlexMeasures has no {name} any more; map its meter again"
    if answer.status == 403:
        return f"FlexMeasures does not let the box write to {name}; give its user the right"
    return f"FlexMeasures does not take data for {name}: {answer.message}"


def _list(answer: Answer) -> list[object]:
    if not isinstance(answer.content, list):
        raise NotFlexMeasures("FlexMeasures' answer is no list", answer.text)
    return answer.content
