"""A person's wishes about devices: they win over every plan until their time is over.

Time runs on CLOCK_BOOTTIME, so that no step of the wall clock makes a wish longer or shorter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from edge.clock import MILLISECOND, Clock
from edge.control.decide import Controllable
from edge.control.ledger import Deadline
from edge.documents import Documents
from edge.model import Interval, Origin, Plan

_HANDS = "hands"
# A wish began before now: whoever decides took their own now a moment earlier.
_EARLIER = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Hand:
    """A person's wish that wins until `deadline` or until given back: away or not.

    `at_device`: seen at the device itself, not entered on the page. `until` is the deadline as
    wall time, for people and for the time after a reboot.
    """

    away: bool
    deadline: Deadline
    until: datetime
    at_device: bool = False


class Hands:
    """The wishes of all devices, by device key, and as kept in state.db."""

    def __init__(self, settings: Documents, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._hands: dict[str, Hand] = {}

    async def restore(self) -> None:
        """Raises KeyError, TypeError, ValueError or AttributeError on what cannot be read; then
        there is no wish."""
        self._hands = {}
        kept = await self._settings.get(_HANDS) or {}
        found = {key: self._after_restart(_from_json(each)) for key, each in kept.items()}
        self._hands = {key: hand for key, hand in found.items() if hand is not None}

    def get(self, device_key: str) -> Hand | None:
        return self._hands.get(device_key)

    def wish(self, span: timedelta, *, away: bool, at_device: bool = False) -> Hand:
        """For so long from now."""
        deadline_ms = self._clock.boottime_ms() + span // MILLISECOND
        deadline = Deadline(self._clock.boot_id(), deadline_ms)
        return Hand(away, deadline, self._clock.wall_now() + span, at_device)

    async def keep(self, device_key: str, hand: Hand | None) -> None:
        """In place of what was wished of the device; None: nothing any more."""
        if hand is None and device_key not in self._hands:
            return
        self._hands.pop(device_key, None)
        if hand is not None:
            self._hands[device_key] = hand
        await self._settings.put(_HANDS, {key: _to_json(each) for key, each in self._hands.items()})

    def plan(self, device: Controllable, hand: Hand | None) -> Plan | None:
        """The wish as decide() wants it; None once its time is over."""
        if hand is None:
            return None
        left = (hand.deadline.boottime_ms - self._clock.boottime_ms()) * MILLISECOND
        if left <= timedelta(0):
            return None
        off = hand.away is device.normal_on
        power_w = device.off_power_w if off else device.nominal_power_w
        now = self._clock.wall_now()
        return Plan(Origin.HAND, (Interval(now - _EARLIER, now + left, power_w),))

    def _after_restart(self, hand: Hand) -> Hand | None:
        """A wish of an earlier boot goes on by the clock; without one it is over."""
        if hand.deadline.boot_id == self._clock.boot_id():
            return hand
        left = hand.until - self._clock.wall_now()
        if not self._clock.is_trusted() or left <= timedelta(0):
            return None
        return self.wish(left, away=hand.away, at_device=hand.at_device)


def _to_json(hand: Hand) -> dict[str, Any]:
    return {
        "away": hand.away,
        "deadline": list(hand.deadline),
        "until": hand.until.isoformat(),
        "at_device": hand.at_device,
    }


def _from_json(kept: Mapping[str, Any]) -> Hand:
    return Hand(
        away=kept["away"],
        deadline=Deadline(*kept["deadline"]),
        until=datetime.fromisoformat(kept["until"]),
        at_device=kept["at_device"],
    )
