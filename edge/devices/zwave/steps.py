"""What the driver says of the network, turned into steps for a person (events.py).

Also remembers what a page that is opened in the middle must know: whose PIN is wanted, whose
interview is shown. Nothing here waits or sends.
"""

import asyncio
from collections.abc import Callable

from zwave_js_server.const import RemoveNodeReason
from zwave_js_server.model.controller.inclusion_and_provisioning import InclusionGrant
from zwave_js_server.model.node import Node

from edge.devices.zwave import events
from edge.devices.zwave.door import Event
from edge.devices.zwave.events import EventLog, RemovalReason, SecurityProblem
from edge.devices.zwave.nodes import label, meter_values, model, printable, switch_points
from edge.devices.zwave.picture import Picture

_GRANTS_MAX = 4  # one device joins at a time; a few more in case the driver asks again

_UNKNOWN_REASON = 9
_SECURITY_PROBLEMS = {
    0: SecurityProblem.CANCELLED,
    1: SecurityProblem.NO_KEYS,
    2: SecurityProblem.NO_KEYS,
    3: SecurityProblem.TIMED_OUT,
    4: SecurityProblem.MISMATCH,
    5: SecurityProblem.DEVICE_CANCELLED,
    6: SecurityProblem.WRONG_PIN,
    7: SecurityProblem.MISMATCH,
    8: SecurityProblem.MISMATCH,
}

_REMOVALS = {
    RemoveNodeReason.REMOVE_FAILED: RemovalReason.FAILED,
    RemoveNodeReason.REPLACED: RemovalReason.REPLACED,
    RemoveNodeReason.PROXY_REPLACED: RemovalReason.REPLACED,
    RemoveNodeReason.RESET: RemovalReason.RESET,
    RemoveNodeReason.SMART_START_FAILED: RemovalReason.NOT_JOINED,
}


class Steps:
    """Listens to the driver and writes down what a person should see."""

    def __init__(self, picture: Picture, log: EventLog) -> None:
        self._picture = picture
        self._log = log
        self.secure = True  # whether the person lets the next device join securely
        self.replacing: str | None = None
        self.pin_wanted: str | None = None
        self.ended = False  # since it was last set back: adding or removing has come to its end
        self.interviewed: set[str] = set()
        self._last_progress: events.BackupProgress | events.RestoreProgress | None = None
        self.grants: asyncio.Queue[InclusionGrant] = asyncio.Queue(maxsize=_GRANTS_MAX)

    def on_controller_event(self, event: Event) -> None:
        """Turn what the driver says of the network into steps."""
        handle = _CONTROLLER_EVENTS.get(event["event"])
        if handle is not None:
            handle(self, event)

    def _inclusion_started(self, _: Event) -> None:
        self._log.add(events.InclusionStarted(self.secure, self.replacing))

    def _inclusion_ended(self, event: Event) -> None:
        failed = event["event"] == "inclusion failed"
        self._log.add(events.InclusionFailed() if failed else events.InclusionStopped())
        self.ended = True

    def _exclusion_started(self, _: Event) -> None:
        self._log.add(events.ExclusionStarted())

    def _exclusion_ended(self, event: Event) -> None:
        failed = event["event"] == "exclusion failed"
        self._log.add(events.ExclusionFailed() if failed else events.ExclusionStopped())
        self.ended = True

    def _node_found(self, event: Event) -> None:
        self._log.add(events.DeviceFound(str(event["node"]["nodeId"])))

    def _grant_wanted(self, event: Event) -> None:
        try:
            self.grants.put_nowait(event["requested_grant"])
        except asyncio.QueueFull:
            self._log.add(events.SecurityGranted(()))

    def _pin_is_wanted(self, event: Event) -> None:
        self.pin_wanted = str(event["dsk"]).lstrip("-")
        self._log.add(events.PinWanted(self.pin_wanted))

    def _aborted(self, _: Event) -> None:
        self.pin_wanted = None
        self._log.add(events.SecurityAborted())

    def _node_added(self, event: Event) -> None:
        device = self._picture.device_of(event["node"])
        result = event.get("result") or {}
        problem = None
        if result.get("lowSecurity"):
            reason = result.get("lowSecurityReason", _UNKNOWN_REASON)
            problem = _SECURITY_PROBLEMS.get(reason, SecurityProblem.UNKNOWN)
        self.pin_wanted = None
        self.replacing = None
        self.interviewed.add(device)
        self._log.add(events.DeviceAdded(device, problem))

    def _node_removed(self, event: Event) -> None:
        node: Node = event["node"]
        reason = _REMOVALS.get(event["reason"], RemovalReason.EXCLUDED)
        device = self._picture.device_of(node)
        self.interviewed.discard(device)
        self._log.add(events.DeviceRemoved(device, label(node), reason))

    def _routes_progress(self, event: Event) -> None:
        finished = event["event"] == "rebuild routes done"
        states = list(event["result" if finished else "progress"].values())
        failed = states.count("failed")
        done = len(states) - states.count("pending") - failed
        self._log.add(events.RoutesProgress(done, failed, len(states), finished))

    def _backup_progress(self, event: Event) -> None:
        share = event["bytesRead"] / max(1, event["total"])
        self._progress(events.BackupProgress(5 * round(20 * share)))

    def _restore_progress(self, event: Event) -> None:
        share = event["bytesWritten"] / max(1, event["total"])
        self._progress(events.RestoreProgress(5 * round(20 * share)))

    def _progress(self, event: events.BackupProgress | events.RestoreProgress) -> None:
        """Told of a thousand pieces; kept in steps of 5 %, or they would drive out the rest."""
        if event != self._last_progress:
            self._last_progress = event
            self._log.add(event)

    def on_node_event(self, node: Node, event: Event) -> None:
        """Show how the interview of a new device goes on."""
        device = self._picture.device_of(node)
        if device not in self.interviewed:
            return
        match event["event"]:
            case "interview progress":
                percent = float(event["progress"])
                self._log.add(events.InterviewProgress(device, event["stage"], percent))
            case "interview failed":
                told = event["args"]
                is_final = bool(told.get("isFinal"))
                reason = printable(str(told.get("errorMessage", "")))
                self._log.add(events.InterviewFailed(device, reason, is_final))
            case "ready":
                self.interviewed.discard(device)
                measures, switches = bool(meter_values(node)), bool(switch_points(node))
                self._log.add(
                    events.DeviceReady(device, label(node), model(node), measures, switches)
                )


_CONTROLLER_EVENTS: dict[str, Callable[[Steps, Event], None]] = {
    "inclusion started": Steps._inclusion_started,
    "inclusion stopped": Steps._inclusion_ended,
    "inclusion failed": Steps._inclusion_ended,
    "exclusion started": Steps._exclusion_started,
    "exclusion stopped": Steps._exclusion_ended,
    "exclusion failed": Steps._exclusion_ended,
    "node found": Steps._node_found,
    "grant security classes": Steps._grant_wanted,
    "validate dsk and enter pin": Steps._pin_is_wanted,
    "inclusion aborted": Steps._aborted,
    "node added": Steps._node_added,
    "node removed": Steps._node_removed,
    "rebuild routes progress": Steps._routes_progress,
    "rebuild routes done": Steps._routes_progress,
    "nvm backup progress": Steps._backup_progress,
    "nvm restore progress": Steps._restore_progress,
}
