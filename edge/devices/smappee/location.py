"""One Smappee service location: what is known of it, and the questions the cloud answers about it.

Every question runs behind cloud.py's door; what comes back has the shape the rest relies on.
"""

from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from edge.devices.smappee.cloud import Account
from edge.devices.smappee.holds import OWN_TIMERS
from edge.devices.smappee.readings import (
    AGGREGATION_FIVE_MINUTES,
    FAMILY,
    Measured,
    actuator_devices,
    electricity,
    interval_start,
    location_device,
    sensor_measures,
)
from edge.model import Device, DeviceState


@dataclass
class Location:
    """One service location, as last described and read. `since`: nothing before is offered."""

    ident: int
    name: str
    read_until: datetime | None = None
    since: datetime | None = None
    newest: datetime | None = None
    info: dict[str, Any] = field(default_factory=dict)
    info_due_ms: int = 0
    reread_due_ms: list[int] = field(default_factory=list)
    history_done: float = 1.0
    malformed: int = 0

    @property
    def device(self) -> str:
        return str(self.ident)

    def measures(self) -> list[tuple[int | None, tuple[Measured, ...]]]:
        """What is read, by sensor; None is the electricity of the location."""
        found = [(None, electricity(self.device, self.name))]
        sensors = self.info.get("sensors", ())
        return [*found, *((s["id"], sensor_measures(self.device, s)) for s in sensors)]

    def devices(self, now: datetime) -> list[Device]:
        """The location as a device, and its actuators."""
        whole = location_device(self.device, self.name, self.newest, now)
        whole.details["history_percent"] = round(self.history_done * 100)
        whole.details["malformed"] = self.malformed
        return [whole] + [
            Device(
                FAMILY,
                device,
                name,
                "Smappee actuator",
                DeviceState.ALIVE,
                is_switch=True,
                is_on=is_on,
                own_timers=OWN_TIMERS,
            )
            for device, name, is_on in actuator_devices(self.device, self.info)
        ]

    async def describe(self, account: Account) -> None:
        """Ask for names, sensors, actuators and their states."""
        self.info = await account.ask(partial(_info, self.ident))

    async def records(
        self, account: Account, sensor: int | None, start: datetime, end: datetime
    ) -> list[dict[str, Any]]:
        """Five-minute records of [start, end): of a sensor, or None for the electricity."""
        told = await account.ask(partial(_consumption, self.ident, sensor, start, end))
        self.malformed += sum(interval_start(record) is None for record in told)
        return [record for record in told if isinstance(record, dict)]

    async def events(
        self, account: Account, appliance: int, start: datetime, end: datetime
    ) -> object:
        """When an appliance was switched, as Smappee guesses it."""
        return await account.ask(lambda s: s.get_events(self.ident, appliance, start, end))


async def list_locations(account: Account) -> dict[int, str]:
    """Every service location of the account, by id."""

    def ask(smappee: Any) -> dict[int, str]:
        told = smappee.get_service_locations()["serviceLocations"]
        return {
            int(place["serviceLocationId"]): str(place.get("name") or place["serviceLocationId"])
            for place in told
        }

    return await account.ask(ask)


def _info(location: int, smappee: Any) -> dict[str, Any]:
    """A location's description, reduced to what has an id and the shape it should have."""
    told = smappee.get_service_location_info(location)
    if "serviceLocationId" not in told:
        raise KeyError("serviceLocationId")
    return {
        kind: [each for each in told.get(kind) or () if _has_id(each)]
        for kind in ("sensors", "actuators", "appliances")
    }


def _has_id(each: object) -> bool:
    return (
        isinstance(each, dict)
        and isinstance(each.get("id"), int)
        and all(
            isinstance(part, dict)
            for inner in ("channels", "states")
            for part in each.get(inner) or ()
        )
    )


def _consumption(
    location: int, sensor: int | None, start: datetime, end: datetime, smappee: Any
) -> list[Any]:
    if sensor is None:
        told = smappee.get_consumption(location, start, end, AGGREGATION_FIVE_MINUTES, raw=True)
        records = told["consumptions"]
    else:
        told = smappee.get_sensor_consumption(
            location, sensor, start, end, AGGREGATION_FIVE_MINUTES
        )
        records = told["records"]
    if not isinstance(records, list):
        raise TypeError(f"records are {type(records).__name__}")
    return records
