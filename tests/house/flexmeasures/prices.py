"""Gives an account of the house's FlexMeasures a price sensor, as the person who owns it would.

Prices of days to come are posted without a horizon: they are known now. (A CSV upload "measured
instantly" dates them in the future, and every schedule fails with "prices unknown".)
"""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from math import isclose
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from tests.house.flexmeasures.process import Account, ServerTrouble

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
    0.2 s, because only what is news is posted. Raises ServerTrouble."""
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
    path = f"/api/v3_0/sensors/{made['id']}/data"
    span = {"start": start.isoformat(), "duration": _minutes(step * len(prices))}
    query = urlencode({**span, "unit": "EUR/kWh"})
    known = _ask(Request(f"{url}{path}?{query}"), token["auth_token"])["values"]
    for first, news in _news(known, prices):
        values = {
            "values": news,
            "start": (start + first * step).isoformat(),
            "duration": _minutes(step * len(news)),
            "unit": "EUR/kWh",
        }
        _post(url, path, values, token["auth_token"])
    return int(made["id"])


def _news(
    known: Sequence[float | None], prices: Sequence[float]
) -> Iterator[tuple[int, list[float]]]:
    """The runs of prices that are not known yet, or otherwise: where each begins, and its values.
    What is known is left out, because FlexMeasures takes long over it."""

    def kind(index: int) -> str:
        before = known[index] if index < len(known) else None
        if before is None:
            return "missing"
        return "same" if isclose(before, prices[index]) else "changed"

    for what, run in groupby(range(len(prices)), kind):
        if what != "same":
            indexes = list(run)
            yield indexes[0], [prices[index] for index in indexes]


def _find(url: str, asset_id: int, name: str, token: str) -> Any:
    sensors = _ask(Request(f"{url}/api/v3_0/sensors?asset_id={asset_id}"), token)
    fits = (s for s in sensors if (s["name"], s["generic_asset_id"]) == (name, asset_id))
    return next(fits, None)


def _post(url: str, path: str, body: object, token: str = "") -> Any:
    headers = {"Content-Type": "application/json"}
    return _ask(Request(url + path, json.dumps(body).encode(), headers), token)


def _ask(request: Request, token: str) -> Any:
    if token:
        request.add_header("Authorization", token)
    try:
        with urlopen(request, timeout=ANSWER_WITHIN_S) as answer:
            return json.load(answer)
    except OSError as problem:
        raise ServerTrouble(f"FlexMeasures takes no prices: {problem}") from problem


def _minutes(span: timedelta) -> str:
    return f"PT{span // timedelta(minutes=1)}M"
