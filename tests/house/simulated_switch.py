"""Devices that switch and can fail in every way, and the witness of what they really did."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from edge.errors import Refused, Unreachable
from edge.model import Device, DeviceState
from tests.house.fake_clock import FakeClock

FAMILY = "house"


@dataclass
class Relay:
    """One device. `on` is what it really does, `is_reachable` whether it hears and is heard."""

    on: bool = True
    is_reachable: bool = True
    is_jammed: bool = False  # says yes and does nothing
    refuses: bool = False
    loses_answers: bool = False  # obeys, but its answer is lost
    timers: tuple[timedelta, ...] = ()
    back_at: timedelta | None = None  # its own timer, on its own time
    told: list[bool] = field(default_factory=list)
    holds: list[timedelta | None] = field(default_factory=list)


class SimulatedSwitches:
    """A family of relays; fulfils model.Switch. A command to a dead relay takes `patience`."""

    family = FAMILY

    def __init__(
        self,
        clock: FakeClock,
        relays: dict[str, Relay],
        *,
        patience: timedelta = timedelta(0),
        on_command: Callable[[str, bool], None] = lambda device, on: None,
    ) -> None:
        self.relays = relays
        self.is_plugged = True
        self._clock = clock
        self._patience = patience
        self.on_command = on_command

    def devices(self) -> list[Device]:
        return [
            Device(
                FAMILY,
                name,
                name,
                "simulated",
                DeviceState.ALIVE if self.is_plugged and relay.is_reachable else DeviceState.DEAD,
                is_switch=True,
                is_on=relay.on,
                own_timers=relay.timers,
            )
            for name, relay in self.relays.items()
        ]

    def elapse(self, now: timedelta) -> None:
        """Let the relays' own timers run out."""
        for relay in self.relays.values():
            if relay.back_at is not None and relay.back_at <= now:
                relay.on, relay.back_at = True, None

    async def turn_off(self, device: str, hold: timedelta | None) -> None:
        relay = self._command(device, on=False)
        assert hold is None or hold in relay.timers
        relay.holds.append(hold)
        if not relay.is_jammed:
            relay.on = False
            relay.back_at = None if hold is None else self._now() + hold
        self._answer(relay)

    async def turn_on(self, device: str) -> None:
        relay = self._command(device, on=True)
        if not relay.is_jammed:
            relay.on, relay.back_at = True, None
        self._answer(relay)

    async def is_on(self, device: str) -> bool | None:
        relay = self._reach(device)
        self._answer(relay)
        return relay.on

    def _command(self, device: str, *, on: bool) -> Relay:
        relay = self._reach(device)
        self.on_command(device, on)
        relay.told.append(on)
        if relay.refuses:
            raise Refused("the device said no")
        return relay

    def _reach(self, device: str) -> Relay:
        if not self.is_plugged:
            raise Unreachable("the stick is away")
        relay = self.relays[device]
        if not relay.is_reachable:
            self._clock.pass_by(self._patience)
            raise Unreachable("the device does not answer")
        return relay

    def _answer(self, relay: Relay) -> None:
        if relay.loses_answers:
            raise Unreachable("no answer")

    def _now(self) -> timedelta:
        return timedelta(milliseconds=self._clock.boottime_ms())
