"""What `make run` shows of the way back: one plug may be switched, and a dear interval is coming.

The person who owns the account loads a day of prices, dear for a while soon; the box asks
FlexMeasures for a schedule, and FlexMeasures' own answer switches the plug off and on again.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edge.cli.door import ask
from edge.contract import Done, Status
from edge.contract.control import ControlRequest, TriggerRequest
from tests.house.flexmeasures.prices import load_prices
from tests.house.flexmeasures.process import Account

STEP = timedelta(minutes=5)  # of the plug's power sensor: a schedule is no finer
SOON = timedelta(seconds=90)  # the schedule must be there before the dear interval begins
DEAR_STEPS = 1
CHEAP, DEAR, WORTH = 0.12, 0.42, 0.30  # EUR/kWh
NOMINAL_W = 1500


class Curtailment:
    """Owned by the scene. `dear_from` and `dear_until` are there once it is prepared."""

    def __init__(self, socket: Path, url: str, owner: Account, site_asset_id: int) -> None:
        self._socket = socket
        self._url = url
        self._owner = owner
        self._site_asset_id = site_asset_id
        self.dear_from = datetime.now(UTC)
        self.dear_until = self.dear_from
        self.plug = ""

    async def prepare(self) -> None:
        """Allow a plug, load the prices, have the box ask for schedules."""
        status = await asyncio.to_thread(ask, self._socket, "GET", "/status", Status)
        switches = [device for device in status.devices if device.is_switch]
        plug = max(switches, key=lambda device: device.key)
        self.plug = plug.name
        await self._put(
            "/control/device",
            ControlRequest(
                device=plug.key,
                is_used=True,
                consent=True,
                nominal_power_w=NOMINAL_W,
                away_longest_min=60,
                rest_shortest_min=1,
                left_alone=[],
            ),
        )
        price_id = await asyncio.to_thread(self._load_prices)
        await self._put(
            "/control/schedules",
            TriggerRequest(
                price_sensor_id=price_id, worth_per_kwh=WORTH, every_minutes=15, horizon_hours=4
            ),
        )

    def _load_prices(self) -> int:
        now = datetime.now(UTC)
        start = now - (now - datetime.min.replace(tzinfo=UTC)) % STEP
        before = (now + SOON - start) // STEP + 1
        self.dear_from = start + before * STEP
        self.dear_until = self.dear_from + DEAR_STEPS * STEP
        after = timedelta(days=1) // STEP - before - DEAR_STEPS
        prices = [CHEAP] * before + [DEAR] * DEAR_STEPS + [CHEAP] * after
        return load_prices(self._url, self._owner, self._site_asset_id, start, prices, step=STEP)

    async def _put(self, route: str, message: ControlRequest | TriggerRequest) -> None:
        await asyncio.to_thread(ask, self._socket, "PUT", route, Done, message)
