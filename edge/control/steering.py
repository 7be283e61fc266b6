"""The part that runs: who asks what of which device, and each device brought nearer to it.

One task per device, so that a dead one holds up no other; each sleeps until its next deadline or
until somebody asks something. Plans are leases: when FlexMeasures was silent too long they lapse,
and the device returns to its normal state. Plans are times of day, so they count only while the
clock is trusted; a hand's wish runs on CLOCK_BOOTTIME.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from edge.clock import Clock
from edge.control.carry_out import CarryOut
from edge.control.decide import WHY, Controllable, Decision, decide, next_change
from edge.control.hands import Hand, Hands
from edge.control.ledger import Command, Stage
from edge.control.permits import check, device_from_json, device_to_json, with_timers
from edge.control.plan_book import PlanBook, checked_lease, lease_from_json
from edge.documents import Documents
from edge.errors import Refused
from edge.health import Health
from edge.model import Device, DeviceState, Interval, Origin, Plan
from edge.store.commands import NotKept
from edge.supervise import Job, keep_running, until

log = logging.getLogger(__name__)

HAND_AT_DEVICE_HOLDS = timedelta(hours=2)  # then the box may act again; the page gives it back
LOOK_MAX = timedelta(seconds=10)  # a clock that is set, or a hand at the device, shows by then
LOOK_MIN = timedelta(milliseconds=10)
LOOK_TOGETHER = timedelta(milliseconds=20)  # a look serves all that wake with the same interval
CARD_PAUSE = timedelta(seconds=30)
_DEVICES, _LEASE_S = "control", "lease_s"


@dataclass(frozen=True, slots=True)
class Steered:
    """A device as it stands now: for the page and the status."""

    device: Controllable
    name: str
    decision: Decision
    command: Command | None
    hand: Hand | None
    next_change: tuple[datetime, Decision] | None
    trouble: str


class Steering:
    """One per box. Everything here is called from the loop."""

    def __init__(
        self,
        settings: Documents,
        carry_out: CarryOut,
        devices: Callable[[], Sequence[Device]],
        clock: Clock,
        health: Health,
        note: Callable[[str, str], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._carry_out = carry_out
        self._known = devices
        self._clock = clock
        self._health = health
        self._note = note
        self._devices: dict[str, Controllable] = {}
        self._hands = Hands(settings, clock)
        self._book = PlanBook(clock)
        self._seen_on: dict[str, bool] = {}
        self._was_alive: dict[str, bool] = {}
        self._wake: dict[str, asyncio.Event] = {}
        self._changed = asyncio.Event()
        self._has_doubted = False
        self._looked: tuple[float, dict[str, Device]] | None = None

    async def restore(self) -> None:
        """Know what was allowed and asked, and what an earlier life left away."""
        kept = await self._settings.get(_DEVICES) or {}
        try:
            self._devices = {key: device_from_json(key, each) for key, each in kept.items()}
            await self._hands.restore()
        except (KeyError, TypeError, ValueError, AttributeError):
            log.exception("what may be switched cannot be read")
            self._health.alarm("control", "what may be switched was lost; allow it anew")
        self._book.lease = lease_from_json(await self._settings.get(_LEASE_S))
        await self.take_over()

    async def take_over(self) -> None:
        """What is away stays so until its time is over or its origin says otherwise."""
        try:
            await self._carry_out.take_over()
        except NotKept as problem:
            self._health.alarm("commands", str(problem))
        if self._carry_out.is_set_back and not self._has_doubted:
            self._has_doubted = True
            for each in self.devices().values():
                self._carry_out.doubt(each)
        for key, command in self._carry_out.held().items():
            if command.origin is not Origin.HAND and command.stage is not Stage.RETURNING:
                device = self._devices.get(key)
                power_w = 0.0 if device is None or device.normal_on else device.nominal_power_w
                span = Interval(command.issued_at, command.away_until, power_w)
                self._book.assume(key, Plan(command.origin, (span,)))

    async def run(self) -> None:
        """Steer every device for ever; a part for keep_running."""
        while True:
            self._changed.clear()
            await self.take_over()
            await until(
                self._changed, self._steer(set(self._devices) | set(self._carry_out.held()))
            )

    # --- what a person may do ---------------------------------------------------------------------

    def devices(self) -> dict[str, Controllable]:
        """Every controllable device, its own timers as the device says now."""
        known = {device.key: device for device in self._known()}
        return {
            key: _with_its_timers(device, known.get(key)) for key, device in self._devices.items()
        }

    async def allow(self, device: Controllable) -> None:
        """Make a device controllable, or change how far. Raises ConfigFault or Refused."""
        check(device)
        found = self._device(device.device_key)
        if found is None or not found.is_switch:
            raise Refused(f"{device.device_key} is no switch that the box knows")
        await self._keep_devices(
            {**self._devices, device.device_key: with_timers(device, found.own_timers)}
        )
        await self._note("control", f"{found.name} may be switched")

    async def forbid(self, device_key: str) -> None:
        """Control it no longer; it comes back at once."""
        name = self._name(device_key)
        kept = {key: device for key, device in self._devices.items() if key != device_key}
        await self._keep_devices(kept)
        await self._hands.keep(device_key, None)
        self._book.forget(device_key)
        await self._note("control", f"{name} is switched no longer")

    async def move_to(self, timezone: str) -> None:
        """The hours in which devices are left alone are of this zone from now on."""
        moved = {key: replace(each, timezone=timezone) for key, each in self._devices.items()}
        await self._keep_devices(moved)

    async def take_hand(self, device_key: str, span: timedelta, *, away: bool) -> datetime:
        """A person wants the device away, or in its normal state, for so long; until when that
        will be, within the device's own limits. Raises Refused."""
        device = self.devices().get(device_key)
        if device is None:
            raise Refused(f"{device_key} is not controllable; allow it on the page first")
        if span <= timedelta(0):
            raise Refused("the duration must be longer than nothing")
        now = self._clock.wall_now()
        hand = self._hands.wish(span, away=away)
        wished = self._hands.plan(device, hand)
        plans = {} if wished is None else {Origin.HAND: wished}
        decision = decide(device, plans, self._carry_out.past(device_key), now)
        if away and decision.away_until is None:
            raise Refused(f"{self._name(device_key)}: {WHY[decision.why]}")
        await self._hands.keep(device_key, hand)
        self._woken(device_key)
        return decision.away_until or hand.until

    async def give_back(self, device_key: str) -> None:
        """The hand's wish is over; limit and schedule count again."""
        await self._hands.keep(device_key, None)
        self._woken(device_key)

    # --- what FlexMeasures says -------------------------------------------------------------------

    def take_plan(self, device_key: str, plan: Plan) -> None:
        """A limit or a schedule as it stands now, in place of the one before."""
        if self._book.take(device_key, plan):
            self._woken(device_key)

    @property
    def lease(self) -> timedelta:
        """How long a plan counts after FlexMeasures was last heard on it."""
        return self._book.lease

    async def keep_lease(self, span: timedelta) -> None:
        """Let plans count for so long from now on. Raises ConfigFault."""
        await self._settings.put(_LEASE_S, checked_lease(span).total_seconds())
        self._book.lease = span
        for device_key in self._devices:
            self._woken(device_key)

    def silent_for(self) -> timedelta:
        return self._book.silent_for()

    def plans(self, device_key: str) -> dict[Origin, Plan]:
        """What counts for the device now."""
        plans = self._book.counting(device_key)
        device = self._devices.get(device_key)
        if device and (wished := self._hands.plan(device, self._hands.get(device_key))):
            plans[Origin.HAND] = wished
        return plans

    def remembered(self, device_key: str) -> dict[Origin, Plan]:
        """What counts, and what counted in the last day: for charts."""
        return self._book.with_past(device_key, self.plans(device_key))

    def steered(self) -> list[Steered]:
        """Every controllable device as it stands."""
        return [self._steered(device) for device in self.devices().values()]

    def anything_away(self) -> bool:
        """Whether any device is away or not yet seen back: no time for an update."""
        return bool(self._carry_out.held())

    # --- one device -------------------------------------------------------------------------------

    async def step(self, device_key: str, known: Mapping[str, Device] | None = None) -> timedelta:
        """Bring the device nearer to what is asked of it; how long it may then be left alone.
        `known`: every device by key, where somebody has just looked."""
        allowed = self._devices.get(device_key)
        found = self._device(device_key) if known is None else known.get(device_key)
        try:
            if allowed is None:
                await self._carry_out.release(device_key, "forbidden")
                return self._rest(device_key, None)
            device = _with_its_timers(allowed, found)
            await self._observe(device, found)
            decision = self._decide(device, found)
            before = self._carry_out.held().get(device_key)
            await self._carry_out.step(device, decision)
            if self._carry_out.held().get(device_key) is not before:
                self._seen_on.pop(device_key, None)  # what was seen before our own act is old
        except NotKept as problem:
            self._health.alarm("commands", str(problem))
            return CARD_PAUSE
        return self._rest(device_key, decision.look_again)

    async def _steer(self, device_keys: set[str]) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._kept("commands", self._carry_out.write_down))
            for key in device_keys:
                group.create_task(self._kept(f"switch {key}", self._keeper(key)))

    async def _kept(self, name: str, job: Job) -> None:
        """A bug in one device's way holds up no other."""
        await keep_running(name, job, self._clock, self._report)

    def _report(self, name: str, state: str) -> None:
        if state == "running":
            self._health.clear(f"control {name}")
        else:
            self._health.alarm(f"control {name}", state)

    def _keeper(self, device_key: str) -> Job:
        wake = self._wake.setdefault(device_key, asyncio.Event())

        async def keep() -> None:
            while True:
                wake.clear()
                rest = await self.step(device_key, self._look())
                await until(wake, self._clock.sleep(rest))

        return keep

    def _look(self) -> Mapping[str, Device]:
        """Every device by key. Those that wake at the same moment share one look."""
        now_s = asyncio.get_running_loop().time()
        if self._looked is None or now_s - self._looked[0] > LOOK_TOGETHER.total_seconds():
            self._looked = (now_s, {device.key: device for device in self._known()})
        return self._looked[1]

    def _decide(self, device: Controllable, found: Device | None) -> Decision:
        key = device.device_key
        decision = decide(
            device, self.plans(key), self._carry_out.past(key), self._clock.wall_now()
        )
        if decision.away_until is None or key in self._carry_out.held():
            return decision
        if found is not None and found.is_on is (not device.normal_on):
            # Somebody put it there: switching it once more would end in undoing what they did.
            return replace(decision, away_until=None, why="by_hand")
        return decision

    def _rest(self, device_key: str, look_again: datetime | None) -> timedelta:
        rests = [LOOK_MAX]
        if look_again is not None:
            rests.append(look_again - self._clock.wall_now())
        due_in = self._carry_out.due_in(device_key)
        if due_in is not None:
            rests.append(due_in)
        return max(min(rests), LOOK_MIN)

    async def _observe(self, device: Controllable, found: Device | None) -> None:
        """See whether the device came back to life, or a hand at the device switched it."""
        key = device.device_key
        alive = found is not None and found.state is DeviceState.ALIVE
        if alive and not self._was_alive.get(key, True):
            self._carry_out.try_now(key)
        self._was_alive[key] = alive
        if found is None or not alive or found.is_on is None:
            return
        before, self._seen_on[key] = self._seen_on.get(key), found.is_on
        command = self._carry_out.held().get(key)
        if command is None or command.stage is not Stage.AWAY or command.hold_s:
            return  # a device with a timer of its own also comes back without a hand
        if before is (not device.normal_on) and found.is_on is device.normal_on:
            self._carry_out.given_back(key, "by_hand")
            await self._hands.keep(
                key, self._hands.wish(HAND_AT_DEVICE_HOLDS, away=False, at_device=True)
            )

    # --- inside -----------------------------------------------------------------------------------

    def _steered(self, device: Controllable) -> Steered:
        key, now = device.device_key, self._clock.wall_now()
        plans, past = self.plans(key), self._carry_out.past(key)
        return Steered(
            device=device,
            name=self._name(key),
            decision=self._decide(device, self._device(key)),
            command=self._carry_out.held().get(key),
            hand=self._hands.get(key) if Origin.HAND in plans else None,
            next_change=next_change(device, plans, past, now),
            trouble=self._carry_out.trouble(key),
        )

    async def _keep_devices(self, devices: dict[str, Controllable]) -> None:
        kept = {key: device_to_json(device) for key, device in devices.items()}
        await self._settings.put(_DEVICES, kept)
        self._devices = devices
        self._changed.set()

    def _woken(self, device_key: str) -> None:
        if wake := self._wake.get(device_key):
            wake.set()

    def _device(self, device_key: str) -> Device | None:
        return next((device for device in self._known() if device.key == device_key), None)

    def _name(self, device_key: str) -> str:
        found = self._device(device_key)
        return found.name if found and found.name else device_key


def _with_its_timers(device: Controllable, found: Device | None) -> Controllable:
    """Its own timers as the device says now; those it last said while nobody knows it."""
    return device if found is None else with_timers(device, found.own_timers)
