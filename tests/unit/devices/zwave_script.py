"""A driver that plays from a script: recorded nodes, canned answers, and events said by hand.

What is above the socket is the real client; what it sends is written down in `sent`.
"""

import asyncio
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zwave_js_server.model.driver import Driver

from edge.devices.zwave.door import DriverClient, Event
from edge.errors import Malformed

DUMPS = Path(__file__).parents[2] / "dumps" / "zwave"
HOME_ID = 0x7E570001
METER, PLUG = 2, 3

type Answer = dict[str, Any] | Callable[[dict[str, Any]], dict[str, Any]]


def dump(name: str, node_id: int, /, **changes: Any) -> dict[str, Any]:
    """A recorded node under this number, with some of its fields changed."""
    node: dict[str, Any] = json.loads((DUMPS / f"{name}.json").read_text())
    return {**node, "nodeId": node_id, **changes}


def failure(code: int, text: str = "said no") -> dict[str, Any]:
    """The answer of a driver that could not: a Z-Wave error code."""
    return {"failed": True, "zwaveErrorCode": code, "zwaveErrorMessage": text}


SILENCE: dict[str, Any] = {"silence": True}


class ScriptedDriver(DriverClient):
    """`answers`: command → result, failure(…), SILENCE, or a function of the message."""

    def __init__(self, *nodes: dict[str, Any]) -> None:
        super().__init__(
            "ws://script",
            None,  # type: ignore[arg-type]  # it never connects
            on_driver=lambda _: None,
            on_event=self._heard_event,
            on_unreadable=self._heard_unreadable,
        )
        self.sent: list[dict[str, Any]] = []
        self.answers: dict[str, Answer] = {}
        self.events: list[Event] = []
        self.unreadable: list[Malformed] = []
        own = {
            "nodeId": 1,
            "index": 0,
            "status": 4,
            "ready": True,
            "isControllerNode": True,
            "values": [],
            "endpoints": [],
        }
        controller = {"homeId": HOME_ID, "ownNodeId": 1, "inclusionState": 0, "status": 0}
        state = {"controller": controller, "nodes": [own, *copy.deepcopy(nodes)]}
        self.played = Driver(self, state, {})
        self.driver = self.played

    def _heard_event(self, event: Event) -> None:
        self.events.append(event)

    def _heard_unreadable(self, problem: Malformed) -> None:
        self.unreadable.append(problem)

    async def _send_json_message(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
        answer = self.answers.get(message["command"], {})
        if callable(answer):
            answer = answer(message)
        if answer is SILENCE:
            return
        said: dict[str, Any] = {"type": "result", "messageId": message["messageId"]}
        if answer.get("failed"):
            said |= {"success": False, "errorCode": "zwave_error", **answer}
        else:
            said |= {"success": True, "result": answer}
        asyncio.get_running_loop().call_soon(self._handle_incoming_message, said)

    def says(self, source: str, event: str, **data: Any) -> None:
        """The driver sends an event."""
        said = {"source": source, "event": event, **data}
        self._handle_incoming_message({"type": "event", "event": said})

    def node_says(self, node_id: int, event: str, **data: Any) -> None:
        self.says("node", event, nodeId=node_id, **data)

    def reports(self, node_id: int, endpoint: int, key: int, value: object) -> None:
        """A meter report, as the driver passes it on."""
        args = {
            "commandClass": 50,
            "commandClassName": "Meter",
            "endpoint": endpoint,
            "property": "value",
            "propertyKey": key,
            "newValue": value,
        }
        self.node_says(node_id, "value updated", args=args)

    def commands(self, name: str) -> list[dict[str, Any]]:
        """What was sent under this command, in order."""
        return [message for message in self.sent if message["command"] == name]

    def lose_connection(self) -> None:
        """What the client does to whoever waits, when the connection ends."""
        for future in self._result_futures.values():
            future.cancel()
