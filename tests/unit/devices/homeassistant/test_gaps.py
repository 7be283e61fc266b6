"""What the box did not see itself, from Home Assistant's statistics."""

from datetime import UTC, datetime, timedelta
from typing import Any

from edge.devices.homeassistant.entities import COUNTER_INTERVAL, POWER_INTERVAL, STATISTICS_ROW
from edge.devices.homeassistant.gaps import KEPT, LATE, PIECE_READINGS, Gaps
from edge.model import Channel, Kind, Quantity
from tests.house.family_bench import KeptIntake, SteppedClock
from tests.house.paper_notebook import PaperNotebook

TICK = timedelta(seconds=5)
POWER = Channel(
    "homeassistant",
    "d",
    "1",
    Quantity.ACTIVE_POWER,
    Kind.INSTANTANEOUS,
    report_interval=POWER_INTERVAL,
)
ENERGY = Channel(
    "homeassistant",
    "d",
    "2",
    Quantity.ACTIVE_ENERGY,
    Kind.COUNTER,
    report_interval=COUNTER_INTERVAL,
)
CHANNELS = {"sensor.power": POWER, "sensor.energy": ENERGY}


class Statistics:
    """Stands where the connection is: five-minute rows for whatever is asked, a watt a minute."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    async def ask(self, kind: str, **fields: Any) -> Any:
        assert kind == "recorder/statistics_during_period"
        self.asked.append(fields)
        start = datetime.fromisoformat(fields["start_time"])
        end = datetime.fromisoformat(fields["end_time"])
        rows = []
        while start < end:
            value = watts(start)
            rows.append(
                {
                    "start": start.timestamp() * 1000,
                    "end": (start + STATISTICS_ROW).timestamp() * 1000,
                    "mean": value,
                    "state": value,
                }
            )
            start += STATISTICS_ROW
        return dict.fromkeys(fields["statistic_ids"], rows)


def watts(start: datetime) -> float:
    return float(start.timestamp() // 60 % 10_000)


class House:
    def __init__(self) -> None:
        self.clock = SteppedClock(datetime(2026, 3, 20, 12, 2, tzinfo=UTC))
        self.intake = KeptIntake(self.clock)
        self.notebook = PaperNotebook()
        self.statistics = Statistics()
        self.start()

    def start(self, *, wants_history: bool = True) -> None:
        self.gaps = Gaps(self.intake, self.clock, self.notebook, wants_history=wants_history)
        self.gaps.join()

    async def tick(self, times: int = 1, channels: Any = None) -> None:
        for _ in range(times):
            known = CHANNELS if channels is None else channels
            await self.gaps.tick(self.statistics, known)  # type: ignore[arg-type]
            self.clock.step_wall(timedelta(0))
            await self.clock.advance(TICK)

    async def until_done(self) -> None:
        for _ in range(1000):
            await self.tick()
            if self.gaps.done == 1.0:
                return
        raise AssertionError("it does not end")

    async def settled(self) -> None:
        """As a box that has run for a while: nothing is missing."""
        await self.until_done()
        await self.clock.advance(LATE)
        await self.tick()
        await self.until_done()
        self.intake.readings.clear()
        self.statistics.asked.clear()


async def test_first_time_ten_days_are_read_in_small_pieces_the_newest_first() -> None:
    house = House()
    told = []
    while len(told) < 2 or house.gaps.done < 1.0:
        before = len(house.intake.readings)
        await house.tick()
        told.append(len(house.intake.readings) - before)
    assert max(told) <= PIECE_READINGS
    rows = KEPT // STATISTICS_ROW
    assert len(house.intake.of(POWER.key)) == 5 * (rows - 1)  # the row of now is not over
    assert len(house.intake.of(ENERGY.key)) == rows - 1
    newest = [reading.taken_at for reading in house.intake.of(ENERGY.key)]
    assert newest[0] > newest[-1]
    assert len(house.intake.values(POWER.key)) == 5 * (rows - 1)  # no row twice


async def test_history_of_a_channel_mapped_late_ends_where_the_boxs_own_begins() -> None:
    house = House()
    await house.settled()
    now = house.clock.wall_now()
    held = now - timedelta(hours=50)
    await house.gaps.want_history({POWER.key: held, ENERGY.key: None})
    await house.tick()
    assert 0.0 < house.gaps.done < 1.0  # shown with the devices
    await house.until_done()
    power, energy = house.intake.values(POWER.key), house.intake.values(ENERGY.key)
    assert min(power) < now - KEPT + 2 * STATISTICS_ROW
    assert held - 2 * STATISTICS_ROW < max(power) < held
    assert now - 2 * STATISTICS_ROW < max(energy) <= now
    assert all(power[at] == watts(at) for at in power if at.minute % 5 == 0)


async def test_history_that_a_restart_cuts_off_is_read_all_the_same() -> None:
    house = House()
    await house.settled()
    await house.gaps.want_history({POWER.key: None})
    await house.tick()
    await house.gaps.leave()
    house.start()
    await house.until_done()
    await house.until_done()
    assert min(house.intake.values(POWER.key)) < house.clock.wall_now() - KEPT + timedelta(hours=1)
    house.start()
    house.statistics.asked.clear()
    await house.settled()
    assert house.notebook.pages["homeassistant.history"] == {}


async def test_history_asked_for_twice_is_the_same_and_none_stays_none() -> None:
    house = House()
    await house.settled()
    held = house.clock.wall_now() - timedelta(hours=50)
    found = []
    for _ in range(2):
        house.intake.readings.clear()
        await house.gaps.want_history({POWER.key: held})
        await house.tick()
        await house.until_done()
        found.append(house.intake.values(POWER.key))
    common = found[0].keys() & found[1].keys()
    assert len(common) > 10_000
    assert all(found[0][at] == found[1][at] for at in common)
    house.start(wants_history=False)
    await house.settled()
    await house.gaps.want_history({POWER.key: held})
    await house.tick(3)
    assert house.statistics.asked == []


async def test_channel_that_is_gone_ends_its_history() -> None:
    house = House()
    await house.settled()
    await house.gaps.want_history({"homeassistant/x/1/active_power/import": None})
    await house.tick(2)
    assert house.statistics.asked == []
    assert house.gaps.done == 1.0


async def test_lost_connection_reads_the_gap_anew_and_the_history_on() -> None:
    house = House()
    await house.settled()
    await house.gaps.want_history({POWER.key: None})
    await house.tick()
    house.gaps.join()
    await house.until_done()
    await house.until_done()
    assert min(house.intake.values(POWER.key)) < house.clock.wall_now() - KEPT + timedelta(hours=1)
