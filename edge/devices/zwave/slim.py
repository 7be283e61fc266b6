"""Leaves out of the driver's messages what the box never looks at. Pure.

The driver describes every node with its whole device database entry and every value with texts for
people: 100 kB of JSON for one energy meter, four copies of which the client keeps as objects. With
twenty devices that is 5 MB in a box that has 512.
"""

from collections.abc import Mapping
from typing import Any

# Binary and Multilevel Switch, Meter, Configuration, Battery.
COMMAND_CLASSES = frozenset({37, 38, 50, 112, 128})

_VALUE_EVENTS = frozenset(
    {"value added", "value updated", "value removed", "value notification", "metadata updated"}
)
_CONFIG_KEPT = ("manufacturer", "manufacturerId", "label", "description")
_METADATA_KEPT = ("type", "readable", "writeable", "label", "unit", "ccSpecific", "valueSize")


def is_passed_over(event: Mapping[str, Any]) -> bool:
    """Whether the event is about a value that slim() leaves out, so that no one knows it."""
    if event.get("event") not in _VALUE_EVENTS:
        return False
    args = event.get("args")
    return isinstance(args, dict) and args.get("commandClass") not in COMMAND_CLASSES


def slim(message: dict[str, Any]) -> dict[str, Any]:
    """The message with every node in it made slim, in place."""
    for node in _nodes(message):
        config = node.get("deviceConfig")
        if isinstance(config, dict):
            node["deviceConfig"] = {key: config[key] for key in _CONFIG_KEPT if key in config}
        values = node.get("values")
        if isinstance(values, list):
            node["values"] = [_slim_value(v) for v in values if _is_of_use(v)]
    return message


def _nodes(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The nodes of a snapshot, or the node of an event that brings one."""
    event, result = message.get("event"), message.get("result")
    found: list[Any] = []
    if isinstance(event, dict):
        found = [event.get("nodeState"), event.get("node")]
    elif isinstance(result, dict) and isinstance(result.get("state"), dict):
        found = result["state"].get("nodes") or []
    return [node for node in found if isinstance(node, dict)]


def _is_of_use(value: object) -> bool:
    return isinstance(value, dict) and value.get("commandClass") in COMMAND_CLASSES


def _slim_value(value: dict[str, Any]) -> dict[str, Any]:
    metadata = value.get("metadata")
    if isinstance(metadata, dict):
        value["metadata"] = {key: metadata[key] for key in _METADATA_KEPT if key in metadata}
    return value
