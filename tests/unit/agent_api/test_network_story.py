"""What happened in the Z-Wave network, told as steps a person can follow."""

from typing import Any

from edge.agent_api.network_story import Story


def event(name: str, /, **fields: Any) -> dict[str, Any]:
    return {"event": name, **fields}


LISTENING = event("InclusionStarted", secure=True, replaces=None)
STOPPED = event("InclusionStopped")
FOUND = event("DeviceFound", device="20")
GRANTED = event("SecurityGranted", classes=("s2_authenticated",))
PIN = event("PinWanted", dsk="49772-64709")
READY = event("DeviceReady", device="h-20", name="", model="ZW175", measures=True, switches=True)


def added(problem: str | None = None) -> dict[str, Any]:
    return event("DeviceAdded", device="h-20", problem=problem)


def codes(story: Story) -> list[str]:
    return [step.code for step in story.steps]


def test_a_device_that_joins_is_told_step_by_step() -> None:
    story = Story("add").tell([LISTENING])
    assert story.waits_for == "button"
    story.tell([STOPPED, FOUND, GRANTED, PIN])
    assert (story.waits_for, story.asks) == ("pin", ["49772-64709"])
    assert not story.listens_no_more
    progress = event("InterviewProgress", device="h-20", stage="", percent=40.0)
    story.tell([added(), progress, progress])
    assert story.percent == 40.0
    story.tell([READY])
    assert (story.is_over, story.went_well, story.outcome) == (True, True, "ready")
    assert story.device == "zwave/h-20"
    assert codes(story) == ["started", "found", "granted", "added", "interview", "ready"]


def test_a_stick_that_stops_listening_may_have_heard_something() -> None:
    assert Story("add").tell([LISTENING, STOPPED]).listens_no_more
    assert not Story("add").tell([LISTENING, STOPPED, FOUND]).listens_no_more


def test_a_wrong_pin_is_named() -> None:
    story = Story("add").tell([LISTENING, FOUND, GRANTED, PIN, added("wrong_pin"), READY])
    assert (story.went_well, story.outcome) == (False, "wrong_pin")


def test_low_security_is_named() -> None:
    assert Story("add").tell([LISTENING, FOUND, added("mismatch")]).outcome == "low_security"
    assert Story("add").tell([LISTENING, FOUND, PIN, added("timed_out")]).outcome == "pin_late"


def test_a_code_waits_for_power() -> None:
    story = Story("add_code").tell([event("CodeAccepted", dsk="1", model="ZW175")])
    assert story.waits_for == "power"


def test_a_removed_device_is_named() -> None:
    removed = event("DeviceRemoved", device="h-3", name="Boiler", reason="excluded")
    story = Story("remove").tell([event("ExclusionStarted"), removed])
    assert (story.outcome, story.steps[-1].text) == ("removed", "Boiler")


def test_a_removal_while_replacing_is_no_end() -> None:
    removed = event("DeviceRemoved", device="h-3", name="Boiler", reason="replaced")
    story = Story("replace").tell([LISTENING, removed, added(), READY])
    assert story.outcome == "replaced"


def test_new_routes_show_how_far_they_are() -> None:
    half = event("RoutesProgress", done=2, failed=0, total=4, finished=False)
    whole = event("RoutesProgress", done=3, failed=1, total=4, finished=True)
    story = Story("rebuild").tell([half])
    assert story.percent == 50
    assert story.tell([whole]).outcome == "rebuilt"


def test_an_interview_that_will_be_tried_again_is_no_end() -> None:
    failed = event("InterviewFailed", device="h-20", reason="", is_final=False)
    assert not Story("interview").tell([failed]).is_over
    final = event("InterviewFailed", device="h-20", reason="", is_final=True)
    assert Story("interview").tell([final]).outcome == "interview_failed"


def test_an_event_nobody_knows_changes_nothing() -> None:
    assert Story("add").tell([event("SomethingNew")]).steps == []
