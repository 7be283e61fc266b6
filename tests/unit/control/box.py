"""The part of a box that switches: a real ledger, a clock that moves when told, relays to watch."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from edge.control.carry_out import CarryOut
from edge.control.decide import Controllable, Decision, decide
from edge.control.ledger import Command, Ledger
from edge.health import Health
from edge.model import Interval, Origin, Plan
from edge.store.commands import CommandTable
from edge.store.database import Database
from edge.store.settings import Events, Settings, open_state
from tests.house.fake_clock import FakeClock
from tests.house.simulated_switch import FAMILY, Relay, SimulatedSwitches

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
KEY = f"{FAMILY}/boiler"
BOILER = Controllable(KEY, nominal_power_w=2000, consent=True)
STEP = 5 * SECOND


class Box:
    """`await Box.open(folder)`. Restarting builds everything anew on the same file."""

    def __init__(self, folder: Path, clock: FakeClock | None = None) -> None:
        self.path = folder / "state.db"
        self.clock = clock or FakeClock()
        self.relay = Relay()
        self.switches = SimulatedSwitches(self.clock, {"boiler": self.relay})
        self.plans: dict[Origin, Plan] = {}

    @classmethod
    async def open(cls, folder: Path, clock: FakeClock | None = None) -> "Box":
        box = cls(folder, clock)
        await box.start()
        return box

    async def start(self) -> None:
        self.state: Database = await open_state(self.path)
        self.settings = await Settings.open(self.state)
        self.events = Events(self.state, self.clock)
        self.ledger = Ledger(await CommandTable.open(self.state))
        self.health = Health(self.clock)
        self.carry_out = CarryOut(
            self.ledger, lambda: {FAMILY: self.switches}, self.clock, self.health
        )
        await self.carry_out.take_over()

    async def crash(self) -> None:
        """The process ends here and now."""
        await self.state.close()

    async def restart(self) -> None:
        await self.crash()
        await self.start()

    async def reboot(self, *, trusted: bool, off_for: timedelta = MINUTE) -> None:
        await self.crash()
        self.clock.reboot(off_for, trusted=trusted)
        await self.start()

    def ask(self, origin: Origin, power_w: float, span: timedelta) -> None:
        now = self.clock.wall_now()
        self.plans[origin] = Plan(origin, (Interval(now, now + span, power_w),))

    async def step(self, device: Controllable = BOILER) -> Decision:
        past = self.carry_out.past(device.device_key)
        decision = decide(device, self.plans, past, self.clock.wall_now())
        await self.carry_out.step(device, decision)
        return decision

    async def live(self, span: timedelta, device: Controllable = BOILER) -> None:
        """Step every five seconds for so long."""
        for _ in range(span // STEP):
            self.clock.pass_by(STEP)
            self.switches.elapse(timedelta(milliseconds=self.clock.boottime_ms()))
            await self.step(device)
        await self.carry_out.write_now()

    async def last(self) -> Command:
        return (await self.ledger.latest(1))[0]

    def now(self) -> datetime:
        return self.clock.wall_now()


def with_timers(*holds: timedelta) -> Controllable:
    return replace(BOILER, own_timers=holds, consent=False)
