"""What keeps a network alive unattended: asks silent meters, watches the stick, revives dead nodes.

Each loop runs as long as one connection. None of them ends it over a silent node; only a driver
that stops answering altogether does.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from zwave_js_server.const import INTERVIEW_FAILED, NodeStatus
from zwave_js_server.model.driver import Driver
from zwave_js_server.model.node import Node

from edge.clock import MILLISECOND, Clock
from edge.devices.zwave.door import NodeSilent, StickSilent, answered
from edge.devices.zwave.metering import Metering, Silent
from edge.devices.zwave.nodes import label, meter_values
from edge.devices.zwave.presets import Setting
from edge.devices.zwave.switching import set_parameter
from edge.errors import Malformed, Refused
from edge.supervise import first_to_fail

log = logging.getLogger(__name__)

POLL_PACE = timedelta(seconds=1)  # at most one question a second: the air belongs to the reports
POLL_IDLE = timedelta(seconds=5)
POLL_WITHIN_S = 30.0

WATCH_EVERY = timedelta(seconds=15)
STICK_QUIET_FOR = timedelta(seconds=60)  # no event this long: ask the stick itself
STICK_ANSWERS_WITHIN_S = 45.0  # the driver gives up on a hung stick after 17 s, then restarts it
SOFT_RESET_AFTER_QUESTIONS = 3
SOFT_RESET_EVERY = timedelta(minutes=30)
SOFT_RESET_WITHIN_S = 60.0

REVIVE_LOOK_EVERY = timedelta(seconds=10)
REVIVE_FIRST_PAUSE = timedelta(minutes=1)
REVIVE_PAUSE_MAX = timedelta(minutes=30)
PING_WITHIN_S = 60.0

PRESET_LOOK_EVERY = timedelta(seconds=15)
PRESET_FIRST_PAUSE = timedelta(minutes=10)  # a meter that took no preset is left alone this long
PRESET_PAUSE_MAX = timedelta(hours=12)


# What one device or the stick says no to ends no session; a driver that is silent does.
_NO_END = (NodeSilent, StickSilent, Refused, Malformed)


@dataclass(slots=True)
class StickHealth:
    """What the watchdog found. Outlives the connection."""

    heard_ms: int | None = None  # CLOCK_BOOTTIME of the last sign of life from radio or stick
    unanswered: int = 0
    soft_reset_ms: int | None = None
    soft_resets: int = 0

    @property
    def is_silent(self) -> bool:
        return self.unanswered > 0


class Patience:
    """When to try each node again: at once, then after ever longer pauses."""

    def __init__(self, clock: Clock, first: timedelta, longest: timedelta) -> None:
        self._clock = clock
        self._first = first
        self._longest = longest
        self._next: dict[int, tuple[float, timedelta]] = {}  # node → (CLOCK_BOOTTIME ms, pause)

    def is_over(self, node_id: int) -> bool:
        """Whether the node may be tried now; if so, its next turn is put off."""
        now_ms = self._clock.boottime_ms()
        next_ms, pause = self._next.get(node_id, (now_ms, self._first))
        if now_ms < next_ms:
            return False
        self._next[node_id] = (now_ms + pause / MILLISECOND, min(pause * 2, self._longest))
        return True

    def forget(self, node_id: int) -> None:
        """The node is well; should it fail again, it is tried at once."""
        self._next.pop(node_id, None)


class Care:
    """The loops around one connection. `is_busy`: someone adds or removes a device just now."""

    def __init__(
        self,
        clock: Clock,
        metering: Metering,
        stick: StickHealth,
        *,
        radio: asyncio.Lock,
        is_busy: Callable[[], bool],
        wishes: Callable[[Node], list[Setting]],
    ) -> None:
        """`radio` is held for each command, so that a device joins in an undisturbed air."""
        self.clock = clock
        self.metering = metering
        self.stick = stick
        self.radio = radio
        self.is_busy = is_busy
        self.wishes = wishes
        self._revival = Patience(clock, REVIVE_FIRST_PAUSE, REVIVE_PAUSE_MAX)
        self._presets = Patience(clock, PRESET_FIRST_PAUSE, PRESET_PAUSE_MAX)

    async def run(self, driver: Driver) -> None:
        """Care until the driver stops answering; raises Unreachable then."""
        await first_to_fail(
            self._ask_silent_meters(driver),
            self._watch_stick(driver),
            self._revive(driver),
            self._follow_presets(driver),
        )

    # --- meters that should have reported ---------------------------------------------------------

    async def _ask_silent_meters(self, driver: Driver) -> None:
        while True:
            await self.clock.sleep(POLL_PACE if await self._ask_one(driver) else POLL_IDLE)

    async def _ask_one(self, driver: Driver) -> bool:
        """Ask the longest silent meter that can answer. Its answer comes as a report."""
        if self.is_busy() or self.stick.is_silent:
            return False
        for silent in self.metering.silent():
            node = driver.controller.nodes.get(silent.node_id)
            if node is not None and _can_answer(node):
                await self._ask(node, silent)
                return True
        return False

    async def _ask(self, node: Node, silent: Silent) -> None:
        self.metering.asked(silent)
        if silent.source not in meter_values(node):
            return
        try:
            async with self.radio, answered(f"asking {label(node)} for its meter", POLL_WITHIN_S):
                await node.async_send_command(
                    "poll_value",
                    valueId={
                        "commandClass": 50,
                        "endpoint": silent.source.endpoint,
                        "property": "value",
                        "propertyKey": silent.source.property_key,
                    },
                    wait_for_result=True,
                )
        except _NO_END as problem:
            log.debug("%s", problem)

    # --- a stick that hangs -----------------------------------------------------------------------

    async def _watch_stick(self, driver: Driver) -> None:
        while True:
            if not self.is_busy() and self._is_quiet():
                await self._ask_stick(driver)
            await self.clock.sleep(WATCH_EVERY)

    def _is_quiet(self) -> bool:
        heard_ms = self.stick.heard_ms
        now_ms = self.clock.boottime_ms()
        return heard_ms is None or now_ms - heard_ms > STICK_QUIET_FOR / MILLISECOND

    async def _ask_stick(self, driver: Driver) -> None:
        """Ask the stick for its own neighbours: a question that needs no radio."""
        controller = driver.controller
        if controller.own_node is None:
            return
        try:
            async with self.radio, answered("asking the Z-Wave stick", STICK_ANSWERS_WITHIN_S):
                await controller.async_get_node_neighbors(controller.own_node)
        except (StickSilent, NodeSilent) as problem:
            self.stick.unanswered += 1
            log.warning("the Z-Wave stick is silent (%d times): %s", self.stick.unanswered, problem)
            await self._soft_reset(driver)
        except (Refused, Malformed):  # a stick that cannot say has at least said so
            self.stick_heard()
        else:
            self.stick_heard()

    def stick_heard(self) -> None:
        """Note a sign of life from the stick."""
        self.stick.heard_ms = self.clock.boottime_ms()
        if self.stick.unanswered:
            log.info("the Z-Wave stick answers again")
        self.stick.unanswered = 0

    async def _soft_reset(self, driver: Driver) -> None:
        """Restart the stick's firmware once the driver's own recovery had its chance."""
        now_ms, last_ms = self.clock.boottime_ms(), self.stick.soft_reset_ms
        if self.stick.unanswered < SOFT_RESET_AFTER_QUESTIONS or (
            last_ms is not None and now_ms - last_ms < SOFT_RESET_EVERY / MILLISECOND
        ):
            return
        self.stick.soft_reset_ms = now_ms
        self.stick.soft_resets += 1
        try:
            async with answered("restarting the Z-Wave stick", SOFT_RESET_WITHIN_S):
                await driver.async_soft_reset()
        except _NO_END as problem:
            log.warning("%s", problem)

    # --- nodes that the driver gave up ------------------------------------------------------------

    async def _revive(self, driver: Driver) -> None:
        while True:
            await self.clock.sleep(REVIVE_LOOK_EVERY)
            for node in list(driver.controller.nodes.values()):
                await self._revive_one(node)

    async def _revive_one(self, node: Node) -> None:
        is_dead = node.status == NodeStatus.DEAD
        if not is_dead and node.interview_stage != INTERVIEW_FAILED:
            self._revival.forget(node.node_id)
            return
        if self.is_busy() or self.stick.is_silent or not self._revival.is_over(node.node_id):
            return
        try:
            async with self.radio, answered(f"reviving {label(node)}", PING_WITHIN_S):
                if is_dead:
                    await node.async_ping()
                else:
                    await node.async_refresh_info()
        except _NO_END as problem:
            log.debug("%s", problem)

    # --- meters that should report otherwise ------------------------------------------------------

    def wish_soon(self, node: Node) -> None:
        """A person changed what is wished of the node: do not wait for its next turn."""
        self._presets.forget(node.node_id)

    async def _follow_presets(self, driver: Driver) -> None:
        while True:
            for node in list(driver.controller.nodes.values()):
                await self._follow_preset(node)
            await self.clock.sleep(PRESET_LOOK_EVERY)

    async def _follow_preset(self, node: Node) -> None:
        if self.is_busy() or self.stick.is_silent or not _can_answer(node):
            return
        wanted = self.wishes(node)
        if not wanted:
            self._presets.forget(node.node_id)
            return
        if not self._presets.is_over(node.node_id):
            return
        log.info("%s: setting %s", label(node), ", ".join(f"{s.number}={s.value}" for s in wanted))
        try:
            for setting in wanted:
                if self.is_busy():
                    return
                async with self.radio:
                    await set_parameter(node, setting.number, setting.value)
        except _NO_END as problem:
            log.warning("%s", problem)


def _can_answer(node: Node) -> bool:
    return bool(node.ready and node.is_listening) and node.status in (
        NodeStatus.ALIVE,
        NodeStatus.AWAKE,
    )
