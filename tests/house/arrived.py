"""What FlexMeasures holds of the simulated house's meters, asked for without code of the box."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import requests

from tests.house import exact
from tests.house.flexmeasures.process import Account
from tests.house.smappee_cloud import (
    GAS_PULSES_PER_M3,
    WATER_PULSES_PER_M3,
    consumption_wh,
    gas_pulses,
    solar_wh,
    water_pulses,
)

SLOT = timedelta(minutes=5)
# Node and name of sensor → node and endpoint under which exact.py knows it.
METERS = {
    ("2", "electricity-power"): (2, 0),
    ("2", "electricity-power 1"): (2, 1),
    ("2", "electricity-power 2"): (2, 2),
    ("2", "electricity-power 3"): (2, 3),
    ("3", "electricity-power"): (3, 0),
    ("4", "electricity-power"): (4, 0),
}

type Sensor = tuple[str, str]
"""The end of its asset's external id (the Z-Wave node, or "box"), and its name."""

# What the simulated Smappee measured in the five minutes from a moment, in the sensor's unit.
SMAPPEE: dict[Sensor, Callable[[int], float]] = {
    ("smappee/123", "electricity-power consumption"): lambda s: consumption_wh(s) * 12 / 1000,
    ("smappee/123", "electricity-power solar"): lambda s: -solar_wh(s) * 12 / 1000,
    ("smappee/123", "gas"): lambda s: gas_pulses(s) / GAS_PULSES_PER_M3,
    ("smappee/123", "water"): lambda s: water_pulses(s) / WATER_PULSES_PER_M3,
}


def sensors(url: str, account: Account) -> list[Sensor]:
    """Every sensor of this account; one that was made twice stands there twice."""
    with _logged_in(url, account) as session:
        return sorted(name for name, _ in _named_sensors(session, url))


def held(
    url: str, account: Account, start: datetime, end: datetime
) -> dict[Sensor, dict[datetime, float]]:
    """Every value of every sensor of this account, in the sensor's unit; [start, end), on SLOT."""
    found = {}
    with _logged_in(url, account) as session:
        for name, sensor in _named_sensors(session, url):
            query = {
                "start": start.isoformat(),
                "duration": f"PT{(end - start) // timedelta(minutes=1)}M",
                "unit": sensor["unit"],
                "resolution": "PT5M",
            }
            data = f"{url}/api/v3_0/sensors/{sensor['id']}/data"
            series = session.get(data, params=query, timeout=60).json()
            first = datetime.fromisoformat(series["start"]).astimezone(UTC)
            values = {first + number * SLOT: v for number, v in enumerate(series["values"])}
            found[name] = {at: value for at, value in values.items() if value is not None}
    return found


def differences_w(
    of: dict[Sensor, dict[datetime, float]], before: datetime
) -> dict[tuple[Sensor, datetime], float]:
    """For every slot of the meters that ended before then: what arrived, less the exact mean."""
    return {
        (sensor, start): 1000 * value - exact.mean_w(*METERS[sensor], start, start + SLOT)
        for sensor, values in of.items()
        if sensor in METERS
        for start, value in values.items()
        if start + SLOT <= before
    }


def smappee_is_off(of: dict[Sensor, dict[datetime, float]]) -> dict[tuple[Sensor, datetime], float]:
    """The slots of Smappee's sensors whose value is not what Smappee measured, and by how much."""
    off_by = {
        (sensor, start): value - measured(int(start.timestamp()))
        for sensor, measured in SMAPPEE.items()
        for start, value in of.get(sensor, {}).items()
    }
    return {place: by for place, by in off_by.items() if abs(by) > 1e-9}


def limit(url: str, account: Account, device: str, limit_kw: float) -> None:
    """Somebody posts a limit for the device of that key: from now, for three minutes."""
    with _logged_in(url, account) as session:
        assets = session.get(f"{url}/api/v3_0/assets?fields=id|external_id", timeout=30).json()
        (mine,) = [a["id"] for a in assets if str(a["external_id"]).endswith(f":{device}")]
        sensors = session.get(f"{url}/api/v3_0/sensors", timeout=30).json()
        (ident,) = [
            sensor["id"]
            for sensor in sensors
            if (sensor["generic_asset_id"], sensor["name"]) == (mine, "power-limit")
        ]
        start = datetime.now(UTC).replace(second=0, microsecond=0)
        body = {
            "values": [limit_kw],
            "start": start.isoformat(),
            "duration": "PT3M",
            "unit": "kW",
        }
        data = f"{url}/api/v3_0/sensors/{ident}/data"
        session.post(data, json=body, timeout=30).raise_for_status()


def on_the_grid(moment: datetime) -> datetime:
    """The start of the slot it lies in; FlexMeasures' grid is the question's."""
    return moment - (moment - datetime.min.replace(tzinfo=UTC)) % SLOT


def _logged_in(url: str, account: Account) -> requests.Session:
    session = requests.Session()
    body = {"email": account.email, "password": account.password}
    token = session.post(f"{url}/api/requestAuthToken", json=body, timeout=30).json()
    session.headers["Authorization"] = token["auth_token"]
    return session


def _named_sensors(session: requests.Session, url: str) -> Iterator[tuple[Sensor, dict[str, Any]]]:
    for sensor in session.get(f"{url}/api/v3_0/sensors", timeout=30).json():
        asset_url = f"{url}/api/v3_0/assets/{sensor['generic_asset_id']}"
        external_id = str(session.get(asset_url, timeout=30).json()["external_id"])
        yield (re.split("[-:]", external_id)[-1], sensor["name"]), sensor
