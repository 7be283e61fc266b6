"""Gives an account of the house's FlexMeasures a price sensor, as the person who owns it would.

Prices of days to come are posted without a horizon: they are known now. (A CSV upload "measured
instantly" dates them in the future, and every schedule fails with "prices unknown".)
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.request import Request, urlopen

from tests.house.flexmeasures.process import Account

ANSWER_WITHIN_S = 30
DEAR_AT_SIX = (0.10,) * 17 + (0.45, 0.45, 0.40) + (0.15,) * 4  # EUR/kWh, hour by hour


def load_prices(
    url: str,
    owner: Account,
    asset_id: int,
    start: datetime,
    prices: Sequence[float] = DEAR_AT_SIX,
    *,
    step: timedelta = timedelta(hours=1),
    name: str = "day-ahead-price",
) -> int:
    """Make the sensor on that asset, or find it, and fill it from `start`; its id. Blocks for about
    0.2 s."""
    token = _post(url, "/api/requestAuthToken", {"email": owner.email, "password": owner.password})
    sensor = {
        "generic_asset_id": asset_id,
        "name": name,
        "unit": "EUR/kWh",
        "event_resolution": _minutes(step),
        "attributes": "{}",
    }
    made = _find(url, asset_id, name, token["auth_token"]) or _post(
        url, "/api/v3_0/sensors", sensor, token["auth_token"]
    )
    values = {
        "values": list(prices),
        "start": start.isoformat(),
        "duration": _minutes(step * len(prices)),
        "unit": "EUR/kWh",
    }
    _post(url, f"/api/v3_0/sensors/{made['id']}/data", values, token["auth_token"])
    return int(made["id"])


def _find(url: str, asset_id: int, name: str, token: str) -> Any:
    request = Request(f"{url}/api/v3_0/sensors?asset_id={asset_id}")
    request.add_header("Authorization", token)
    with urlopen(request, timeout=ANSWER_WITHIN_S) as answer:
        sensors = json.load(answer)
    fits = (s for s in sensors if (s["name"], s["generic_asset_id"]) == (name, asset_id))
    return next(fits, None)


def _post(url: str, path: str, body: object, token: str = "") -> Any:
    headers = {"Content-Type": "application/json", **({"Authorization": token} if token else {})}
    request = Request(url + path, json.dumps(body).encode(), headers)
    with urlopen(request, timeout=ANSWER_WITHIN_S) as answer:
        return json.load(answer)


def _minutes(span: timedelta) -> str:
    return f"PT{span // timedelta(minutes=1)}M"
