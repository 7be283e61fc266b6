"""Sticks, bytes and all, without a port: a scripted line stands where the stick would."""

import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.devices.stick import (
    Absent,
    Bootloader,
    Busy,
    Deaf,
    Found,
    NoPermission,
    Outcome,
    Port,
    SerialApi,
    cannot_open,
    find,
    ports,
)

PORT = Port(Path("/dev/serial/by-id/usb-0658_0200-if00"), Path("/dev/ttyACM0"), "")
ACK, NAK = b"\x06", b"\x15"

VERSION = b"Z-Wave 7.18\0\x01"
ANSWERS = {
    0x15: VERSION,
    0x20: bytes.fromhex("7e570001") + b"\x01",
    0x07: bytes([7, 18, 0, 0x86, 0, 1, 0, 0x5A]),
}


def frame(function: int, payload: bytes) -> bytes:
    body = bytes([len(payload) + 3, 1, function]) + payload
    checksum = 0xFF
    for byte in body:
        checksum ^= byte
    return b"\x01" + body + bytes([checksum])


class Line:
    """A serial line to a stick with these answers. Each empty read costs its time-out."""

    def __init__(
        self, answers: Mapping[int, bytes], *, menu: bytes = b"", damaged: int = 0
    ) -> None:
        self._answers = answers
        self._menu = menu
        self._damaged = damaged  # so many frames arrive with a flipped bit
        self._coming = b""
        self._time_s = 0.0
        self.written: list[bytes] = []

    def monotonic_s(self) -> float:
        return self._time_s

    def read(self, size: int = 1) -> bytes:
        now, self._coming = self._coming[:size], self._coming[size:]
        self._time_s += 0 if now else 0.2
        return now

    def write(self, data: bytes, /) -> int:
        self.written.append(data)
        if data == b"\n":
            self._coming += self._menu
        elif data[0] == 1 and data[3] in self._answers:
            self._answer(data[3])
        elif data == NAK and len(self.written) > 2:
            self._answer(self.written[-2][3])
        return len(data)

    def _answer(self, function: int) -> None:
        said = frame(function, self._answers[function])
        if self._damaged:
            self._damaged -= 1
            said = said[:-1] + bytes([said[-1] ^ 4])
        self._coming += ACK + said

    def flush(self) -> None: ...

    def reset_input_buffer(self) -> None:
        self._coming = b""


def asked(line: Line, port: Port = PORT) -> Outcome:
    return SerialApi(line, line.monotonic_s).interrogate(port)


def test_controller_tells_home_id_and_firmware() -> None:
    assert asked(Line(ANSWERS)) == Found(PORT.path, "Z-Wave controller", "7e570001", "7.18")


def test_each_answer_is_acknowledged() -> None:
    line = Line(ANSWERS)
    asked(line)
    assert line.written.count(ACK) == 3


def test_damaged_answer_is_asked_for_again() -> None:
    line = Line(ANSWERS, damaged=1)
    assert isinstance(asked(line), Found)
    assert NAK in line.written[1:]


def test_silent_line_is_deaf() -> None:
    assert asked(Line({})) == Deaf(PORT.path)


def test_other_serial_device_is_no_stick() -> None:
    assert asked(Line({0x15: b"EZSP 8.0\0\x01"})) == Deaf(PORT.path)


def test_stick_that_waits_for_firmware_says_so() -> None:
    line = Line({}, menu=b"\r\nGecko Bootloader v1.12.00\r\n1. upload gbl\r\nBL > ")
    assert asked(line) == Bootloader(PORT.path)


@pytest.mark.parametrize(
    ("problem", "outcome"),
    [
        (OSError(errno.ENOENT, "No such file or directory"), Absent),
        (OSError(errno.EACCES, "Permission denied"), NoPermission),
        (OSError(errno.EBUSY, "Device or resource busy"), Busy),
        (OSError("Could not exclusively lock port /dev/ttyACM0"), Busy),
        (OSError(errno.EIO, "Input/output error"), Deaf),
    ],
)
def test_each_failure_to_open_is_told_apart(problem: OSError, outcome: type[Outcome]) -> None:
    found = cannot_open(PORT.path, problem)
    assert isinstance(found, outcome)
    assert str(PORT.path) in found.sentence


async def test_chosen_port_that_is_not_there_is_absent(tmp_path: Path) -> None:
    assert await find(tmp_path / "nothing") == [Absent(tmp_path / "nothing")]


@dataclass
class Usb:
    device: str
    vid: int | None
    pid: int | None
    description: str | None = "n/a"
    manufacturer: str | None = None


def listed(tmp_path: Path, *usb: Usb) -> list[Port]:
    return ports(lambda: usb, by_id=tmp_path)


def test_port_is_named_by_its_lasting_path(tmp_path: Path) -> None:
    device = tmp_path / "ttyACM0"
    device.touch()
    by_id = tmp_path / "by-id"
    by_id.mkdir()
    (by_id / "usb-0658_0200-if00").symlink_to(device)
    (port,) = listed(by_id, Usb(str(device), 0x0658, 0x0200))
    assert port.path == by_id / "usb-0658_0200-if00"
    assert port.is_stick_by_name


def test_generic_bridge_is_a_stick_only_if_its_description_says_so(tmp_path: Path) -> None:
    bridges = [
        Usb("/dev/ttyUSB0", 0x10C4, 0xEA60, "CP2102N USB to UART"),
        Usb("/dev/ttyUSB1", 0x10C4, 0xEA60, "SONOFF_ZWave_Dongle"),
    ]
    by_name = {port.device.name: port.is_stick_by_name for port in listed(tmp_path, *bridges)}
    assert by_name == {"ttyUSB0": False, "ttyUSB1": True}


def test_port_without_known_usb_ids_is_never_a_candidate(tmp_path: Path) -> None:
    unknown: Iterable[Usb] = [Usb("/dev/ttyS0", None, None), Usb("/dev/ttyUSB0", 0x1234, 0x5678)]
    assert [port.known for port in listed(tmp_path, *unknown)] == [None, None]
