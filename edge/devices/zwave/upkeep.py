"""Looking after single Z-Wave devices by hand: names, routes, interviews, intervals, tests."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from zwave_js_server.const import NodeStatus
from zwave_js_server.model.driver import Driver
from zwave_js_server.model.node import Node

from edge.devices.zwave import switching
from edge.devices.zwave.choices import Choices
from edge.devices.zwave.door import answered
from edge.devices.zwave.events import (
    DeviceAdded,
    DeviceReady,
    DeviceRemoved,
    EventLog,
    RemovalReason,
)
from edge.devices.zwave.nodes import device_name, label, printable, product
from edge.devices.zwave.picture import Picture
from edge.devices.zwave.presets import PRESETS
from edge.devices.zwave.steps import Steps
from edge.errors import Refused

PING_WITHIN_S = 60.0
COMMAND_WITHIN_S = 30.0
REPORT_INTERVALS = (timedelta(seconds=10), timedelta(hours=1))  # shorter floods the air


@dataclass(frozen=True, slots=True)
class SwitchTest:
    """What a switch did: was it off when told so, and back as it was afterwards?"""

    obeyed: bool
    restored: bool


class Upkeep:
    """Everything a person does to one device that stays in the network."""

    def __init__(
        self,
        picture: Picture,
        steps: Steps,
        choices: Choices,
        wish_soon: Callable[[Node], None],
    ) -> None:
        self._picture = picture
        self._steps = steps
        self._choices = choices
        self._wish_soon = wish_soon

    async def rename(self, device: str, name: str) -> str:
        """Call the device so from now on; the name as kept. Raises Refused where it is empty."""
        kept = printable(name)
        if not kept:
            raise Refused("a device needs a name of at least one letter")
        node = self._picture.node(device)
        await self._call(node, kept)
        self._choices.names[device] = kept
        await self._choices.save()
        return kept

    async def keep_names(self, driver: Driver, log: EventLog) -> None:
        """Give every device the name a person gave it, for as long as the session lasts.

        The driver keeps names in its cache: it forgets them with that, and a device that takes the
        place of another has none. The box's own notebook is part of a backup.
        """
        seen = log.last
        noted = dict(self._choices.names)
        for node in driver.controller.nodes.values():
            if not node.is_controller_node:
                await self._name(node)
        if noted != self._choices.names:
            await self._choices.save()
        async for _, event in log.follow(seen):
            match event:
                case DeviceAdded(device=device) | DeviceReady(device=device):
                    with suppress(Refused):  # it may have left already
                        await self._name(self._picture.node(device))
                case DeviceRemoved(device=device, reason=reason):
                    if reason is not RemovalReason.REPLACED:
                        await self._choices.forget(device)

    async def _name(self, node: Node) -> None:
        """The name of the notebook where the driver knows none; else that of the driver, noted."""
        device, own = self._picture.device_of(node), printable(node.name or "")
        if own:
            self._choices.names.setdefault(device, own)
        elif kept := self._choices.names.get(device):
            await self._call(node, kept)

    async def _call(self, node: Node, name: str) -> None:
        async with answered(f"renaming {label(node)}", COMMAND_WITHIN_S):
            await node.async_set_name(name, update_cc=False)
        self._picture.take_in(node)

    async def ping(self, device: str) -> bool:
        """Whether the device answers now."""
        node = self._picture.node(device)
        async with answered(f"calling {label(node)}", PING_WITHIN_S):
            return await node.async_ping()

    async def interview(self, device: str) -> None:
        """Ask the device anew what it can do; goes on as events. Its channels keep their keys."""
        node = self._picture.node(device)
        if node.status == NodeStatus.DEAD and not await self.ping(device):
            raise Refused(f"{label(node)} does not answer; bring it nearer, or power it, first")
        self._steps.interviewed.add(device)
        async with answered(f"asking {label(node)} what it can do", COMMAND_WITHIN_S):
            await node.async_refresh_info()

    async def test_switch(self, device: str) -> SwitchTest:
        """Flip the switch, read it back, and put it as it was."""
        node, point = self._picture.switch_of(device)
        before = await switching.read(node, point)
        if before is None:
            raise Refused(f"{label(node)} does not say whether it is on")
        await switching.switch(node, point, on=not before)
        obeyed = await switching.read(node, point) is not before
        await switching.switch(node, point, on=before)
        return SwitchTest(obeyed, await switching.read(node, point) is before)

    async def rebuild_routes(self) -> None:
        """Let every device look for its neighbours anew; takes minutes, goes on as events."""
        driver = self._picture.driver()
        async with answered("rebuilding routes", COMMAND_WITHIN_S):
            if not await driver.controller.async_begin_rebuilding_routes():
                raise Refused("routes are being rebuilt already")

    async def stop_rebuilding_routes(self) -> None:
        """Leave the remaining routes as they are."""
        async with answered("ending the rebuilding of routes", COMMAND_WITHIN_S):
            await self._picture.driver().controller.async_stop_rebuilding_routes()

    async def set_power_interval(self, device: str, interval: timedelta | None) -> None:
        """Let a known meter report its power this often; None: as its preset says.

        Takes effect within a minute. Raises Refused where the box cannot tell it so.
        """
        node = self._picture.node(device)
        shortest, longest = REPORT_INTERVALS
        if product(node) not in PRESETS:
            raise Refused(
                f"the box does not know how to tell {label(node)} its report interval; it is asked "
                "every few minutes where it does not report by itself"
            )
        if interval is None:
            self._choices.power_intervals.pop(device, None)
        elif shortest <= interval <= longest:
            self._choices.power_intervals[device] = interval
        else:
            raise Refused("the report interval must be between 10 seconds and one hour")
        self._wish_soon(node)
        await self._choices.save()

    async def adopt(self, device: str, old_device: str, name: str = "") -> None:
        """Let `device` go on as one that is no longer there: same channels, same history, and its
        `name` where it has none of its own. Raises Refused while the old one still belongs to the
        network.
        """
        node = self._picture.node(device)
        controller = self._picture.driver().controller
        if any(self._picture.device_of(other) == old_device for other in controller.nodes.values()):
            raise Refused(f"{old_device} still belongs to the network; remove or replace it first")
        if (kept := printable(name)) and not printable(node.name or ""):
            await self._call(node, kept)
        self._choices.names.pop(device, None)
        if own := printable(node.name or ""):
            self._choices.names[old_device] = own
        if (interval := self._choices.power_intervals.pop(device, None)) is not None:
            self._choices.power_intervals[old_device] = interval
        self._choices.aliases[device_name(controller.home_id or 0, node.node_id)] = old_device
        await self._choices.save()
        self._picture.take_in(node)
