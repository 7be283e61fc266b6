"""What FlexMeasures says of a device, as plans; what the box says of it, as flex-model. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from edge.errors import ConfigFault
from edge.model import Interval, Origin, Plan
from edge.uplink.remote import Series

LIMIT = "power-limit"  # the sensor's name: who may post to it may curtail the device
LIMIT_UNIT = "kW"
LIMIT_RESOLUTION = timedelta(minutes=1)  # "now, for half an hour" begins and ends in its minute
W_PER_KW = 1000
# More than consumption is worth to the household anywhere: running above the baseline costs that.
_ABOVE_BASELINE_PER_KWH = 1.0
_COMFORT = "comfort of the box's devices"
WORDS_OF_SCHEDULERS = {  # what FlexMeasures' schedulers raise, and what a person can do about it
    "InfeasibleProblem": "no schedule fulfils everything that is asked of this site; its host must"
    " loosen a limit in the flex-context or a flex-model",
    "UnknownPrices": "it does not know the prices of the hours ahead; load them into the price"
    " sensor, or choose another",
    "UnknownMarket": "it has no prices for this site; choose a price sensor",
    "WrongEntity": "the price sensor or a device's sensor is of a kind it cannot schedule with",
    "No sensor found": "the price sensor is gone or not the account's to read; choose another",
}


@dataclass(frozen=True, slots=True)
class Followed:
    """A controllable device as this room needs it."""

    device_key: str
    name: str
    nominal_power_w: float


@dataclass(frozen=True, slots=True)
class OwnTriggers:
    """That the box asks for schedules itself: how often, how far ahead, by which prices, and what
    a kWh is worth to the household (above that price the device is better off)."""

    every: timedelta
    horizon: timedelta
    price_sensor_id: int
    worth_per_kwh: float


def plan_from(origin: Origin, series: Series | None, now: datetime, *, sign: int = 1) -> Plan:
    """A series in kW as a plan in W: what is over is left out, equal neighbours are one."""
    if series is None:
        return Plan(origin, ())
    step = series.resolution
    runs: list[Interval] = []
    for start, value in series.points().items():
        power_w = sign * value * W_PER_KW + 0.0  # + 0.0: no minus zero
        last = runs[-1] if runs else None
        if last is not None and (last.end, last.power_w) == (start, power_w):
            runs[-1] = Interval(last.start, start + step, power_w)
        else:
            runs.append(Interval(start, start + step, power_w))
    return Plan(origin, tuple(run for run in runs if run.end > now))


def flex_model(device: Followed) -> dict[str, object]:
    """What the device can do, for its asset: consume up to its nominal power, produce nothing."""
    return {
        "consumption-capacity": f"{device.nominal_power_w:g} W",
        "production-capacity": "0 W",
        "power-capacity": f"{device.nominal_power_w:g} W",  # 0.33 asks for it
    }


def flex_context(
    wish: OwnTriggers,
    devices: Mapping[str, Followed],
    price_unit: str,
    kept: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """Prices, and the commitment that makes it a trade-off: consuming as usual is worth
    `worth_per_kwh`, so what is dearer than that is left. (A positive down-price would reward every
    curtailment, and without a commitment nothing would ever run.) `kept` is what stands on the
    site: commitments that others made there stay."""
    others = (kept or {}).get("commitments")
    others = others if isinstance(others, list) else []
    currency = price_unit.partition("/")[0]
    price = {"sensor": wish.price_sensor_id}
    baseline_w = sum(device.nominal_power_w for device in devices.values())
    return {
        "consumption-price": price,
        "production-price": price,
        "commitments": [
            *(each for each in others if isinstance(each, dict) and each.get("name") != _COMFORT),
            {
                "name": _COMFORT,
                "baseline": f"{baseline_w:g} W",
                "down-price": f"{-wish.worth_per_kwh:g} {currency}/kWh",
                "up-price": f"{_ABOVE_BASELINE_PER_KWH:g} {currency}/kWh",
            },
        ],
    }


def why_no_schedule(said: str) -> str:
    """Why there is no schedule, in words; what FlexMeasures itself said comes along."""
    known = next((words for sign, words in WORDS_OF_SCHEDULERS.items() if sign in said), "")
    return "FlexMeasures makes no schedule: " + (f"{known} ({said})" if known else said)


def triggers_to_json(wish: OwnTriggers) -> dict[str, Any]:
    return {
        "every_s": wish.every.total_seconds(),
        "horizon_s": wish.horizon.total_seconds(),
        "price_sensor_id": wish.price_sensor_id,
        "worth_per_kwh": wish.worth_per_kwh,
    }


def triggers_from_json(kept: Mapping[str, Any]) -> OwnTriggers:
    """Raises ConfigFault for what cannot be followed."""
    wish = OwnTriggers(
        timedelta(seconds=kept["every_s"]),
        timedelta(seconds=kept["horizon_s"]),
        kept["price_sensor_id"],
        kept["worth_per_kwh"],
    )
    faults = []
    if not timedelta(minutes=15) <= wish.every <= timedelta(days=1):
        faults.append("a schedule can be asked for every fifteen minutes to once a day")
    if not timedelta(hours=1) <= wish.horizon <= timedelta(days=2):
        faults.append("a schedule can reach one to 48 hours ahead")
    if not 0 < wish.worth_per_kwh < _ABOVE_BASELINE_PER_KWH:
        faults.append(f"a kWh is worth more than 0 and less than {_ABOVE_BASELINE_PER_KWH:g}")
    if faults:
        raise ConfigFault(*faults)
    return wish


def cycle(start: datetime, period: timedelta, phase: timedelta, now: datetime) -> datetime:
    """The first moment after `now` that lies `phase` behind a multiple of `period` from `start`."""
    return now + period - (now - start - phase) % period
