"""What the box wants to know of a node, read from the driver's picture of it. Nothing is sent."""

from datetime import datetime, timedelta
from typing import NamedTuple

from zwave_js_server.const import CommandClass, NodeStatus, SecurityClass
from zwave_js_server.model.node import Node
from zwave_js_server.model.value import Value

from edge.devices.zwave.channels import FAMILY, MeterValue, Product
from edge.devices.zwave.presets import Parameter
from edge.model import Device, DeviceState

NAME_CHARACTERS_MAX = 64  # names come over the radio: anybody's, of any length
_NO_RSSI_FROM = 125  # 125, 126 and 127 say why there is no value, they are no dBm
_DATA_RATES = {1: "9.6 kbit/s", 2: "40 kbit/s", 3: "100 kbit/s", 4: "Long Range 100 kbit/s"}

_STATES = {
    NodeStatus.UNKNOWN: DeviceState.UNKNOWN,
    NodeStatus.ASLEEP: DeviceState.ASLEEP,
    NodeStatus.AWAKE: DeviceState.ALIVE,
    NodeStatus.ALIVE: DeviceState.ALIVE,
    NodeStatus.DEAD: DeviceState.DEAD,
}


class SwitchPoint(NamedTuple):
    """One thing that switches: the values to read and to set, and what means off and on."""

    endpoint: int
    current_id: str
    target_id: str
    off: bool | int
    on: bool | int


def device_name(home_id: int, node_id: int) -> str:
    """The node's name within its family: stable as long as the network lives."""
    return f"{home_id:08x}-{node_id}"


def product(node: Node) -> Product:
    return Product(node.manufacturer_id or 0, node.product_type or 0, node.product_id or 0)


def label(node: Node) -> str:
    """What people call the node: their own name for it, else its model, else its number."""
    own = printable(node.name or "")
    return own or printable(node.device_config.label or "") or f"Node {node.node_id}"


def model(node: Node) -> str:
    config = node.device_config
    return printable(" ".join(filter(None, (config.manufacturer, config.label))))


def printable(text: str) -> str:
    """A name from the radio without control characters and of bounded length."""
    return "".join(c for c in text if c.isprintable()).strip()[:NAME_CHARACTERS_MAX]


def state(node: Node) -> DeviceState:
    if node.status == NodeStatus.DEAD:
        return DeviceState.DEAD
    if node.in_interview:
        return DeviceState.INTERVIEWING
    return _STATES[node.status]


def meter_values(node: Node) -> dict[MeterValue, Value]:
    """Every meter value that the node announced."""
    return {
        MeterValue(value.endpoint or 0, value.property_key): value
        for value in node.values.values()
        if value.command_class == CommandClass.METER
        and value.property_ == "value"
        and isinstance(value.property_key, int)
    }


def configuration(node: Node) -> list[Parameter]:
    """Every configuration parameter of the node that holds a number, as the driver last knew it."""
    return [
        Parameter(
            value.property_,
            value.property_key if isinstance(value.property_key, int) else None,
            value.metadata.label or "",
            value.value if isinstance(value.value, int) else None,
        )
        for value in node.values.values()
        if value.command_class == CommandClass.CONFIGURATION
        and isinstance(value.property_, int)
        and (value.endpoint or 0) == 0
    ]


def parameters(node: Node) -> dict[int, int | None]:
    """The whole parameters of the node: number → value."""
    return {p.number: p.value for p in configuration(node) if p.mask is None}


def switch_points(node: Node) -> list[SwitchPoint]:
    """Everything on the node that switches. A device with several sockets has several."""
    points = {
        endpoint: point
        for endpoint in node.endpoints
        if (point := _binary(node, endpoint) or _multilevel(node, endpoint))
    }
    if len(points) > 1:  # the root endpoint only repeats or joins the sockets
        points.pop(0, None)
    return [points[endpoint] for endpoint in sorted(points)]


def _binary(node: Node, endpoint: int) -> SwitchPoint | None:
    return _point(node, endpoint, CommandClass.SWITCH_BINARY, off=False, on=True)


def _multilevel(node: Node, endpoint: int) -> SwitchPoint | None:
    # 255 means "as bright as before it was switched off" (Multilevel Switch CC).
    return _point(node, endpoint, CommandClass.SWITCH_MULTILEVEL, off=0, on=255)


def _point(
    node: Node, endpoint: int, command_class: CommandClass, off: bool | int, on: bool | int
) -> SwitchPoint | None:
    values = f"{node.node_id}-{command_class.value}-{endpoint}"
    current_id, target_id = f"{values}-currentValue", f"{values}-targetValue"
    if current_id not in node.values or target_id not in node.values:
        return None
    return SwitchPoint(endpoint, current_id, target_id, off, on)


def is_on(node: Node, point: SwitchPoint) -> bool | None:
    """The state the driver last heard of."""
    return as_on(node.values[point.current_id].value)


def as_on(value: object) -> bool | None:
    """A switch's value as on or off; None where it is neither."""
    return bool(value) if isinstance(value, bool | int) else None


def devices(
    node: Node,
    device: str,
    own_timers: tuple[timedelta, ...],
    report_interval: timedelta | None = None,
) -> list[Device]:
    """The node as page and status show it; one entry more per socket where it has several."""
    points = switch_points(node)
    only = points[0] if len(points) == 1 else None
    whole = Device(
        family=FAMILY,
        device=device,
        name=label(node),
        model=model(node),
        state=state(node),
        last_seen=_last_seen(node),
        is_switch=only is not None,
        is_on=is_on(node, only) if only else None,
        own_timers=own_timers if only else (),
        details=_details(node) | _reports(report_interval),
    )
    if only or not points:
        return [whole]
    sockets = [
        Device(
            family=FAMILY,
            device=f"{device}:{point.endpoint}",
            name=f"{whole.name} {point.endpoint}",
            model=whole.model,
            state=whole.state,
            last_seen=whole.last_seen,
            is_switch=True,
            is_on=is_on(node, point),
        )
        for point in points
    ]
    return [whole, *sockets]


def _last_seen(node: Node) -> datetime | None:
    return node.statistics.last_seen or node.last_seen


def _details(node: Node) -> dict[str, str | float | bool | None]:
    statistics = node.statistics.data
    route = statistics.get("lwr")
    security = node.highest_security_class
    details: dict[str, str | float | bool | None] = {
        "node": node.node_id,
        "interview": str(node.interview_stage or "not started"),
        "ready": bool(node.ready),
        "mains_powered": bool(node.is_listening),
        "security": _key_name(security),
        "firmware": node.firmware_version,
        "rtt_ms": statistics.get("rtt"),
        "rssi_dbm": _dbm(statistics.get("rssi")),
        "commands_dropped": statistics["commandsDroppedTX"] + statistics["commandsDroppedRX"],
        "time_outs": statistics["timeoutResponse"],
    }
    if route:
        repeaters = route.get("repeaters", [])
        details["repeaters"] = ", ".join(str(repeater) for repeater in repeaters)
        details["hops"] = len(repeaters)
        details["data_rate"] = _DATA_RATES.get(route.get("protocolDataRate", 0))
        if details["rssi_dbm"] is None:
            details["rssi_dbm"] = _dbm(route.get("rssi"))
    return details


def _reports(interval: timedelta | None) -> dict[str, str | float | bool | None]:
    return {} if interval is None else {"report_interval_s": interval.total_seconds()}


def _key_name(security: SecurityClass | None) -> str:
    return "none" if security is None else security.name.lower()


def _dbm(rssi: int | None) -> float | None:
    return None if rssi is None or rssi >= _NO_RSSI_FROM else float(rssi)
