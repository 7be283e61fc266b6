"""A day of readings the box took while it was offline, written by the box's own store.

What `make run` and the flow tests begin with: an earlier boot of the box, its clock trusted, that
read the household's meters and never reached FlexMeasures.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from edge.model import BoxTime
from edge.store.buffer import Buffer
from tests.house.fake_clock import FakeClock
from tests.house.household import PLACES, Household, Place

HOME_ID = 0x7E570001  # of the simulated stick
POWER_EVERY = timedelta(minutes=1)
COUNTER_EVERY = timedelta(minutes=5)
COMMIT_EVERY = timedelta(minutes=10)


def channel_key(place: Place, quantity: str) -> str:
    """The key of a meter value of the simulated stick, as edge/devices/zwave makes it."""
    return f"zwave/{HOME_ID:08x}-{place.node}/{place.endpoint}/{quantity}/import"


async def write(path: Path, household: Household, start: datetime, end: datetime) -> int:
    """Fill the buffer at `path` with the readings of [start, end); return how many."""
    clock = FakeClock(start, trusted=True)
    buffer = await Buffer.open(path, clock)
    count = 0
    try:
        moment = start
        while moment < end:
            for place, quantity, value in _readings(household, moment, start):
                taken_at = BoxTime(buffer.boot, clock.boottime_ms())
                buffer.put(channel_key(place, quantity), taken_at, value)
                count += 1
            await clock.advance(POWER_EVERY)
            moment += POWER_EVERY
            if (moment - start) % COMMIT_EVERY == timedelta(0):
                await buffer.commit()
    finally:
        await buffer.close()
    return count


def _readings(
    household: Household, moment: datetime, start: datetime
) -> Iterator[tuple[Place, str, float]]:
    for place in PLACES:
        yield place, "active_power", household.power_w(place, moment)
        if (moment - start) % COUNTER_EVERY == timedelta(0):
            yield place, "active_energy", household.energy_kwh(place, moment)
            yield place, "voltage", household.voltage_v(moment)
            yield place, "current", household.current_a(place, moment)
