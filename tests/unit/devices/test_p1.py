"""A DSMR P1 port, against telegrams that meters said."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge.devices import load, p1, stick
from edge.errors import ConfigFault, EdgeError, Malformed, Refused, Unreachable
from edge.model import Kind, Quantity
from tests.house.family_bench import PATIENCE_S, KeptIntake, SteppedClock
from tests.house.p1_meter import DUMPS, P1Meter
from tests.house.paper_notebook import PaperNotebook

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
METER = "p1/3153414731313030303037313930/0"


def told(dump: str) -> dict[str, float]:
    """Channel key without family and device → value."""
    text = (DUMPS / f"{dump}.txt").read_bytes().decode("ascii")
    return {
        channel.key.split("/", 2)[2]: reading.value for channel, reading in p1.readings(text, NOW)
    }


@pytest.mark.parametrize("dump", ["dsmr42", "dsmr5", "emucs-be"])
def test_recorded_telegram_bears_its_own_checksum(dump: str) -> None:
    said = (DUMPS / f"{dump}.txt").read_bytes()
    whole, _, checked = said.partition(b"!")
    assert p1.crc(whole + b"!") == int(checked, 16)


def test_three_phases_import_export_and_gas() -> None:
    assert told("dsmr42") == {
        "0/active_power/import": 2027.0,
        "0/active_power/export": 0.0,
        "0/active_energy/import": 3016.829,
        "0/active_energy/export": 0.0,
        "L1/active_power/import": 170.0,
        "L2/active_power/import": 1247.0,
        "L3/active_power/import": 209.0,
        "L1/active_power/export": 0.0,
        "L2/active_power/export": 0.0,
        "L3/active_power/export": 0.0,
        "0/gas/import": 981.443,
    }


def test_belgian_meter_that_sends_back() -> None:
    assert told("emucs-be") == {
        "0/active_power/import": 0.0,
        "0/active_power/export": 198.0,
        "0/active_energy/import": 470.871,
        "0/active_energy/export": 184.943,
        "0/gas/import": 71.724,
    }


def test_gas_bears_the_time_of_its_own_meter() -> None:
    text = (DUMPS / "emucs-be.txt").read_text("ascii")
    [(channel, reading)] = [x for x in p1.readings(text, NOW) if x[0].quantity is Quantity.GAS]
    assert reading.taken_at == datetime(2019, 9, 5, 12, 20, 1, tzinfo=UTC)  # summer: UTC+2
    assert (channel.kind, channel.unit) == (Kind.COUNTER, "m³")


def test_phases_and_counters_repeat_the_whole() -> None:
    text = (DUMPS / "dsmr5.txt").read_text("ascii")
    repeats = {c.key.split("/", 2)[2]: c.repeats for c, _ in p1.readings(text, NOW)}
    assert repeats["0/active_power/import"] is None
    assert (repeats["L2/active_power/import"] or "").endswith("/0/active_power/import")
    assert (repeats["0/active_energy/export"] or "").endswith("/0/active_power/export")


@pytest.mark.parametrize(
    ("old", "new"), [("00.198*kW", "00.198*kX"), ("00.198*kW", ""), ("00.198*kW", "?*kW")]
)
def test_value_without_sense_is_malformed(old: str, new: str) -> None:
    text = (DUMPS / "emucs-be.txt").read_text("ascii").replace(old, new)
    with pytest.raises(Malformed):
        list(p1.readings(text, NOW))


def test_gas_meter_without_a_reading_yet_is_left_out() -> None:
    text = (DUMPS / "emucs-be.txt").read_text("ascii").replace("190905142001S", "000000000000W")
    assert not [c for c, _ in p1.readings(text, NOW) if c.quantity is Quantity.GAS]


class House:
    def __init__(self, meter: P1Meter) -> None:
        self.meter = meter
        self.clock = SteppedClock(datetime(2019, 9, 5, 12, 23, tzinfo=UTC))
        self.intake = KeptIntake(self.clock)
        self.failed = asyncio.Event()
        self.failures: list[EdgeError] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[p1.P1]:
        family = p1.create(
            {"port": self.meter.path}, {}.get, self.intake, self.clock, PaperNotebook()
        )

        async def keep() -> None:
            try:
                await family.run()
            except EdgeError as problem:
                self.failures.append(problem)
                self.failed.set()

        task = asyncio.create_task(keep())
        await asyncio.sleep(0)  # the port is opened, and what it held is thrown away
        try:
            yield family
        finally:
            task.cancel()
            await asyncio.wait([task])


@pytest.fixture
def house() -> House:
    return House(P1Meter())


async def test_telegrams_arrive_and_gas_is_not_said_twice(house: House) -> None:
    async with house.running() as family:
        house.meter.say()
        await house.intake.until(lambda: len(house.intake.readings) == 5)
        await house.clock.advance(timedelta(seconds=10))
        house.meter.say(("00.198", "00.250"))
        await house.intake.until(lambda: len(house.intake.readings) == 9)
        device, gas = family.devices()
    assert [r.value for r in house.intake.of(f"{METER}/active_power/export")] == [198.0, 250.0]
    assert len(house.intake.of("gas")) == 1
    assert (device.model, device.name, gas.name) == (
        "FLU5\\253770234_A",
        "Smart meter",
        "Gas meter",
    )
    assert not house.intake.unannounced


async def test_telegram_each_second_wears_the_card_no_more_than_one_in_ten(house: House) -> None:
    async with house.running():
        for _ in range(9):
            house.meter.say()
            await house.intake.until(lambda: bool(house.intake.readings))
            await house.clock.advance(timedelta(seconds=1))
    assert len(house.intake.readings) == 5


async def test_damaged_telegram_is_left_out_and_many_are_said(house: House) -> None:
    async with house.running():
        house.meter.say(damaged=True)
        house.meter.say()
        await house.intake.until(lambda: len(house.intake.readings) == 5)
        for _ in range(6):
            house.meter.say(damaged=True)
        async with asyncio.timeout(PATIENCE_S):
            await house.failed.wait()
    assert isinstance(house.failures[0], Malformed)


async def test_unplugged_cable_is_unreachable(house: House) -> None:
    async with house.running():
        house.meter.say()
        await house.intake.until(lambda: bool(house.intake.readings))
        house.meter.unplug()
        async with asyncio.timeout(PATIENCE_S):
            await house.failed.wait()
    assert isinstance(house.failures[0], Unreachable)


async def test_meter_that_nobody_listens_to_holds_nobody_up(house: House) -> None:
    for _ in range(100):  # more than the line holds
        house.meter.say()
    async with house.running():
        house.meter.say()
        await house.intake.until(lambda: bool(house.intake.readings))


async def test_port_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="unplugged"):
        await anext(p1.telegrams(str(tmp_path / "nothing")))


async def test_check_tells_what_the_meter_has(house: House) -> None:
    async with asyncio.TaskGroup() as tasks:
        checking = tasks.create_task(p1.check({"port": house.meter.path}, {}.get, house.clock))
        await asyncio.sleep(0)
        house.meter.say()
    assert len(checking.result().channels) == 5


async def test_cables_are_offered_by_a_name_that_stays(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a Z-Wave stick ttyUSB0 is the one today and the other tomorrow."""
    monkeypatch.setattr(p1, "BY_ID", tmp_path / "by-id")
    with pytest.raises(Refused, match="plug the P1 cable"):
        await p1.check({}, {}.get, house.clock)
    lasting = tmp_path / "by-id/usb-FTDI_FT232R_USB_UART_A10K-if00-port0"
    lasting.parent.mkdir()
    lasting.symlink_to(house.meter.path)
    found = await p1.check({"port": ""}, {}.get, house.clock)
    assert [(c.field, c.value, c.label) for c in found.choices] == [
        ("port", str(lasting), lasting.name)
    ]


async def test_who_looks_for_a_stick_meanwhile_takes_no_telegram(house: House) -> None:
    """An FTDI cable may be a Z-Wave stick by its USB ids."""
    async with house.running():
        port = stick.Port(Path(house.meter.path), Path(house.meter.path), "")
        assert isinstance(await stick.probe(port), stick.Busy)


def test_water_is_told_as_water() -> None:
    text = (DUMPS / "emucs-be.txt").read_text("ascii").replace("24.1.0(003)", "24.1.0(007)")
    [channel] = [c for c, _ in p1.readings(text, NOW) if c.unit == "m³"]
    assert channel.quantity is Quantity.WATER


def test_port_is_asked_for(house: House) -> None:
    with pytest.raises(ConfigFault, match="port"):
        p1.create({}, {}.get, house.intake, house.clock, PaperNotebook())


def test_family_is_found_by_its_name() -> None:
    assert load("p1") is p1


def test_a_family_is_a_small_job() -> None:
    """One file, one fake, one dump and its words: what docs/add-a-family.md promises."""
    root = Path(__file__).parents[3]
    parts = (
        "edge/devices/p1.py",
        "tests/house/p1_meter.py",
        "tests/dumps/dsmr/emucs-be.txt",
        "edge/setup_page/locale/families/p1.json",
    )
    lines = sum(len((root / part).read_text("utf-8").splitlines()) for part in parts)
    assert lines <= 250
