"""The box's picture of the network: the live driver, which node is which device, what changes it.

The snapshot comes first, then every event after it; nothing here waits or sends.
"""

from dataclasses import replace
from typing import Any

from zwave_js_server.const import CommandClass
from zwave_js_server.model.driver import Driver
from zwave_js_server.model.node import Node

from edge.devices.zwave import switching
from edge.devices.zwave.channels import MeterValue
from edge.devices.zwave.choices import Choices
from edge.devices.zwave.door import Event
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
from edge.devices.zwave.presets import report_intervals
from edge.errors import Refused, Unreachable
from edge.model import Device, DeviceState

_VALUE_EVENTS = frozenset({"value updated", "value added"})
_NODE_CHANGES = frozenset({"ready", "interview completed", "metadata updated", "value removed"})
# Only these come from the radio; "dead" or "statistics updated" a hung stick causes too.
_SIGNS_OF_LIFE = _VALUE_EVENTS | {"value notification", "notification", "alive", "wake up"}


class Picture:
    """What is known of the network now. Outlives the connection, empty of nodes without one."""

    def __init__(self, metering: Metering, choices: Choices) -> None:
        self._metering = metering
        self._choices = choices
        self._driver: Driver | None = None
        self._home_id: int | None = None
        self._last_devices: list[Device] = []

    # --- what is known ----------------------------------------------------------------------------

    @property
    def live(self) -> Driver | None:
        """The driver, if there is a connection."""
        return self._driver

    def driver(self) -> Driver:
        """The driver. Raises Unreachable without a connection."""
        if self._driver is None:
            raise Unreachable("the Z-Wave driver is not connected; is the stick plugged in?")
        return self._driver

    def device_of(self, node: Node) -> str:
        """The name of the node within its family; that of the device whose place it took."""
        name = device_name(self._home_id or 0, node.node_id)
        return self._choices.aliases.get(name, name)

    def node(self, device: str) -> Node:
        """The node behind a device name. Raises Unreachable or Refused."""
        nodes = [n for n in self.driver().controller.nodes.values() if not n.is_controller_node]
        for node in nodes:
            if self.device_of(node) == device:
                return node
        for node in nodes:  # what was begun under a device's own number is ended all the same
            if device_name(self._home_id or 0, node.node_id) == device:
                return node
        raise Refused(f"there is no Z-Wave device {device}; it may have been removed")

    def switch_of(self, device: str) -> tuple[Node, SwitchPoint]:
        """The switch of a device, or of one of its sockets ("…:2"). Raises as node() does."""
        name, _, socket = device.partition(":")
        node = self.node(name)
        points = switch_points(node)
        if socket:
            points = [point for point in points if str(point.endpoint) == socket]
        if len(points) != 1:
            raise Refused(f"{label(node)} is no switch that the box knows")
        return node, points[0]

    def devices(self) -> list[Device]:
        """Every device; without a connection those known last, their state unknown."""
        if self._driver is None:
            return self._last_devices
        return [
            device
            for node in self._driver.controller.nodes.values()
            if not node.is_controller_node
            for device in devices(
                node,
                self.device_of(node),
                _holds(node),
                self._metering.power_interval(node.node_id),
            )
        ]

    # --- what changes it --------------------------------------------------------------------------

    def begin(self, driver: Driver) -> None:
        """Take the snapshot in, before any event that follows it."""
        self._driver = driver
        home_id = driver.controller.home_id
        if self._home_id not in (None, home_id):
            self._metering.forget()
        self._home_id = home_id
        for node in driver.controller.nodes.values():
            self.take_in(node)

    def end(self) -> None:
        """The connection is gone."""
        self._last_devices = [
            replace(device, state=DeviceState.UNKNOWN, is_on=None) for device in self.devices()
        ]
        self._driver = None

    def take_in(self, node: Node) -> None:
        """Look again at what the node measures, how often, and what it is called."""
        values = meter_values(node)
        if values or node.node_id in self._metering.node_ids():
            self._metering.node_has(
                node.node_id,
                self.device_of(node),
                label(node),
                product(node),
                values,
                report_intervals(configuration(node)),
            )

    def on_controller_event(self, event: Event) -> None:
        if event["event"] == "node removed":
            self._metering.node_gone(event["node"].node_id)

    def on_node_event(self, node: Node, event: Event) -> bool:
        """Take the event in; whether it shows that the stick is alive."""
        name = event["event"]
        if name in _VALUE_EVENTS:
            self._on_value(node, event["args"])
        elif name in _NODE_CHANGES:
            self.take_in(node)
        return name in _SIGNS_OF_LIFE

    def _on_value(self, node: Node, value: dict[str, Any]) -> None:
        command_class, key = value.get("commandClass"), value.get("propertyKey")
        if command_class == CommandClass.CONFIGURATION:
            self.take_in(node)
        if command_class != CommandClass.METER or value.get("property") != "value":
            return
        number = value.get("newValue", value.get("value"))
        if not isinstance(key, int) or isinstance(number, bool):
            return
        if not isinstance(number, int | float):
            return
        source = MeterValue(value.get("endpoint") or 0, key)
        if not self._metering.knows(node.node_id, source):
            self.take_in(node)
        self._metering.report(node.node_id, source, float(number))


def _holds(node: Node) -> tuple[Any, ...]:
    timer = switching.timer(node)
    return timer.holds if timer else ()
