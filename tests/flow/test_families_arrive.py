"""Smappee and the P1 port beside the stick: what FlexMeasures has is what they measured.

A slot of the P1 port's power takes up to ten minutes to be over and settled, so that is looked at
on the box itself.
"""

import asyncio
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.flow.test_main_job import variables
from tests.house.flexmeasures import Account, FlexMeasuresServer
from tests.house.run.scene import Scene
from tests.house.run.screen import Screen
from tests.house.run.wishes import wishes
from tests.house.smappee_cloud import (
    GAS_PULSES_PER_M3,
    WATER_PULSES_PER_M3,
    consumption_wh,
    gas_pulses,
    solar_wh,
    water_pulses,
)

SLOT = timedelta(minutes=5)
SMAPPEE = {
    "electricity-power consumption": lambda s: consumption_wh(s) * 12 / 1000,
    "electricity-power solar": lambda s: -solar_wh(s) * 12 / 1000,
    "gas": lambda s: gas_pulses(s) / GAS_PULSES_PER_M3,
    "water": lambda s: water_pulses(s) / WATER_PULSES_PER_M3,
}
GIVEN_BACK = "p1/3153414731313030303037313930/0/active_power/export"


async def test_what_arrives_is_what_was_measured(
    tmp_path: Path, flexmeasures_server: FlexMeasuresServer
) -> None:
    account = flexmeasures_server.make_account()
    asked = wishes(
        variables(tmp_path / "s", FLEXMEASURES_URL=flexmeasures_server.url, EMAIL=account.email)
    )
    async with Scene(asked, Screen(StringIO()), account.password) as scene:
        async with asyncio.timeout(300):
            while True:
                found = await asyncio.to_thread(_arrived, flexmeasures_server.url, account)
                if len(found) == len(SMAPPEE) and min(map(len, found.values())) >= 20:
                    break  # two hours, less the cloud's own delay
                await asyncio.sleep(5)
        status = await scene.status()
        live = {channel.key: channel.value for channel in status.channels}
        assert live[GIVEN_BACK] == 198.0
        assert status.flexmeasures.slots_rejected == 0
    for name, expected in SMAPPEE.items():
        for start, value in found[name].items():
            assert value == pytest.approx(expected(int(start.timestamp())), abs=1e-9), (name, start)


def _arrived(url: str, account: Account) -> dict[str, Mapping[datetime, float]]:
    """What FlexMeasures has of Smappee, by sensor."""
    credentials = {"email": account.email, "password": account.password}
    with requests.Session() as session:
        token = session.post(f"{url}/api/requestAuthToken", json=credentials, timeout=30).json()
        session.headers["Authorization"] = token["auth_token"]
        sensors = session.get(f"{url}/api/v3_0/sensors", timeout=30).json()
        return {
            sensor["name"]: dict(_values(session, url, sensor))
            for sensor in sensors
            if sensor["name"] in SMAPPEE
        }


def _values(
    session: requests.Session, url: str, sensor: Mapping[str, Any]
) -> Iterator[tuple[datetime, float]]:
    now = datetime.now(UTC)
    now -= (now - datetime.min.replace(tzinfo=UTC)) % SLOT
    asked = {
        "start": (now - timedelta(hours=3)).isoformat(),
        "duration": "PT3H",
        "unit": sensor["unit"],
    }
    told = session.get(
        f"{url}/api/v3_0/sensors/{sensor['id']}/data", params=asked, timeout=60
    ).json()
    first = datetime.fromisoformat(told["start"])
    for number, value in enumerate(told["values"]):
        if value is not None:
            yield first + number * SLOT, value
