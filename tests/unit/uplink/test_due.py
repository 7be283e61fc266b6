from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge.model import BoxTime, Channel, Kind, Quantity, Sample, Sensor, Slot, Term
from edge.store.buffer import Buffer
from edge.store.outbox import Outbox, Verdict
from edge.uplink.due import KEEP, DueSlots
from edge.uplink.resample import SETTLING
from tests.house.fake_clock import FakeClock

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIVE = timedelta(minutes=5)
MINUTE = timedelta(minutes=1)
COMMIT_EVERY = timedelta(seconds=30)
LAG = COMMIT_EVERY + SETTLING

type Samples = Mapping[str, Sequence[Sample]]

POWER = Channel(
    "zwave", "7", "1", Quantity.ACTIVE_POWER, Kind.INSTANTANEOUS, report_interval=MINUTE
)
GAS = Channel("p1", "m", "0", Quantity.GAS, Kind.COUNTER, report_interval=timedelta(hours=1))
CLOUD = Channel("smappee", "1", "1", Quantity.ACTIVE_ENERGY, Kind.INTERVAL, report_interval=FIVE)


def sensor(sensor_id: int, channel: Channel, unit: str = "kW") -> Sensor:
    return Sensor(sensor_id, channel.key, unit, FIVE, (Term(channel.key),))


class Box:
    """A buffer, an outbox and what fills it, on a clock that moves when told."""

    def __init__(self, buffer: Buffer, outbox: Outbox, clock: FakeClock) -> None:
        self.buffer, self.outbox, self.clock = buffer, outbox, clock
        self.sensors: list[Sensor] = [sensor(1, POWER)]
        self.channels = {channel.key: channel for channel in (POWER, GAS, CLOUD)}
        self.start()

    def start(self) -> None:
        """As after a restart of the agent."""
        self.due = DueSlots(
            self.buffer,
            self.outbox,
            lambda: self.sensors,
            lambda: self.channels,
            self.clock,
            commit_every=COMMIT_EVERY,
        )

    async def measure(self, minutes: int, value: float = 1000.0) -> None:
        """A power reading a minute on the box's clock, each committed."""
        for _ in range(minutes):
            stamp = BoxTime(self.buffer.boot, self.clock.boottime_ms())
            self.buffer.put(POWER.key, stamp, value)
            await self.clock.advance(MINUTE)
        await self.buffer.commit()

    async def told(self, channel: Channel, values: Iterable[tuple[datetime, float]]) -> None:
        for taken_at, value in values:
            self.buffer.put(channel.key, taken_at, value)
        await self.buffer.commit()

    async def round(self) -> None:
        await self.due.round()
        await self.buffer.commit()

    async def waiting(self) -> list[Slot]:
        """Every slot that is waiting; they are accepted by this."""
        slots: list[Slot] = []
        while batch := await self.outbox.next_batch(200, self.clock.wall_now()):
            slots += [row.slot for row in batch]
            await self.outbox.settle({row.row_id: (Verdict.ACCEPT, "") for row in batch})
            await self.buffer.commit()
        return sorted(slots, key=lambda slot: (slot.sensor_id, slot.start))


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    clock = FakeClock(NOON)
    buffer = await Buffer.open(tmp_path / "buffer.db", clock, commit_every=COMMIT_EVERY)
    yield Box(buffer, await Outbox.open(buffer), clock)
    await buffer.close()


def starts(slots: Sequence[Slot]) -> list[int]:
    """In minutes after noon."""
    return [(slot.start - NOON) // MINUTE for slot in slots]


async def test_slots_become_due_once_they_are_over_settled_and_committed(box: Box) -> None:
    await box.measure(10)
    await box.round()
    assert await box.waiting() == [Slot(1, NOON, FIVE, 1.0)]
    await box.clock.advance(LAG)
    await box.round()
    assert await box.waiting() == [Slot(1, NOON + FIVE, FIVE, 1.0)]


async def test_slot_is_made_once(box: Box) -> None:
    await box.measure(20)
    await box.round()
    assert starts(await box.waiting()) == [0, 5, 10]
    await box.round()
    box.start()
    await box.round()
    assert await box.waiting() == []


async def test_nothing_is_made_while_the_clock_is_not_trusted(box: Box) -> None:
    box.clock.trusted = False
    await box.measure(20)
    await box.round()
    assert await box.waiting() == []
    box.clock.trusted = True
    await box.round()
    assert starts(await box.waiting()) == [0, 5, 10]


async def test_week_offline_is_made_up_in_windows(box: Box) -> None:
    week = 7 * 24 * 60
    await box.told(CLOUD, [(NOON + n * FIVE, 0.1) for n in range(week // 5)])
    await box.clock.advance(timedelta(days=7) + LAG)
    box.sensors = [sensor(2, CLOUD)]
    await box.round()
    assert starts(await box.waiting()) == list(range(0, week, 5))


async def test_new_sensor_begins_with_the_oldest_reading_of_its_channels(box: Box) -> None:
    box.sensors = []
    await box.measure(30)
    await box.round()
    box.sensors = [sensor(9, POWER)]
    await box.round()
    assert starts(await box.waiting()) == [0, 5, 10, 15, 20]


async def test_sensor_without_readings_begins_now(box: Box) -> None:
    box.sensors = [sensor(2, CLOUD)]
    await box.clock.advance(timedelta(days=1))
    await box.round()
    await box.told(CLOUD, [(NOON + timedelta(days=1), 0.1)])
    await box.clock.advance(FIVE + LAG)
    await box.round()
    assert starts(await box.waiting()) == [24 * 60]


async def test_counter_sensor_waits_for_its_report_while_others_go_on(box: Box) -> None:
    box.sensors = [sensor(1, POWER), sensor(3, GAS, "m³")]
    await box.told(GAS, [(NOON, 100.0)])
    await box.measure(30)
    await box.round()
    assert {slot.sensor_id for slot in await box.waiting()} == {1}
    await box.measure(32)
    await box.told(GAS, [(NOON + timedelta(hours=1), 101.2)])
    await box.clock.advance(GAS.report_interval / 4)
    await box.round()
    gas = [slot for slot in await box.waiting() if slot.sensor_id == 3]
    assert starts(gas) == list(range(0, 60, 5))
    assert [slot.value for slot in gas] == pytest.approx([0.1] * 12)


async def test_sensor_that_waits_for_its_report_is_not_looked_at_each_round(box: Box) -> None:
    box.sensors = [sensor(3, GAS, "m³")]
    await box.told(GAS, [(NOON, 100.0)])
    await box.clock.advance(timedelta(hours=1))
    await box.round()
    await box.told(GAS, [(NOON + timedelta(hours=1), 101.2)])
    await box.round()
    assert await box.waiting() == []
    await box.clock.advance(GAS.report_interval / 4)
    await box.round()
    assert len(await box.waiting()) == 12


async def test_years_without_readings_are_passed_in_one_step(box: Box) -> None:
    """A clock that was wrong once must not cost a look at every two hours since."""
    looked: list[datetime] = []
    samples = box.buffer.samples

    async def counted(keys: Collection[str], start: datetime, end: datetime) -> Samples:
        looked.append(start)
        return await samples(keys, start, end)

    box.buffer.samples = counted  # type: ignore[method-assign]  # looks on, changes nothing
    years_ago = NOON - timedelta(days=4000)
    box.sensors = [sensor(2, CLOUD), sensor(3, GAS, "m³")]
    await box.told(CLOUD, [(years_ago, 0.1), (NOON, 0.2), (NOON + FIVE, 0.3)])
    await box.told(GAS, [(years_ago, 7.0), (NOON, 10.0), (NOON + timedelta(hours=1), 11.2)])
    await box.clock.advance(timedelta(hours=1) + LAG)
    await box.round()
    slots = await box.waiting()
    assert [s.start for s in slots if s.sensor_id == 2] == [years_ago, NOON, NOON + FIVE]
    assert starts([s for s in slots if s.sensor_id == 3]) == list(range(0, 60, 5))
    assert len(looked) < 20


async def test_late_reading_fills_the_gap_it_left(box: Box) -> None:
    box.sensors = [sensor(2, CLOUD)]
    await box.told(CLOUD, [(NOON, 0.1), (NOON + 2 * FIVE, 0.1)])
    await box.clock.advance(timedelta(hours=2))
    await box.round()
    assert starts(await box.waiting()) == [0, 10]
    await box.told(CLOUD, [(NOON + FIVE, 0.2)])
    await box.round()
    assert await box.waiting() == [Slot(2, NOON + FIVE, FIVE, pytest.approx(2.4))]


async def test_late_reading_survives_a_restart_before_its_slot_is_made(box: Box) -> None:
    box.sensors = [sensor(2, CLOUD)]
    await box.told(CLOUD, [(NOON, 0.1)])
    await box.clock.advance(timedelta(hours=2))
    await box.round()
    await box.told(CLOUD, [(NOON + FIVE, 0.2)])
    box.start()
    await box.round()
    assert starts(await box.waiting()) == [0, 5]


async def test_value_that_its_source_corrects_becomes_a_correction(box: Box) -> None:
    box.sensors = [sensor(2, CLOUD)]
    await box.told(CLOUD, [(NOON, 0.1)])
    await box.clock.advance(timedelta(hours=2))
    await box.round()
    await box.waiting()
    await box.told(CLOUD, [(NOON, 0.3)])
    await box.round()
    (row,) = await box.outbox.next_batch(200, box.clock.wall_now())
    assert row.slot.value == pytest.approx(3.6)
    assert row.prior == box.clock.wall_now()


async def test_late_reading_that_comes_while_catching_up_is_not_lost(box: Box) -> None:
    box.sensors = [sensor(2, CLOUD)]
    await box.told(CLOUD, [(NOON + timedelta(hours=5), 0.1)])
    await box.clock.advance(timedelta(hours=6))
    await box.round()
    await box.told(CLOUD, [(NOON, 0.1)])
    marks = await box.buffer.late()
    await box.told(CLOUD, [(NOON + timedelta(hours=2), 0.1)])  # after the round has asked
    await box.buffer.late_done(marks)
    assert await box.buffer.late() == {CLOUD.key: NOON + timedelta(hours=2)}


async def test_clock_that_was_ahead_and_is_set_back_blocks_nothing(box: Box) -> None:
    await box.measure(10)
    box.clock.step_wall(timedelta(hours=3))
    await box.measure(10)
    await box.round()
    await box.waiting()
    box.clock.step_wall(timedelta(hours=-3))
    await box.buffer.note_time()
    await box.measure(20)
    await box.round()
    assert [minute for minute in starts(await box.waiting()) if minute < 60] == [20, 25, 30]


async def test_clock_that_was_behind_and_is_set_forward_leaves_a_gap(box: Box) -> None:
    await box.measure(10)
    await box.round()
    box.clock.step_wall(timedelta(hours=3))
    await box.buffer.note_time()
    await box.measure(10)
    await box.round()
    assert starts(await box.waiting()) == [0, 5, 190]


async def test_boot_without_a_clock_gets_its_time_later(box: Box) -> None:
    """Nothing that was read before the clock was trusted is lost."""
    await box.measure(10)
    box.clock.trusted = False
    await box.measure(10)
    await box.round()
    assert await box.waiting() == []
    box.clock.trusted = True
    await box.measure(5)
    await box.round()
    assert starts(await box.waiting()) == [0, 5, 10, 15]


async def test_mapping_that_changes_is_picked_up_without_a_restart(box: Box) -> None:
    await box.measure(10)
    await box.round()
    box.sensors = [sensor(1, POWER), sensor(8, POWER, "W")]
    await box.round()
    assert [(s.sensor_id, s.value) for s in await box.waiting()] == [(1, 1.0), (8, 1000.0)]


async def test_history_of_a_sensor_mapped_late_is_made_though_it_is_beyond_the_horizon(
    box: Box,
) -> None:
    """Home Assistant's means of ten days, told after the box has fed a sensor from its own."""
    box.sensors = [sensor(1, POWER)]
    await box.measure(30)
    await box.clock.advance(KEEP + timedelta(hours=6))
    await box.measure(60)
    for _ in range(3):  # slots leave, then readings do
        await box.round()
        await box.waiting()
        await box.clock.advance(timedelta(hours=2))
    days = timedelta(days=5)
    rows = [NOON - days + n * MINUTE for n in range(12 * 60)]
    await box.told(POWER, [(taken_at, 700.0) for taken_at in rows])
    await box.round()
    slots = await box.waiting()
    assert [slot.start for slot in slots] == rows[::5]
    assert {slot.value for slot in slots} == {0.7}
    box.start()
    await box.told(POWER, [(NOON - days / 2 + n * MINUTE, 800.0) for n in range(60)])
    await box.round()
    assert len(await box.waiting()) == 12


async def test_late_mean_beyond_the_horizon_is_not_made_of_what_is_left(box: Box) -> None:
    await box.measure(30)
    await box.clock.advance(KEEP + timedelta(hours=6))
    for _ in range(3):
        await box.round()
        await box.waiting()
        await box.clock.advance(timedelta(hours=2))
    await box.told(POWER, [(NOON + n * MINUTE, 1.0) for n in range(10)])
    await box.round()
    assert await box.waiting() == []


async def test_sensor_that_cannot_be_fed_is_named_and_holds_nobody_up(box: Box) -> None:
    box.sensors = [sensor(4, POWER, "EUR"), sensor(1, POWER)]
    await box.measure(10)
    await box.round()
    assert starts(await box.waiting()) == [0]
    assert "cannot compute the unit" in box.due.faults[4]
    box.sensors = [sensor(4, POWER, "W"), sensor(1, POWER)]
    await box.round()
    assert box.due.faults == {}
    assert [slot.sensor_id for slot in await box.waiting()] == [4]


async def test_readings_leave_two_days_after_their_slots_were_told(box: Box) -> None:
    await box.measure(30)
    await box.clock.advance(KEEP + timedelta(hours=2))
    await box.round()
    assert (await box.buffer.stats()).stored == 30  # their slots still wait
    await box.waiting()
    await box.clock.advance(timedelta(hours=2))
    await box.round()
    assert (await box.buffer.stats()).stored == 0


async def test_readings_of_a_sensor_that_cannot_be_fed_stay_for_a_person_to_act(box: Box) -> None:
    box.sensors = [sensor(1, POWER), sensor(4, POWER, "EUR")]
    await box.measure(30)
    await box.clock.advance(KEEP + timedelta(hours=2))
    await box.round()
    await box.waiting()
    await box.clock.advance(timedelta(hours=2))
    await box.round()
    assert (await box.buffer.stats()).stored == 30


async def test_box_that_is_paired_anew_makes_its_slots_again(box: Box) -> None:
    await box.measure(20)
    await box.round()
    assert starts(await box.waiting()) == [0, 5, 10]
    await box.outbox.forget_all()
    await box.round()
    assert starts(await box.waiting()) == [0, 5, 10]
