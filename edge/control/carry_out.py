"""Making it so: intent on the card, then the radio, then proof; and back again, whatever happens.

Owns every switch. A device leaves its normal state only after the intent is committed, is brought
back on time on CLOCK_BOOTTIME, and counts as back only when it was seen there. Bringing back never
waits for the store: what became of a command is written by write_down(), in its own time. After a
reboot a command goes on by wall time if that is trusted, and is ended at once if not.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from edge.clock import Clock
from edge.control.decide import Controllable, Decision, Past
from edge.control.ledger import Command, Deadline, Ledger, Stage
from edge.errors import EdgeError, Refused
from edge.health import Health
from edge.model import Origin, Switch
from edge.store.commands import NotKept

log = logging.getLogger(__name__)

SWITCH_WITHIN_S = 30.0  # a Z-Wave command to a dead node gives up after about 17 s
CONFIRM_WITHIN_S = 30.0
INTEND_WITHIN_S = 10.0
FIRST_RETRY = timedelta(seconds=2)
RETRY_MAX = timedelta(
    minutes=1
)  # for ever: a device that is away comes back when it can be reached
RENEW_BEFORE = timedelta(seconds=30)  # own timers are renewed this long before they run out
MOVED_MIN = timedelta(seconds=2)  # less is the jitter of two clocks, not another deadline
WRITE_AGAIN_AFTER = timedelta(minutes=1)
HISTORY_AT_START = 200

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(slots=True)
class _Held:
    """A device this room has touched and not yet seen back."""

    command: Command
    hold_ends_ms: int | None = None
    retry_at_ms: int = 0
    pause: timedelta = FIRST_RETRY


class CarryOut:
    """One per box. `switches` answers which families switch, by name, now.

    step() is for one caller per device at a time; different devices do not wait for one another.
    """

    def __init__(
        self,
        ledger: Ledger,
        switches: Callable[[], Mapping[str, Switch]],
        clock: Clock,
        health: Health,
    ) -> None:
        self._ledger = ledger
        self._switches = switches
        self._clock = clock
        self._health = health
        self._held: dict[str, _Held] = {}
        self._back_ms: dict[str, int] = {}
        self._unwritten: dict[int, Command] = {}
        self._to_write = asyncio.Event()

    async def take_over(self) -> None:
        """Continue what an earlier life of this process, or of the box, left away. Raises NotKept.

        Safe to repeat: what is held already stays as it is.
        """
        for command in await self._ledger.open_commands():
            if command.command_id in self._unwritten:
                continue  # closed already, only the card does not know
            held = self._held.get(command.device_key)
            if held is not None and held.command.command_id == command.command_id:
                continue
            held = _Held(self._after_restart(command))
            if command.hold_s:
                held.hold_ends_ms = self._now_ms()  # nobody knows any more when it ends: renew it
            self._held[command.device_key] = held
        for command in await self._ledger.latest(HISTORY_AT_START):
            if command.closed_at is not None and self._clock.is_trusted():
                ago = max(self._clock.wall_now() - command.closed_at, timedelta(0))
                back_ms = self._now_ms() - ago // _MILLISECOND
                self._back_ms.setdefault(command.device_key, back_ms)

    @property
    def is_set_back(self) -> bool:
        """Whether the newest commands were lost with the file: any device may be away."""
        return self._ledger.is_set_back

    def doubt(self, device: Controllable) -> None:
        """Nobody knows any more whether this device was left away: bring it back to be sure."""
        if (known := self._held.get(device.device_key)) is not None:
            self._end(known, "memory_lost")
            return
        now, now_ms = self._clock.wall_now(), self._now_ms()
        at_once = Deadline(self._clock.boot_id(), now_ms)
        command = Command(
            command_id=0,
            device_key=device.device_key,
            origin=Origin.BOX,
            normal_on=device.normal_on,
            issued=at_once,
            issued_at=now,
            deadline=at_once,
            away_until=now,
            hold_s=0,
            stage=Stage.RETURNING,
            outcome="memory_lost",
        )
        held = self._held[device.device_key] = _Held(self._ledger.numbered(command))
        self._become(held, held.command)

    def held(self) -> dict[str, Command]:
        """The command each device that is away, or not yet seen back, is under."""
        return {key: held.command for key, held in self._held.items()}

    def trouble(self, device_key: str) -> str:
        """Why the device is not yet where it should be; empty where it is."""
        return self._health.alarms.get(f"switch {device_key}", "")

    def past(self, device_key: str) -> Past:
        """What decide() must know of the device, in today's wall time."""
        now, now_ms = self._clock.wall_now(), self._now_ms()
        held = self._held.get(device_key)
        if held is not None and held.command.stage in (Stage.INTENDED, Stage.AWAY):
            return Past(away_since=now - (now_ms - held.command.issued.boottime_ms) * _MILLISECOND)
        back_ms = self._back_ms.get(device_key)
        return Past(back_since=None if back_ms is None else now - (now_ms - back_ms) * _MILLISECOND)

    async def step(self, device: Controllable, decision: Decision) -> None:
        """Bring the device nearer to the decision; safe to repeat. Raises NotKept, when the card
        takes no intent: then nothing was switched."""
        held = self._held.get(device.device_key)
        if held is None:
            if decision.away_until is not None and decision.origin is not None:
                await self._leave(device, decision.origin, decision.away_until)
            return
        self._follow_wall_clock(held)
        if decision.away_until is None:
            self._end(held, decision.why)
        elif held.command.stage is not Stage.RETURNING:
            self._move_deadline(held, decision.away_until)
        await self._keep_promise(held, device)

    async def release(self, device_key: str, why: str) -> None:
        """Bring back a device that is controllable no longer; safe to repeat."""
        held = self._held.get(device_key)
        if held is not None:
            self._end(held, why)
            await self._keep_promise(held, None)

    def given_back(self, device_key: str, outcome: str) -> None:
        """The device was seen in its normal state without our doing: its command is over."""
        held = self._held.get(device_key)
        if held is not None:
            self._close(held, outcome)

    def try_now(self, device_key: str) -> None:
        """The device can be reached again: no need to wait for the next try."""
        if held := self._held.get(device_key):
            held.retry_at_ms, held.pause = 0, FIRST_RETRY

    def due_in(self, device_key: str) -> timedelta | None:
        """When step() has something to do again, whatever is decided; None: nothing known."""
        held = self._held.get(device_key)
        if held is None:
            return None
        command = held.command
        if command.stage is Stage.RETURNING:
            due_ms = held.retry_at_ms
        else:
            due_ms = command.deadline.boottime_ms
            if command.stage is Stage.INTENDED:
                due_ms = min(due_ms, held.retry_at_ms)
            if held.hold_ends_ms is not None:
                due_ms = min(due_ms, held.hold_ends_ms - RENEW_BEFORE // _MILLISECOND)
        return max(due_ms - self._now_ms(), 0) * _MILLISECOND

    async def history(self, limit: int) -> list[Command]:
        """The newest commands first, as they stand now. Raises NotKept."""
        now = {held.command.command_id: held.command for held in self._held.values()}
        now |= self._unwritten
        return [now.get(c.command_id, c) for c in await self._ledger.latest(limit)]

    async def write_down(self) -> None:
        """Write what became of commands, for ever: a card that takes nothing is tried again."""
        while True:
            await self._to_write.wait()
            self._to_write.clear()
            if not await self.write_now():
                await self._clock.sleep(WRITE_AGAIN_AFTER)
                self._to_write.set()

    async def write_now(self) -> bool:
        """Whether everything known is on the card now."""
        while self._unwritten:
            known = dict(self._unwritten)
            try:
                await self._ledger.update(*known.values())
            except NotKept as problem:
                self._health.alarm("commands", str(problem))
                return False
            for number, command in known.items():
                if self._unwritten.get(number) is command:
                    del self._unwritten[number]
        self._health.clear("commands")
        return True

    # --- leaving the normal state -----------------------------------------------------------------

    async def _leave(self, device: Controllable, origin: Origin, away_until: datetime) -> None:
        now, now_ms = self._clock.wall_now(), self._now_ms()
        wanted = away_until - now
        hold = device.hold(wanted)
        boot_id = self._clock.boot_id()
        intended = Command(
            command_id=0,
            device_key=device.device_key,
            origin=origin,
            normal_on=device.normal_on,
            issued=Deadline(boot_id, now_ms),
            issued_at=now,
            deadline=Deadline(boot_id, now_ms + wanted // _MILLISECOND),
            away_until=away_until,
            hold_s=int(hold.total_seconds()) if hold else 0,
            stage=Stage.INTENDED,
        )
        try:
            async with asyncio.timeout(INTEND_WITHIN_S):
                command = await self._ledger.intend(intended)
        except TimeoutError as problem:
            raise NotKept(
                "the card does not answer; nothing is switched before it does"
            ) from problem
        held = self._held[device.device_key] = _Held(command)
        if self._passed(command):  # the card took so long
            self._close(held, "too_late", Stage.REFUSED)
            return
        await self._send_away(held, device)

    async def _send_away(self, held: _Held, device: Controllable) -> None:
        """Switch and look. With its own timer where it has one: set for what is left, or less."""
        left = (held.command.deadline.boottime_ms - self._now_ms()) * _MILLISECOND
        hold = device.hold(left)
        if hold is None and not device.consent:
            return  # what is left is shorter than any hold: its timer, or its deadline, ends it
        held.hold_ends_ms = None if hold is None else self._now_ms() + hold // _MILLISECOND
        normal_on = held.command.normal_on
        try:
            seen_on = await self._switch(held.command.device_key, not normal_on, hold)
        except Refused as problem:
            self._end(held, str(problem))
            return
        except (EdgeError, TimeoutError) as problem:
            self._retry_later(held)
            log.info("%s did not switch yet: %s", held.command.device_key, problem or "no answer")
            return
        if seen_on is normal_on:
            self._retry_later(held)
            return
        held.pause = FIRST_RETRY
        if held.command.stage is Stage.INTENDED:
            self._become(held, replace(held.command, stage=Stage.AWAY))

    def _move_deadline(self, held: _Held, away_until: datetime) -> None:
        """Later or sooner. A later one that the card never hears of only ends it too soon."""
        now, now_ms = self._clock.wall_now(), self._now_ms()
        deadline_ms = now_ms + (away_until - now) // _MILLISECOND
        moved_ms = abs(deadline_ms - held.command.deadline.boottime_ms)
        if moved_ms >= MOVED_MIN // _MILLISECOND:
            deadline = Deadline(self._clock.boot_id(), deadline_ms)
            moved = replace(held.command, deadline=deadline, away_until=away_until)
            self._become(held, moved)

    def _follow_wall_clock(self, held: _Held) -> None:
        """Somebody set the wall clock: the times of day for after a reboot move, nothing else."""
        command, now_ms = held.command, self._now_ms()
        if Stage.RETURNING is command.stage or command.issued.boot_id != self._clock.boot_id():
            return
        now = self._clock.wall_now()
        issued_at = now - (now_ms - command.issued.boottime_ms) * _MILLISECOND
        if abs(issued_at - command.issued_at) >= MOVED_MIN:
            away_until = now + (command.deadline.boottime_ms - now_ms) * _MILLISECOND
            self._become(held, replace(command, issued_at=issued_at, away_until=away_until))

    # --- and back ---------------------------------------------------------------------------------

    async def _keep_promise(self, held: _Held, device: Controllable | None) -> None:
        if self._passed(held.command):
            self._end(held, "over")
        if held.command.stage is Stage.RETURNING:
            if self._retry_due(held):
                await self._bring_back(held)
            return
        renew_at_ms = held.hold_ends_ms and held.hold_ends_ms - RENEW_BEFORE // _MILLISECOND
        renew = renew_at_ms is not None and self._now_ms() >= renew_at_ms
        again = held.command.stage is Stage.INTENDED and self._retry_due(held)
        if device is not None and (renew or again):
            held.hold_ends_ms = None
            await self._send_away(held, device)

    async def _bring_back(self, held: _Held) -> None:
        """Switch and look. The store hears of it afterwards, and may be broken."""
        key, normal_on = held.command.device_key, held.command.normal_on
        state = "on" if normal_on else "off"
        try:
            seen_on = await self._switch(key, normal_on, None)
        except (EdgeError, TimeoutError) as problem:
            self._retry_later(held)
            said = str(problem) or "it does not answer"
            self._health.alarm(f"switch {key}", f"it could not be switched {state} yet: {said}")
            return
        if seen_on is (not normal_on):
            self._retry_later(held)
            self._health.alarm(f"switch {key}", f"it was told to switch {state} and did not yet")
            return
        self._close(held, held.command.outcome)

    async def _switch(self, device_key: str, on: bool, hold: timedelta | None) -> bool | None:
        """Tell the device, and ask it; what it says."""
        family, _, device = device_key.partition("/")
        switch = self._switches().get(family)
        if switch is None:
            raise Refused(f"{family} is not set up on this box any more")
        async with asyncio.timeout(SWITCH_WITHIN_S):
            if on:
                await switch.turn_on(device)
            else:
                await switch.turn_off(device, hold)
        async with asyncio.timeout(CONFIRM_WITHIN_S):
            return await switch.is_on(device)

    # --- inside -----------------------------------------------------------------------------------

    def _after_restart(self, command: Command) -> Command:
        boot_id = self._clock.boot_id()
        if command.deadline.boot_id == boot_id:
            return command
        if not self._clock.is_trusted() or self._clock.wall_now() < command.issued_at:
            return replace(command, stage=Stage.RETURNING, outcome="restarted_without_time")
        now, now_ms = self._clock.wall_now(), self._now_ms()
        whole = command.away_until - command.issued_at
        left = max(min(command.away_until - now, whole), timedelta(0))
        away_for = max(now - command.issued_at, whole - left)
        return replace(
            command,
            issued=Deadline(boot_id, now_ms - away_for // _MILLISECOND),
            deadline=Deadline(boot_id, now_ms + left // _MILLISECOND),
        )

    def _end(self, held: _Held, outcome: str) -> None:
        if held.command.stage is not Stage.RETURNING:
            held.retry_at_ms, held.pause = 0, FIRST_RETRY
            self._become(held, replace(held.command, stage=Stage.RETURNING, outcome=outcome))

    def _close(self, held: _Held, outcome: str, stage: Stage = Stage.DONE) -> None:
        key = held.command.device_key
        self._health.clear(f"switch {key}")
        self._back_ms[key] = self._now_ms()
        del self._held[key]
        closed_at = self._clock.wall_now()
        done = replace(held.command, stage=stage, outcome=outcome, closed_at=closed_at)
        self._become(held, done)

    def _become(self, held: _Held, command: Command) -> None:
        held.command = command
        self._unwritten[command.command_id] = command
        self._to_write.set()

    def _passed(self, command: Command) -> bool:
        return self._now_ms() >= command.deadline.boottime_ms

    def _retry_due(self, held: _Held) -> bool:
        return self._now_ms() >= held.retry_at_ms

    def _retry_later(self, held: _Held) -> None:
        held.retry_at_ms = self._now_ms() + held.pause // _MILLISECOND
        held.pause = min(held.pause * 2, RETRY_MAX)

    def _now_ms(self) -> int:
        return self._clock.boottime_ms()
