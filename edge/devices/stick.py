"""Finds Z-Wave sticks, and says what is wrong with one that cannot be used.

A stick is named by its path under /dev/serial/by-id, which survives re-plugging. USB ids alone
prove nothing where a generic serial bridge is inside, so ports with such ids are asked by the
Serial API whether a Z-Wave controller is behind them; other ports are asked only if a person chose
them. While the driver holds a stick it is left alone. Blocking work runs in a thread, and pyserial
is loaded only where a port is looked at.
"""

import asyncio
import errno
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from operator import xor
from pathlib import Path
from typing import Protocol

BY_ID = Path("/dev/serial/by-id")
BAUD = 115_200

_SOF, _ACK, _NAK, _CAN = 0x01, 0x06, 0x15, 0x18
_RESPONSE = 0x01
_GET_CAPABILITIES, _GET_VERSION, _GET_ID = 0x07, 0x15, 0x20

_READ_S = 0.2
_WRITE_S = 1.0
_ANSWER_S = 1.6  # the Serial API's own limit for a response
_BOOTLOADER_S = 0.6
# A port that opens slowly or a driver that grabs it meanwhile; each read is bounded besides.
PROBE_WITHIN_S = 15.0


@dataclass(frozen=True, slots=True)
class Known:
    """What USB ids tell. `certain`: nothing else uses them. `like`: words in the description that
    make a generic bridge a Z-Wave stick. Unverified ids are from memory, not from a vendor's page.
    """

    name: str
    certain: bool = False
    like: tuple[str, ...] = ()
    verified: bool = True


_KNOWN: dict[tuple[int, int], Known] = {
    (0x0658, 0x0200): Known("Aeotec Z-Stick Gen5 or Z-Wave.Me UZB", certain=True),
    (0x10C4, 0x8A2A): Known("Nortek HUSBZB-1", like=("z-wave",)),  # its second port is Zigbee
    (0x303A, 0x4001): Known("Home Assistant Connect ZWA-2", like=("zwa-2", "nabu casa")),
    # Sonoff's ZG23 is verified; Aeotec Z-Stick 7, Zooz ZST10 700 and SiLabs UZB-7 are not.
    (0x10C4, 0xEA60): Known("Silicon Labs CP210x bridge", like=("zwave", "z-wave")),
    (0x1A86, 0x55D4): Known("WCH bridge, as in Zooz ZST39", like=("zst39",), verified=False),
    (0x0403, 0x6001): Known("FTDI bridge", verified=False),
}


@dataclass(frozen=True, slots=True)
class Port:
    """A serial port: `path` is the lasting name, `device` what it is called today."""

    path: Path
    device: Path
    description: str
    known: Known | None = None

    @property
    def is_stick_by_name(self) -> bool:
        """Whether its USB ids or its own description prove it to be a Z-Wave stick."""
        if self.known is None:
            return False
        words = self.description.lower()
        return self.known.certain or any(word in words for word in self.known.like)


@dataclass(frozen=True, slots=True)
class Found:
    """A Z-Wave controller answered on `path`."""

    path: Path
    name: str
    home_id: str
    firmware: str

    @property
    def sentence(self) -> str:
        return f"Z-Wave stick found: {self.name}, firmware {self.firmware}, at {self.path}."


@dataclass(frozen=True, slots=True)
class Absent:
    """No port, or none that can be a stick."""

    path: Path | None = None

    @property
    def sentence(self) -> str:
        where = f"Nothing is plugged in at {self.path}. " if self.path else ""
        return (
            f"{where}No Z-Wave stick found. Plug it into a USB port, with an extension cable if "
            "you have one; a stick on the pins of the board must be chosen by hand."
        )


@dataclass(frozen=True, slots=True)
class Busy:
    """Another program holds the port."""

    path: Path

    @property
    def sentence(self) -> str:
        return (
            f"The stick at {self.path} is in use. If the Z-Wave driver of this box uses it, all is "
            "well; else stop the other program."
        )


@dataclass(frozen=True, slots=True)
class Deaf:
    """The port opens, but no Z-Wave controller answers."""

    path: Path

    @property
    def sentence(self) -> str:
        return (
            f"What is plugged in at {self.path} does not answer as a Z-Wave stick. Unplug it, "
            "wait ten seconds and plug it in again; if it stays silent, it is another device or "
            "broken."
        )


@dataclass(frozen=True, slots=True)
class NoPermission:
    """The port may not be opened by this user."""

    path: Path

    @property
    def sentence(self) -> str:
        return (
            f"The box may not open {self.path}. Its user needs the group that owns serial ports "
            "(dialout): sudo usermod -aG dialout USER, then start it again."
        )


@dataclass(frozen=True, slots=True)
class Bootloader:
    """The stick waits for firmware."""

    path: Path

    @property
    def sentence(self) -> str:
        return (
            f"The stick at {self.path} waits for firmware (bootloader). Unplug it and plug it in "
            "again; if that does not help, write its firmware anew with the maker's program."
        )


type Outcome = Found | Absent | Busy | Deaf | NoPermission | Bootloader


class UsbPort(Protocol):
    """What pyserial tells of a port."""

    device: str
    description: str | None
    manufacturer: str | None
    vid: int | None
    pid: int | None


class Wire(Protocol):
    """An open serial line whose read returns what came within its own time-out."""

    def read(self, size: int = 1) -> bytes: ...
    def write(self, data: bytes, /) -> int | None: ...
    def flush(self) -> None: ...
    def reset_input_buffer(self) -> None: ...


def ports(
    usb_ports: Callable[[], Iterable[UsbPort]] | None = None, by_id: Path = BY_ID
) -> list[Port]:
    """Every serial port of the box, named by its by-id path where it has one. Opens none."""
    from serial.tools import list_ports

    lasting = {link.resolve(): link for link in sorted(by_id.iterdir())} if by_id.is_dir() else {}
    found = []
    for usb in (usb_ports or list_ports.comports)():
        device = Path(usb.device)
        known = _KNOWN.get((usb.vid, usb.pid)) if usb.vid and usb.pid else None
        words = " ".join(filter(None, (usb.manufacturer, usb.description)))
        found.append(Port(lasting.get(device.resolve(), device), device, words, known))
    return sorted(found, key=lambda port: (not port.is_stick_by_name, port.path))


async def find(chosen: Path | None = None) -> list[Outcome]:
    """Look for sticks; [Absent()] if there are none. `chosen` alone is looked at if given.

    Ports without known USB ids are never opened unless chosen. A generic bridge that is busy or
    deaf is some other device's business and is left out.
    """
    if chosen is not None:
        return [await probe(Port(chosen, chosen, ""))]
    outcomes: list[Outcome] = []
    for port in await asyncio.to_thread(ports):
        if port.known is not None:
            outcome = await probe(port)
            if port.is_stick_by_name or isinstance(outcome, Found | Bootloader):
                outcomes.append(outcome)
    return outcomes or [Absent()]


async def probe(port: Port) -> Outcome:
    """Ask one port whether a Z-Wave controller is behind it."""
    try:
        async with asyncio.timeout(PROBE_WITHIN_S):
            return await asyncio.to_thread(_probe, port)
    except TimeoutError:
        return Deaf(port.path)


def _probe(port: Port) -> Outcome:
    import serial

    try:
        with serial.Serial(
            str(port.path), BAUD, timeout=_READ_S, write_timeout=_WRITE_S, exclusive=True
        ) as wire:
            return SerialApi(wire).interrogate(port)
    except serial.SerialTimeoutException:
        return Deaf(port.path)
    except (serial.SerialException, OSError) as problem:
        return cannot_open(port.path, problem)


def cannot_open(path: Path, problem: OSError) -> Outcome:
    """What it means that a port could not be opened."""
    match problem.errno:
        case errno.ENOENT | errno.ENXIO | errno.ENODEV | errno.ENOTDIR:
            return Absent(path)
        case errno.EACCES | errno.EPERM:
            return NoPermission(path)
        case errno.EBUSY | errno.EAGAIN:
            return Busy(path)
    # pyserial wraps the refused lock without a number.
    return Busy(path) if "lock" in str(problem).lower() else Deaf(path)


class SerialApi:
    """The Serial API on an open line (Z-Wave Host API specification, frame layout and functions).

    `monotonic_s` is the tests' way to let a deaf line's time pass.
    """

    def __init__(self, wire: Wire, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._wire = wire
        self._monotonic_s = monotonic_s

    def interrogate(self, port: Port) -> Outcome:
        """Ask for version, home id and firmware."""
        self._wire.write(bytes([_NAK]))  # ends a frame that another program left half sent
        version = self._ask(_GET_VERSION)
        if version is None:
            return Bootloader(port.path) if self._is_bootloader() else Deaf(port.path)
        library = version[:-1].rstrip(b"\0").decode("ascii", "replace")
        if not library.startswith("Z-Wave"):
            return Deaf(port.path)
        identity = self._ask(_GET_ID) or b""
        capabilities = self._ask(_GET_CAPABILITIES) or b""
        firmware = f"{capabilities[0]}.{capabilities[1]:02}" if len(capabilities) > 1 else library
        name = port.known.name if port.known else "Z-Wave controller"
        return Found(port.path, name, identity[:4].hex(), firmware)

    def _ask(self, function: int) -> bytes | None:
        """Send one request and return the payload of its response; None if none came in time."""
        self._wire.reset_input_buffer()
        self._wire.write(_frame(function))
        self._wire.flush()
        end_s = self._monotonic_s() + _ANSWER_S
        while self._monotonic_s() < end_s:
            first = self._wire.read(1)
            if first and first[0] in (_NAK, _CAN):
                self._wire.write(_frame(function))
            if not first or first[0] != _SOF:
                continue
            body = self._body()
            self._wire.write(bytes([_NAK if body is None else _ACK]))
            if body is not None and body[0] == _RESPONSE and body[1] == function:
                return body[2:]
        return None

    def _body(self) -> bytes | None:
        """What follows a start of frame: type, function and payload; None if it is damaged."""
        length = self._wire.read(1)
        rest = self._wire.read(length[0]) if length else b""
        if not length or len(rest) != length[0] or len(rest) < 3:
            return None
        return rest[:-1] if _checksum(length + rest[:-1]) == rest[-1] else None

    def _is_bootloader(self) -> bool:
        """The bootloader of 700 and 800 series sticks answers a new line with its menu."""
        self._wire.reset_input_buffer()
        self._wire.write(b"\n")
        said = b""
        end_s = self._monotonic_s() + _BOOTLOADER_S
        while self._monotonic_s() < end_s:
            said += self._wire.read(64)
            if b"Bootloader" in said or b"BL >" in said:
                return True
        return False


def _frame(function: int) -> bytes:
    body = bytes([3, 0, function])
    return bytes([_SOF, *body, _checksum(body)])


def _checksum(data: bytes) -> int:
    return reduce(xor, data, 0xFF)
