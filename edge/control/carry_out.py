"""Making it so: intent on the card, then the radio, then proof; and back again, whatever happens.

Owns every switch. A device is switched off only after the intent is committed, is brought back on
time on CLOCK_BOOTTIME, and counts as back only when it was seen in its normal state. Bringing back
never waits for the store. After a reboot a command goes on by wall time if that is trusted, and is
reverted at once if not.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from edge.clock import Clock
from edge.control.decide import Controllable, Decision, Past
from edge.control.ledger import Command, Ledger, Stage
from edge.errors import EdgeError, Refused, StoreBroken
from edge.health import Health
from edge.model import BoxTime, Switch

log = logging.getLogger(__name__)

SWITCH_WITHIN_S = 20.0  # a Z-Wave command to a dead node gives up after about 17 s
CONFIRM_WITHIN_S = 15.0
FIRST_RETRY = timedelta(seconds=2)
RETRY_MAX = timedelta(minutes=1)  # for ever: a device that is away comes back when it is back
RENEW_BEFORE = timedelta(seconds=30)  # own timers are renewed this long before they run out


@dataclass(slots=True)
class _Held:
    """A device this room has touched and not yet seen back."""

    command: Command
    hold_ends: BoxTime | None = None
    retry_at_ms: int = 0
    pause: timedelta = FIRST_RETRY
    unsaved: bool = False


class CarryOut:
    """One per box. `boot` is this boot's number; `switches` is by family."""

    def __init__(
        self,
        ledger: Ledger,
        switches: Mapping[str, Switch],
        clock: Clock,
        health: Health,
        boot: int,
    ) -> None:
        self._ledger = ledger
        self._switches = switches
        self._clock = clock
        self._health = health
        self._boot = boot
        self._held: dict[str, _Held] = {}
        self._on_since: dict[str, datetime] = {}
        self._one_at_a_time: dict[str, asyncio.Lock] = {}

    async def take_over(self) -> None:
        """Continue what an earlier life of this process, or of the box, left switched off."""
        for command in await self._ledger.open_commands():
            self._held[command.device_key] = _Held(self._after_restart(command))

    def past(self, device_key: str) -> Past:
        """What decide() must know of the device."""
        held = self._held.get(device_key)
        if held is not None and held.command.stage in (Stage.INTENDED, Stage.OFF):
            return Past(off_since=held.command.issued_at)
        return Past(on_since=self._on_since.get(device_key))

    def open_command(self, device_key: str) -> Command | None:
        """The command the device is under now."""
        held = self._held.get(device_key)
        return held.command if held else None

    def any_open(self) -> bool:
        """Whether any device is off, or not yet seen back: no time for an update."""
        return bool(self._held)

    async def follow(self, device: Controllable, decision: Decision) -> None:
        """Bring the device nearer to the decision; safe to repeat. Raises EdgeError."""
        async with self._one_at_a_time.setdefault(device.device_key, asyncio.Lock()):
            held = self._held.get(device.device_key)
            if decision.off_until is not None and decision.origin is not None:
                if held is None:
                    await self._switch_off(device, decision, decision.off_until)
                elif held.command.stage is not Stage.REVERTING:
                    await self._go_on(device, held, decision.off_until)
            elif held is not None and held.command.stage is not Stage.REVERTING:
                held.command = replace(held.command, stage=Stage.REVERTING, outcome=decision.why)

    async def keep_promises(self) -> None:
        """Bring back every device whose time is over; call at least once a second."""
        for device_key in list(self._held):
            async with self._one_at_a_time.setdefault(device_key, asyncio.Lock()):
                held = self._held.get(device_key)
                if held is not None:
                    await self._keep_promise(held)

    async def _switch_off(
        self, device: Controllable, decision: Decision, off_until: datetime
    ) -> None:
        if decision.origin is None:
            return
        now = self._clock.wall_now()
        wanted = off_until - now
        hold = self._longest_hold(device, wanted)
        command = await self._ledger.intend(
            Command(
                command_id=0,
                device_key=device.device_key,
                origin=decision.origin,
                why=decision.why,
                issued_at=now,
                off_until=off_until,
                deadline=self._in(wanted),
                hold_s=int(hold.total_seconds()) if hold else 0,
                stage=Stage.INTENDED,
            )
        )
        held = _Held(command, hold_ends=self._in(hold) if hold else None)
        self._held[device.device_key] = held
        await self._send_off(held, hold)

    async def _go_on(self, device: Controllable, held: _Held, off_until: datetime) -> None:
        """The device is off already: move its deadline, renew its own timer, see that it heard."""
        now = self._clock.wall_now()
        if off_until != held.command.off_until:
            held.command = replace(
                held.command, off_until=off_until, deadline=self._in(off_until - now)
            )
            await self._ledger.update(held.command)
        renew = held.hold_ends is not None and self._passed(held.hold_ends, RENEW_BEFORE)
        again = held.command.stage is Stage.INTENDED and self._retry_due(held)
        if renew or again:
            hold = self._longest_hold(device, off_until - now)
            if hold is None and held.hold_ends is not None:
                return  # what is left is shorter than any hold: let its timer end it
            held.hold_ends = self._in(hold) if hold else None
            await self._send_off(held, hold)

    async def _send_off(self, held: _Held, hold: timedelta | None) -> None:
        switch, device = self._switch_of(held.command.device_key)
        try:
            async with asyncio.timeout(SWITCH_WITHIN_S):
                await switch.turn_off(device, hold)
            seen_on = await self._read_back(switch, device)
        except Refused as problem:
            held.command = replace(held.command, stage=Stage.REVERTING, outcome=str(problem))
            return
        except (EdgeError, TimeoutError) as problem:
            self._retry_later(held)
            log.info("%s did not switch off yet: %s", held.command.device_key, problem)
            return
        if seen_on is True:
            self._retry_later(held)
            return
        held.command = replace(held.command, stage=Stage.OFF)
        held.pause = FIRST_RETRY
        await self._ledger.update(held.command)

    async def _keep_promise(self, held: _Held) -> None:
        if held.command.stage is not Stage.REVERTING:
            if not self._passed(held.command.deadline):
                return
            held.command = replace(held.command, stage=Stage.REVERTING, outcome="its time is over")
        if not self._retry_due(held):
            return
        await self._bring_back(held)

    async def _bring_back(self, held: _Held) -> None:
        """Switch on and look. The store hears of it afterwards, and may be broken."""
        key = held.command.device_key
        try:
            switch, device = self._switch_of(key)
            async with asyncio.timeout(SWITCH_WITHIN_S):
                await switch.turn_on(device)
            seen_on = await self._read_back(switch, device)
        except (EdgeError, TimeoutError) as problem:
            self._retry_later(held)
            self._health.alarm(f"switch {key}", f"it could not be switched on again yet: {problem}")
            return
        if seen_on is False:
            self._retry_later(held)
            self._health.alarm(f"switch {key}", "it was told to switch on and is still off")
            return
        self._health.clear(f"switch {key}")
        self._on_since[key] = self._clock.wall_now()
        del self._held[key]
        try:
            await self._ledger.update(replace(held.command, stage=Stage.DONE))
        except StoreBroken as problem:
            self._health.alarm("commands", f"the card takes no more writes: {problem}")

    async def _read_back(self, switch: Switch, device: str) -> bool | None:
        async with asyncio.timeout(CONFIRM_WITHIN_S):
            return await switch.is_on(device)

    def _after_restart(self, command: Command) -> Command:
        if command.deadline.boot == self._boot:
            return command
        if not self._clock.is_trusted():
            why = "the box restarted and does not know the time"
            return replace(command, stage=Stage.REVERTING, outcome=why)
        left = command.off_until - self._clock.wall_now()
        return replace(command, deadline=self._in(max(left, timedelta(0))))

    def _switch_of(self, device_key: str) -> tuple[Switch, str]:
        family, _, device = device_key.partition("/")
        switch = self._switches.get(family)
        if switch is None:
            raise Refused(f"{family} is not set up on this box any more")
        return switch, device

    def _longest_hold(self, device: Controllable, wanted: timedelta) -> timedelta | None:
        if not device.own_timers:
            return None
        return max((hold for hold in device.own_timers if hold <= wanted), default=None)

    def _in(self, span: timedelta) -> BoxTime:
        return BoxTime(self._boot, self._clock.boottime_ms() + span // timedelta(milliseconds=1))

    def _passed(self, moment: BoxTime, early: timedelta = timedelta(0)) -> bool:
        now_ms = self._clock.boottime_ms() + early // timedelta(milliseconds=1)
        return moment.boot != self._boot or moment.boottime_ms <= now_ms

    def _retry_due(self, held: _Held) -> bool:
        return self._clock.boottime_ms() >= held.retry_at_ms

    def _retry_later(self, held: _Held) -> None:
        held.retry_at_ms = self._in(held.pause).boottime_ms
        held.pause = min(held.pause * 2, RETRY_MAX)
