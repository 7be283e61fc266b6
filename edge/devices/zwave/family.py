"""Z-Wave as the agent sees it: a Meter and a Switch over one connection to the zwave-server.

run() is one session: connect, take the snapshot, follow events, care for the network. Whatever
ends it becomes an EdgeError, and keep_running() starts the next session with a new client.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import aiohttp
from zwave_js_server.const import CommandClass, ControllerStatus
from zwave_js_server.model.driver import Driver
from zwave_js_server.model.node import Node

from edge.clock import Clock
from edge.devices.zwave import switching
from edge.devices.zwave.care import Care, StickHealth
from edge.devices.zwave.channels import FAMILY, MeterValue
from edge.devices.zwave.door import (
    SNAPSHOT_WITHIN_S,
    DriverClient,
    Event,
    connect,
    first_to_fail,
    listen,
)
from edge.devices.zwave.metering import Metering
from edge.devices.zwave.nodes import (
    SwitchPoint,
    configuration,
    device_name,
    devices,
    label,
    meter_values,
    product,
    switch_points,
)
from edge.devices.zwave.presets import Setting, report_intervals, settings
from edge.errors import Malformed, Refused, Unreachable
from edge.model import Device, DeviceState, Intake

log = logging.getLogger(__name__)

# After an event that could not be read the whole picture is fetched anew, but not more often.
FRESH_PICTURE_EVERY = timedelta(minutes=10)

_VALUE_EVENTS = frozenset({"value updated", "value added"})
_NODE_CHANGES = frozenset({"ready", "interview completed", "metadata updated", "value removed"})
_SIGNS_OF_LIFE = _VALUE_EVENTS | {"value notification", "notification", "alive", "wake up"}
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class ZWaveStatus:
    """The driver and the stick, for the status and the page."""

    connected: bool
    problem: str | None
    home_id: str | None = None
    server_version: str | None = None
    driver_version: str | None = None
    stick_firmware: str | None = None
    controller: str | None = None
    inclusion: str | None = None
    nodes: int = 0
    reports: int = 0
    sessions: int = 0
    unreadable_events: int = 0
    last_unreadable: str | None = None
    soft_resets: int = 0


class ZWave:
    """Every Z-Wave meter and switch of the house."""

    family = FAMILY

    def __init__(
        self,
        url: str,
        intake: Intake,
        clock: Clock,
        *,
        report_presets: bool = True,
        signed_power: bool = True,
        power_intervals: Mapping[str, timedelta] | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        """Costs nothing; run() connects.

        `report_presets`: known meters are told how often to report (presets.py); `signed_power`:
        and to give power a sign. `power_intervals`: device → how often a person wants its power.
        `aliases`: device that took another's place → the name under which it goes on.
        """
        self._url = url
        self._clock = clock
        self._report_presets = report_presets
        self._signed_power = signed_power
        self.power_intervals = dict(power_intervals or {})
        self.aliases = dict(aliases or {})
        self._metering = Metering(intake, clock)
        self._stick = StickHealth()
        self._care = Care(
            clock, self._metering, self._stick, is_busy=self._is_busy, wishes=self._wishes
        )
        self._client: DriverClient | None = None
        self._driver: Driver | None = None
        self._home_id: int | None = None
        self._last_devices: list[Device] = []
        self._sessions = 0
        self._unreadable = 0
        self._unreadable_sample: str | None = None
        self._fresh_picture_ms: int | None = None

    # --- Meter ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Measure until the session ends. Raises Unreachable, Refused or Malformed."""
        async with aiohttp.ClientSession() as http:
            client = DriverClient(
                self._url,
                http,
                on_driver=self._begin,
                on_event=self._on_event,
                on_unreadable=self._on_unreadable,
            )
            await connect(client)
            self._client = client
            ready = asyncio.Event()
            try:
                await first_to_fail(listen(client, ready), self._care_once(client, ready))
            finally:
                self._end()

    def devices(self) -> list[Device]:
        """Every device known now; without a connection those known last, their state unknown."""
        if self._driver is None:
            return self._last_devices
        return [
            device
            for node in self._driver.controller.nodes.values()
            if not node.is_controller_node
            for device in devices(node, self._device_of(node), _holds(node), {})
        ]

    def status(self) -> ZWaveStatus:
        """What `edge status` says of driver and stick."""
        status = ZWaveStatus(
            connected=False,
            problem="the Z-Wave driver is not connected",
            reports=self._metering.reports,
            sessions=self._sessions,
            unreadable_events=self._unreadable,
            last_unreadable=self._unreadable_sample,
            soft_resets=self._stick.soft_resets,
        )
        driver, client = self._driver, self._client
        if driver is None or client is None:
            return status
        controller, version = driver.controller, client.version
        return replace(
            status,
            connected=True,
            problem=self._problem(controller.status),
            home_id=f"{controller.home_id:08x}" if controller.home_id is not None else None,
            server_version=version.server_version if version else None,
            driver_version=version.driver_version if version else None,
            stick_firmware=controller.firmware_version,
            controller=controller.status.name.lower(),
            inclusion=controller.inclusion_state.name.lower(),
            nodes=sum(not node.is_controller_node for node in controller.nodes.values()),
        )

    def _problem(self, controller: ControllerStatus) -> str | None:
        if self._stick.is_silent or controller == ControllerStatus.UNRESPONSIVE:
            return "the Z-Wave stick does not answer; unplug it and plug it in again"
        if controller == ControllerStatus.JAMMED:
            return "the radio is jammed; move the stick away from other electronics"
        return None

    # --- Switch -----------------------------------------------------------------------------------

    async def turn_off(self, device: str, hold: timedelta | None) -> None:
        """Switch off; with `hold` the device itself comes back after it."""
        node, point = self._switch(device)
        await switching.hold(node, hold)
        await switching.switch(node, point, on=False)

    async def turn_on(self, device: str) -> None:
        """Switch on, and clear the device's own timer if one is set."""
        node, point = self._switch(device)
        await switching.switch(node, point, on=True)
        await switching.hold(node, None)

    async def is_on(self, device: str) -> bool | None:
        """Ask the device itself. Raises Unreachable where it does not answer."""
        node, point = self._switch(device)
        return await switching.read(node, point)

    def _switch(self, device: str) -> tuple[Node, SwitchPoint]:
        name, _, socket = device.partition(":")
        node = self.node(name)
        points = switch_points(node)
        if socket:
            points = [point for point in points if str(point.endpoint) == socket]
        if len(points) != 1:
            raise Refused(f"{label(node)} is no switch that the box knows")
        return node, points[0]

    # --- for the rest of this room ----------------------------------------------------------------

    def driver(self) -> Driver:
        """The live driver. Raises Unreachable."""
        if self._driver is None:
            raise Unreachable("the Z-Wave driver is not connected; is the stick plugged in?")
        return self._driver

    def node(self, device: str) -> Node:
        """The node behind a device name. Raises Unreachable or Refused."""
        for node in self.driver().controller.nodes.values():
            if self._device_of(node) == device:
                return node
        raise Refused(f"there is no Z-Wave device {device}; it may have been removed")

    # --- one session ------------------------------------------------------------------------------

    async def _care_once(self, client: DriverClient, ready: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(SNAPSHOT_WITHIN_S):
                await ready.wait()
        except TimeoutError as problem:
            raise Unreachable("the Z-Wave driver does not tell which devices it has") from problem
        if client.driver is not None:
            await self._care.run(client.driver)

    def _begin(self, driver: Driver) -> None:
        """Take the snapshot in, before any event that follows it."""
        self._driver = driver
        self._sessions += 1
        if self._home_id not in (None, driver.controller.home_id):
            self._metering.forget()
        self._home_id = driver.controller.home_id
        for node in driver.controller.nodes.values():
            self._take_in(node)

    def _end(self) -> None:
        self._last_devices = [
            replace(device, state=DeviceState.UNKNOWN, is_on=None) for device in self.devices()
        ]
        self._driver = None
        self._client = None

    def _take_in(self, node: Node) -> None:
        values = meter_values(node)
        if values or node.node_id in self._metering.node_ids():
            self._metering.node_has(
                node.node_id,
                self._device_of(node),
                label(node),
                product(node),
                values,
                report_intervals(configuration(node)),
            )

    def _device_of(self, node: Node) -> str:
        name = device_name(self._home_id or 0, node.node_id)
        return self.aliases.get(name, name)

    def _wishes(self, node: Node) -> list[Setting]:
        """What must be written to the node so that it reports as the house wants."""
        if not self._report_presets:
            return []
        return settings(
            product(node),
            configuration(node),
            signed_power=self._signed_power,
            power_interval=self.power_intervals.get(self._device_of(node)),
        )

    def _is_busy(self) -> bool:
        return False

    # --- events -----------------------------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        name = event.get("event")
        if event.get("source") == "node":
            if name in _SIGNS_OF_LIFE:
                self._care.stick_heard()
            self._on_node_event(str(name), int(event["nodeId"]), event)
        elif name == "node removed":
            self._metering.node_gone(event["node"].node_id)

    def _on_node_event(self, name: str, node_id: int, event: Event) -> None:
        node = self._driver.controller.nodes.get(node_id) if self._driver else None
        if node is None:
            return
        if name in _VALUE_EVENTS:
            self._on_value(node, event["args"])
        elif name in _NODE_CHANGES:
            self._take_in(node)

    def _on_value(self, node: Node, value: dict[str, Any]) -> None:
        command_class, key = value.get("commandClass"), value.get("propertyKey")
        if command_class == CommandClass.CONFIGURATION:
            self._take_in(node)
        if command_class != CommandClass.METER or value.get("property") != "value":
            return
        number = value.get("newValue", value.get("value"))
        if not isinstance(key, int) or isinstance(number, bool):
            return
        if not isinstance(number, int | float):
            return
        source = MeterValue(value.get("endpoint") or 0, key)
        if not self._metering.knows(node.node_id, source):
            self._take_in(node)
        self._metering.report(node.node_id, source, float(number))

    def _on_unreadable(self, problem: Malformed) -> None:
        """Count the event; end the session for a fresh picture, unless that was done lately."""
        self._unreadable += 1
        self._unreadable_sample = problem.sample
        log.warning("%s: %s", problem, problem.sample)
        now_ms, last_ms = self._clock.boottime_ms(), self._fresh_picture_ms
        if last_ms is None or now_ms - last_ms > FRESH_PICTURE_EVERY / _MILLISECOND:
            self._fresh_picture_ms = now_ms
            raise problem


def _holds(node: Node) -> tuple[timedelta, ...]:
    timer = switching.timer(node)
    return timer.holds if timer else ()
