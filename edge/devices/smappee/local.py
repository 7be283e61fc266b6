"""An older Smappee monitor (Energy, Solar, Plus, Pro) in the house, by its address.

smappy's LocalSmappee reads it; here its calls run in a thread, its session is renewed, and each
phase becomes a channel of its own (smappy would add consumption and solar up).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import requests
import smappy.smappy

from edge.clock import Clock
from edge.devices.smappee.cloud import in_thread, in_words
from edge.devices.smappee.readings import FAMILY
from edge.errors import Malformed, Refused
from edge.family import Answers, Field, Found, GetSecret
from edge.model import Channel, Device, DeviceState, Direction, Intake, Kind, Quantity, Reading

POLL = timedelta(seconds=10)
CALL_S_MAX = 20.0  # log-on and the call again, five seconds each, and some
MONITOR = "local"  # its address may change, and with it no key
_MILLIWATT_PER_WATT = 1000.0
_FIRST_SOLAR_PHASE = 3  # phases 0–2 are consumption, 3–5 solar (as Smappee's own library has it)


@dataclass(frozen=True, slots=True)
class LocalSettings:
    address: str
    password: str = field(repr=False)

    @classmethod
    def read(
        cls, fields: tuple[Field, ...], config: Mapping[str, Any], secret: GetSecret
    ) -> "LocalSettings":
        answers = Answers(FAMILY, fields, config, secret)
        settings = cls(answers.text("address"), answers.secret("local_password"))
        answers.settle()
        return settings


class _Monitor:
    """LocalSmappee behind a thread, logged on again whenever the monitor forgot us."""

    def __init__(self, settings: LocalSettings) -> None:
        self._settings = settings
        self._smappee = smappy.smappy.LocalSmappee(settings.address)

    async def ask(self, question: Callable[[Any], Any]) -> Any:
        """The answer of question(LocalSmappee). Raises Unreachable, Refused or Malformed."""

        def work() -> Any:
            answer = question(self._smappee)
            if not _says_error(answer):
                return answer
            if _says_error(self._smappee.logon(self._settings.password)):
                raise Refused("the Smappee monitor refuses its password: enter it again")
            answer = question(self._smappee)
            if _says_error(answer):
                raise Malformed("the Smappee monitor refuses the question", str(answer))
            return answer

        try:
            return await in_thread(work, CALL_S_MAX)
        except requests.HTTPError as problem:
            raise in_words(problem) from problem


class SmappeeInHouse:
    """Meter of its phases' power, Switch of its plugs (no timers of their own, no read-back)."""

    family = FAMILY

    def __init__(self, settings: LocalSettings, intake: Intake, clock: Clock) -> None:
        self._settings = settings
        self._intake = intake
        self._clock = clock
        self._monitor = _Monitor(settings)
        self._plugs: dict[str, str] | None = None
        self._announced: set[str] = set()
        self._seen_at: datetime | None = None

    @staticmethod
    async def check(settings: LocalSettings, clock: Clock) -> Found:
        """Log on, read the phases and the plugs."""
        monitor = _Monitor(settings)
        phases = powers_w(await monitor.ask(lambda s: s.load_instantaneous()))
        plugs = plug_names(await monitor.ask(lambda s: s.load_command_control_config()))
        channels = tuple(phase_channel(phase) for phase in phases)
        return Found(channels, tuple(_devices(plugs, clock.wall_now())))

    async def run(self) -> None:
        while True:
            told = await self._monitor.ask(lambda s: s.load_instantaneous())
            stamp = self._intake.now()
            for phase, power_w in powers_w(told).items():
                channel = phase_channel(phase)
                if channel.key not in self._announced:
                    self._announced.add(channel.key)
                    self._intake.announce([channel])
                self._intake.offer(Reading(channel.key, stamp, power_w))
            self._seen_at = self._clock.wall_now()
            if self._plugs is None:
                told = await self._monitor.ask(lambda s: s.load_command_control_config())
                self._plugs = plug_names(told)
            await self._clock.sleep(POLL)

    def devices(self) -> list[Device]:
        return _devices(self._plugs or {}, self._seen_at) if self._seen_at else []

    async def turn_off(self, device: str, hold: timedelta | None) -> None:
        if hold is not None:
            raise Refused("this Smappee has no timer: the box must switch it on again")
        plug = self._plug(device)
        await self._monitor.ask(lambda s: _body(s.off_command_control(plug)))

    async def turn_on(self, device: str) -> None:
        plug = self._plug(device)
        await self._monitor.ask(lambda s: _body(s.on_command_control(plug)))

    async def is_on(self, device: str) -> bool | None:
        self._plug(device)
        return None  # plugs of this kind listen, they never answer

    def _plug(self, device: str) -> str:
        monitor, _, plug = device.rpartition(".")
        if monitor != MONITOR or plug not in (self._plugs or {}):
            raise Refused(f"the Smappee monitor knows no plug {device}")
        return plug


def powers_w(told: object) -> dict[int, float]:
    """Active power per phase from instantaneous values, which are in mW."""
    found = {}
    for key, value in _pairs(told):
        number = key.removeprefix("phase").removesuffix("ActivePower")
        if key == f"phase{number}ActivePower" and number.isdecimal():
            try:
                found[int(number)] = float(value) / _MILLIWATT_PER_WATT
            except ValueError as problem:
                raise Malformed(f"the Smappee monitor says {key} is {value!r}") from problem
    if not found:
        raise Malformed("the Smappee monitor tells no phase's power", str(told))
    return found


def plug_names(told: object) -> dict[str, str]:
    """Plugs by the id that switches them."""
    return {key: value for key, value in _pairs(told) if key.isdecimal()}


def phase_channel(phase: int) -> Channel:
    solar = phase >= _FIRST_SOLAR_PHASE
    return Channel(
        FAMILY,
        MONITOR,
        f"phase{phase}",
        Quantity.ACTIVE_POWER,
        Kind.INSTANTANEOUS,
        Direction.EXPORT if solar else Direction.IMPORT,
        POLL,
        f"Smappee {'solar ' if solar else ''}phase {phase % _FIRST_SOLAR_PHASE + 1}",
    )


def _devices(plugs: Mapping[str, str], seen_at: datetime | None) -> list[Device]:
    state = DeviceState.ALIVE if seen_at else DeviceState.UNKNOWN
    monitor = Device(FAMILY, MONITOR, "Smappee", "Smappee monitor", state, seen_at)
    switches = [
        Device(FAMILY, f"{MONITOR}.{plug}", name, "Smappee plug", state, is_switch=True)
        for plug, name in plugs.items()
    ]
    return [monitor, *switches]


def _pairs(told: object) -> Iterable[tuple[str, str]]:
    """The [{"key": …, "value": …}] that the monitor speaks."""
    for item in told if isinstance(told, list) else ():
        if isinstance(item, dict) and "key" in item and "value" in item:
            yield str(item["key"]), str(item["value"])


def _says_error(answer: object) -> bool:
    return isinstance(answer, dict) and "error" in answer


def _body(answer: requests.Response) -> Any:
    """What the monitor said to a switching command; it says refusals with status 200."""
    try:
        return answer.json()
    except ValueError:
        return None  # done; older firmware confirms with an empty or plain answer
