"""A DSMR P1 port: the smart meter's own socket in the Netherlands and Belgium.

It says a telegram every second or ten. Sources: P1 Companion Standard 5.0.2, e-MUCS P1 1.7.1.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from edge import model
from edge.clock import Clock
from edge.errors import Malformed, Refused, Unreachable
from edge.family import Answers, Choice, Field, FieldKind, Found, GetSecret, Notebook
from edge.model import Channel, Device, DeviceState, Direction, Kind, Quantity, Reading

BY_ID = Path("/dev/serial/by-id")  # names that a cable keeps, whatever is plugged in beside it
EVERY = timedelta(seconds=10)  # what a DSMR 4 meter does; more would only wear the card
SILENT_AFTER_S = 25.0  # two telegrams of the slowest meter missed
TELEGRAM_BYTES_MAX = 8192
_TELEGRAM = re.compile(rb"(/[^/!]*!)([0-9A-F]{4})\r?\n")
_LINE = re.compile(r"^(\d-\d+:\d+\.\d+\.\d+)((?:\([^()\r\n]*\))+)", re.MULTILINE)
_SCALES = {"kW": 1000.0, "W": 1.0, "kWh": 1.0, "Wh": 0.001, "m3": 1.0}  # → W, kWh, m³
_MBUS = {"003": Quantity.GAS, "007": Quantity.WATER}

fields = (Field("port", FieldKind.TEXT, "p1.port"),)


def create(
    config: Mapping[str, Any], secret: GetSecret, intake: model.Intake, clock: Clock, _: Notebook
) -> "P1":
    """The family as configured."""
    return P1(_port(config, secret), intake, clock)


def _port(config: Mapping[str, Any], secret: GetSecret) -> str:
    answers = Answers("p1", fields, config, secret)
    port = answers.text("port")
    answers.settle()
    return port


async def check(config: Mapping[str, Any], secret: GetSecret, clock: Clock) -> Found:
    """Without a port: the USB cables there are. With one: what the next telegram tells."""
    if not config.get("port"):
        ports = await asyncio.to_thread(lambda: sorted(BY_ID.glob("*")))
        if not ports:
            raise Refused("no serial port found: plug the P1 cable into the box")
        return Found((), (), tuple(Choice("port", str(p), p.name, False) for p in ports))
    async with aclosing(telegrams(_port(config, secret))) as heard:
        telegram = await anext(heard)
    found = list(readings(telegram, clock.wall_now()))
    return Found(tuple(c for c, _ in found), tuple(_devices(telegram, found, clock)))


class P1:
    """Meter behind one P1 port."""

    family = "p1"

    def __init__(self, port: str, intake: model.Intake, clock: Clock) -> None:
        self._port, self._intake, self._clock = port, intake, clock
        self._devices: list[Device] = []
        self._due_ms, self._last = 0, dict[str, Reading]()

    def devices(self) -> list[Device]:
        return self._devices

    async def run(self) -> None:
        async for telegram in telegrams(self._port):
            if (now_ms := self._clock.boottime_ms()) < self._due_ms:
                continue
            self._due_ms = now_ms + EVERY // timedelta(milliseconds=1)
            found = list(readings(telegram, self._intake.now()))
            self._devices = _devices(telegram, found, self._clock)
            self._intake.announce([channel for channel, _ in found])
            for _, reading in found:
                if self._last.get(reading.channel_key) != reading:  # gas is repeated for minutes
                    self._intake.offer(reading)
                self._last[reading.channel_key] = reading


async def telegrams(port: str) -> AsyncGenerator[str]:
    """Whole telegrams, CRC checked. Raises Unreachable when the meter or the cable is silent."""
    import serial

    try:
        line = serial.Serial(port, 115_200, timeout=0, exclusive=True)
    except (serial.SerialException, OSError) as problem:
        raise Unreachable(f"{port} cannot be opened: P1 cable unplugged, or in use?") from problem
    arrived, heard, damaged = asyncio.Event(), b"", 0
    asyncio.get_running_loop().add_reader(line.fileno(), arrived.set)
    try:
        while True:
            async with asyncio.timeout(SILENT_AFTER_S):
                await arrived.wait()
            arrived.clear()
            heard = (heard + line.read(TELEGRAM_BYTES_MAX))[-TELEGRAM_BYTES_MAX:]
            while found := _TELEGRAM.search(heard):
                heard = heard[found.end() :]
                damaged = 0 if found[2] == b"%04X" % crc(found[1]) else damaged + 1
                if damaged > 5:  # in a row
                    raise Malformed("the P1 telegrams are damaged: check cable and speed")
                if not damaged:
                    yield found[0].decode("ascii", "replace")
    except TimeoutError as problem:
        raise Unreachable("the P1 port says nothing: is the cable in the meter?") from problem
    except (serial.SerialException, OSError) as problem:
        raise Unreachable(f"the P1 cable at {port} was unplugged") from problem
    finally:
        asyncio.get_running_loop().remove_reader(line.fileno())
        line.close()


def readings(telegram: str, now: model.BoxTime | datetime) -> Iterator[tuple[Channel, Reading]]:
    """Every channel of a telegram and its value; gas and water bear their meter's own time."""
    said = {obis: re.findall(r"\(([^()]*)\)", told) for obis, told in _LINE.findall(telegram)}
    meter = (said.get("0-0:96.1.1") or [""])[0] or "meter"
    power, energy, holds = Quantity.ACTIVE_POWER, Quantity.ACTIVE_ENERGY, Kind.INSTANTANEOUS
    for way, code in ((Direction.IMPORT, 1), (Direction.EXPORT, 2)):
        total = Channel("p1", meter, "0", power, holds, way, EVERY).key
        for endpoint, phase in (("0", 0), ("L1", 20), ("L2", 40), ("L3", 60)):
            if told := said.get(f"1-0:{phase + code}.7.0"):
                same = total if phase else None
                part = Channel("p1", meter, endpoint, power, holds, way, EVERY, "", same)
                yield part, Reading(part.key, now, _amount(told[0]))
        tariffs = [said[name][0] for t in range(1, 5) if (name := f"1-0:{code}.8.{t}") in said]
        if counted := tariffs or said.get(f"1-0:{code}.8.0"):
            counter = Channel("p1", meter, "0", energy, Kind.COUNTER, way, EVERY, "", total)
            yield counter, Reading(counter.key, now, round(sum(map(_amount, counted)), 3))
    for bus in range(1, 5):
        kind = _MBUS.get(said.get(f"0-{bus}:24.1.0", [""])[0])
        told = said.get(f"0-{bus}:24.2.1") or said.get(f"0-{bus}:24.2.3") or []
        if kind and len(told) == 2 and (taken_at := _moment(told[0])):
            name = (said.get(f"0-{bus}:96.1.0") or said.get(f"0-{bus}:96.1.1") or [str(bus)])[0]
            flow = Channel("p1", name, "0", kind, Kind.COUNTER, report_interval=timedelta(hours=1))
            yield flow, Reading(flow.key, taken_at, _amount(told[1]))


def crc(said: bytes) -> int:
    """CRC-16/ARC over everything from "/" to "!" inclusive."""
    value = 0
    for byte in said:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return value


def _amount(told: str) -> float:
    """ "00.244*kW" in the channel's unit."""
    number, _, unit = told.partition("*")
    try:
        return round(float(number) * _SCALES[unit], 3)
    except (KeyError, ValueError) as problem:
        raise Malformed(f"the meter says {told!r}") from problem


def _moment(stamp: str) -> datetime | None:
    """YYMMDDhhmmss, then S or W: summer or winter time of Amsterdam and Brussels."""
    try:
        local = datetime.strptime(stamp[:-1], "%y%m%d%H%M%S")  # noqa: DTZ007  # S or W says it
    except ValueError:
        return None
    return local.replace(tzinfo=timezone(timedelta(hours=1 + stamp.endswith("S")))).astimezone(UTC)


def _devices(telegram: str, found: Iterable[tuple[Channel, Reading]], clock: Clock) -> list[Device]:
    header, now = telegram[1:].partition("\r")[0], clock.wall_now()
    side = {c.device: f"{c.quantity} meter".capitalize() for c, _ in found if c.unit == "m³"}
    names = {c.device: side.get(c.device, "Smart meter") for c, _ in found}
    return [Device("p1", d, name, header, DeviceState.ALIVE, now) for d, name in names.items()]
