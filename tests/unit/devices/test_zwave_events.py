import asyncio

from edge.devices.zwave.events import (
    KEPT_MAX,
    DeviceAdded,
    DeviceFound,
    EventLog,
    InclusionStopped,
    Numbered,
    SecurityProblem,
)


async def test_follower_gets_what_came_before_and_what_comes() -> None:
    log = EventLog()
    log.add(InclusionStopped())
    seen: list[Numbered] = []

    async def follow() -> None:
        async for numbered in log.follow(0):
            seen.append(numbered)  # the rest never comes
            log.add(DeviceFound("2")) if len(seen) == 1 else None

    task = asyncio.create_task(follow())
    for _ in range(5):
        await asyncio.sleep(0)
    log.add(DeviceFound("3"))
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    assert [each.number for each in seen] == [1, 2, 3]


def test_page_that_was_closed_goes_on_where_it_was() -> None:
    log = EventLog()
    for node in range(5):
        log.add(DeviceFound(str(node)))
    assert [each.event for each in log.after(3)] == [DeviceFound("3"), DeviceFound("4")]


def test_only_the_last_events_are_kept() -> None:
    log = EventLog()
    for node in range(KEPT_MAX + 10):
        log.add(DeviceFound(str(node)))
    assert len(log.after(0)) == KEPT_MAX
    assert log.last == KEPT_MAX + 10


def test_event_as_json_names_itself() -> None:
    numbered = Numbered(7, DeviceAdded("home-2", SecurityProblem.WRONG_PIN))
    assert numbered.document() == {
        "number": 7,
        "event": "DeviceAdded",
        "device": "home-2",
        "problem": "wrong_pin",
    }
