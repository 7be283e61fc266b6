"""Switching, reading back, and setting parameters of one node. Each call has its own time-out."""

from datetime import timedelta

from zwave_js_server.const import CommandClass, SetValueStatus
from zwave_js_server.model.node import Node

from edge.devices.zwave.door import answered
from edge.devices.zwave.nodes import SwitchPoint, as_on, label, parameters, product
from edge.devices.zwave.own_timers import AutoOn, auto_on
from edge.errors import Refused

SWITCH_WITHIN_S = 25.0  # longer than the driver's own 17 s for a hung stick: its word says more
READ_WITHIN_S = 25.0
PARAMETER_WITHIN_S = 25.0

_DONE = (SetValueStatus.SUCCESS, SetValueStatus.SUCCESS_UNSUPERVISED, SetValueStatus.WORKING)


async def switch(node: Node, point: SwitchPoint, *, on: bool) -> None:
    """Send on or off. Raises Unreachable or Refused."""
    what = f"switching {label(node)} {'on' if on else 'off'}"
    async with answered(what, SWITCH_WITHIN_S):
        result = await node.async_set_value(
            point.target_id, point.on if on else point.off, wait_for_result=True
        )
    if result is not None and result.status not in _DONE:
        raise Refused(f"{what}: the device said no ({result})")


async def read(node: Node, point: SwitchPoint) -> bool | None:
    """Ask the device itself whether it is on. Raises Unreachable."""
    async with answered(f"asking {label(node)} whether it is on", READ_WITHIN_S):
        answer = await node.async_send_command(
            "poll_value",
            valueId={
                "commandClass": node.values[point.current_id].command_class,
                "endpoint": point.endpoint,
                "property": "currentValue",
            },
            wait_for_result=True,
        )
    return as_on((answer or {}).get("value"))


def timer(node: Node) -> AutoOn | None:
    """The node's own auto-on timer, if it has one that we know."""
    return auto_on(product(node), parameters(node))


async def hold(node: Node, wanted: timedelta | None) -> None:
    """Let the device come back by itself after `wanted`; None clears its timer.

    Raises Refused where the device cannot keep exactly that hold.
    """
    own = timer(node)
    if own is None:
        if wanted is not None:
            raise Refused(f"{label(node)} has no timer of its own")
        return
    if wanted is not None and wanted not in own.holds:
        raise Refused(f"{label(node)} cannot hold for {wanted}")
    value = own.value(wanted) if wanted is not None else 0
    if wanted is not None or parameters(node)[own.parameter] != 0:
        await set_parameter(node, own.parameter, value)


async def set_parameter(node: Node, parameter: int, value: int) -> None:
    """Write one whole configuration parameter. Raises Unreachable or Refused."""
    what = f"setting parameter {parameter} of {label(node)}"
    async with answered(what, PARAMETER_WITHIN_S):
        answer = await node.async_send_command(
            "set_value",
            valueId={
                "commandClass": CommandClass.CONFIGURATION.value,
                "endpoint": 0,
                "property": parameter,
            },
            value=value,
            wait_for_result=True,
        )
    result = (answer or {}).get("result") or {}
    if result.get("status", SetValueStatus.SUCCESS) not in list(_DONE):
        raise Refused(f"{what}: the device said no")
