"""Turns what happened in the Z-Wave network into what a person should see and do. Pure.

Takes events as documents (devices/zwave/events.py names them), so that nothing of Z-Wave is
imported before somebody uses it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edge.contract.setup import NetworkStep, NetworkTask

_JOINING = frozenset({"add", "add_code", "replace"})
_CAME = frozenset({"found", "granted", "added", "removed"})
_NO_KEY = {"wrong_pin": "wrong_pin", "timed_out": "pin_late"}

type Waits = Literal["", "button", "grant", "pin", "power"]
type Document = Mapping[str, Any]


@dataclass
class Story:
    """One act and what has come of it so far."""

    doing: str
    device: str = ""
    steps: list[NetworkStep] = field(default_factory=list)
    waits_for: Waits = ""
    asks: list[str] = field(default_factory=list)
    percent: float | None = None
    is_over: bool = False
    went_well: bool | None = None
    outcome: str = ""
    listens_no_more: bool = False  # the stick stopped, and no device has come so far

    @property
    def is_half_in(self) -> bool:
        """Whether a device has come that is not heard of to the end: it may be in without a key."""
        codes = {step.code for step in self.steps}
        return self.doing in _JOINING and "found" in codes and "added" not in codes

    def tell(self, events: Iterable[Document]) -> "Story":
        """Take in what happened, in its order."""
        for event in events:
            handle = _TELL.get(str(event["event"]))
            if handle is not None and not self.is_over:
                handle(self, event)
        return self

    def step(self, code: str, text: str = "") -> None:
        """Add a step; one that is there already is not repeated."""
        if all(known.code != code or known.text != text for known in self.steps):
            self.steps.append(NetworkStep(code=code, text=text))

    def end(self, outcome: str, *, well: bool) -> None:
        self.is_over, self.went_well, self.outcome = True, well, outcome
        self.waits_for, self.percent = "", None

    def message(self, revision: int, left_s: float | None) -> NetworkTask:
        return NetworkTask(
            revision=revision,
            doing=self.doing,
            device=self.device,
            steps=self.steps,
            waits_for=self.waits_for,
            asks=self.asks,
            left_s=left_s if self.waits_for == "button" else None,
            percent=self.percent,
            is_over=self.is_over,
            went_well=self.went_well,
            outcome=self.outcome,
        )


def _listening(story: Story, _: Document) -> None:
    story.step("started")
    story.waits_for = "button"
    story.percent = None


def _found(story: Story, _: Document) -> None:
    story.step("found")
    story.waits_for = ""
    story.listens_no_more = False


def _granted(story: Story, _: Document) -> None:
    story.listens_no_more = False
    story.step("granted")


def _pin_wanted(story: Story, event: Document) -> None:
    story.waits_for = "pin"
    story.asks = [str(event["dsk"])]


def _aborted(story: Story, _: Document) -> None:
    story.waits_for = ""


def _added(story: Story, event: Document) -> None:
    story.step("added")
    story.waits_for = ""
    story.device = f"zwave/{event['device']}"
    problem = event["problem"]
    if problem is not None:
        story.end(_NO_KEY.get(str(problem), "low_security"), well=False)


def _interview(story: Story, event: Document) -> None:
    story.step("interview")
    story.waits_for = ""
    story.percent = event["percent"]


def _interview_failed(story: Story, event: Document) -> None:
    if event["is_final"]:
        story.end("interview_failed", well=False)


def _ready(story: Story, event: Document) -> None:
    story.device = f"zwave/{event['device']}"
    story.step("ready", str(event["name"] or event["model"]))
    story.end("replaced" if story.doing == "replace" else "ready", well=True)


def _stopped(story: Story, _: Document) -> None:
    """The stick also stops listening because a device has come, and tells of it only then: the
    room ends the story where nothing follows."""
    came = any(step.code in _CAME for step in story.steps)
    story.waits_for = ""
    story.listens_no_more = not came and story.doing in ("add", "replace", "remove")


def _failed(story: Story, _: Document) -> None:
    story.end("failed", well=False)


def _removed(story: Story, event: Document) -> None:
    if story.doing in ("remove", "remove_failed"):
        story.step("removed", str(event["name"]))
        story.end("removed", well=True)


def _code_known(story: Story, event: Document) -> None:
    story.step("code_known", str(event["model"] or ""))
    story.waits_for = "power"


def _routes(story: Story, event: Document) -> None:
    total = max(1, int(event["total"]))
    story.percent = round(100 * (int(event["done"]) + int(event["failed"])) / total)
    if event["finished"] and story.doing == "rebuild":
        story.end("rebuilt", well=True)


def _backing_up(story: Story, _: Document) -> None:
    story.step("backing_up")


def _backup_percent(story: Story, event: Document) -> None:
    story.percent = event["percent"]


def _backed_up(story: Story, _: Document) -> None:
    story.percent = None
    story.step("backup")


def _no_backup(story: Story, _: Document) -> None:
    story.percent = None
    story.step("no_backup")


def _restoring(story: Story, _: Document) -> None:
    story.step("restoring")


def _restored(story: Story, _: Document) -> None:
    story.end("memory_restored", well=True)


_TELL = {
    "InclusionStarted": _listening,
    "InclusionStopped": _stopped,
    "InclusionFailed": _failed,
    "DeviceFound": _found,
    "SecurityGranted": _granted,
    "PinWanted": _pin_wanted,
    "SecurityAborted": _aborted,
    "DeviceAdded": _added,
    "InterviewProgress": _interview,
    "InterviewFailed": _interview_failed,
    "DeviceReady": _ready,
    "ExclusionStarted": _listening,
    "ExclusionStopped": _stopped,
    "ExclusionFailed": _failed,
    "DeviceRemoved": _removed,
    "CodeAccepted": _code_known,
    "RoutesProgress": _routes,
    "BackupStarted": _backing_up,
    "BackupProgress": _backup_percent,
    "BackupTaken": _backed_up,
    "BackupImpossible": _no_backup,
    "RestoreStarted": _restoring,
    "RestoreProgress": _backup_percent,
    "Restored": _restored,
}
