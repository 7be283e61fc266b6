from datetime import timedelta

from edge.devices.zwave.channels import MeterValue, Product
from edge.devices.zwave.metering import Metering, Silent
from edge.model import BoxTime, Channel, Direction, Quantity, Reading
from tests.house.fake_clock import FakeClock

PRODUCT = Product(0x0086, 0x0002, 0x005F)
W = MeterValue(1, 1 << 16 | 2 << 8 | 1)
KWH = MeterValue(1, 1 << 16 | 0 << 8 | 1)
V = MeterValue(1, 1 << 16 | 4 << 8 | 1)
KVAR = MeterValue(1, 1 << 16 | 7 << 8 | 1)
MINUTE = timedelta(minutes=1)


class Notes:
    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.readings: list[Reading] = []
        self.announced: list[list[Channel]] = []

    def offer(self, reading: Reading) -> None:
        self.readings.append(reading)

    def announce(self, channels: object) -> None:
        self.announced.append(list(channels))  # type: ignore[call-overload]

    def now(self) -> BoxTime:
        return BoxTime(7, self._clock.boottime_ms())


class House:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.notes = Notes(self.clock)
        self.metering = Metering(self.notes, self.clock)

    def has(self, *values: MeterValue, node: int = 2, every: timedelta = MINUTE) -> None:
        intervals = {(1, q, Direction.IMPORT): every for q in Quantity}
        self.metering.node_has(node, f"home-{node}", "Meter", PRODUCT, values, intervals)


async def test_report_is_stamped_when_it_comes_and_the_same_value_counts_again() -> None:
    house = House()
    house.has(W)
    await house.clock.advance(timedelta(seconds=5))
    house.metering.report(2, W, 100)
    await house.clock.advance(timedelta(seconds=5))
    house.metering.report(2, W, 100)
    assert [(r.taken_at, r.value) for r in house.notes.readings] == [
        (BoxTime(7, 5000), 100),
        (BoxTime(7, 10000), 100),
    ]


def test_values_come_in_the_unit_of_their_channel() -> None:
    house = House()
    house.has(KVAR)
    house.metering.report(2, KVAR, 1.5)
    assert house.notes.readings[0].value == 1500


def test_channels_are_announced_only_when_they_change() -> None:
    house = House()
    house.has(W, KWH)
    house.has(W, KWH)
    assert len(house.notes.announced) == 1
    house.has(W, KWH, every=2 * MINUTE)
    assert len(house.notes.announced) == 2
    assert house.notes.announced[-1][0].report_interval == 2 * MINUTE


def test_report_of_a_device_that_left_is_no_reading() -> None:
    house = House()
    house.has(W)
    house.metering.node_gone(2)
    house.metering.report(2, W, 100)
    assert house.notes.readings == []


async def test_what_was_never_heard_is_asked_first_then_the_longest_silent() -> None:
    house = House()
    house.has(W, KWH)
    house.metering.report(2, W, 1)
    await house.clock.advance(MINUTE)
    house.metering.report(2, KWH, 1)
    house.has(W, node=3)
    await house.clock.advance(MINUTE)
    assert house.metering.silent() == [Silent(3, W), Silent(2, W)]


async def test_channel_asked_in_vain_waits_before_it_is_asked_again() -> None:
    house = House()
    house.has(W)
    house.metering.asked(Silent(2, W))
    assert house.metering.silent() == []
    await house.clock.advance(2 * MINUTE)
    assert house.metering.silent() == [Silent(2, W)]


def test_voltage_is_not_worth_asking_for() -> None:
    house = House()
    house.has(V)
    assert house.metering.silent() == []


async def test_new_session_does_not_ask_what_was_heard_just_before() -> None:
    house = House()
    house.has(W)
    house.metering.report(2, W, 1)
    house.has(W)  # the snapshot of the next session
    assert house.metering.silent() == []
