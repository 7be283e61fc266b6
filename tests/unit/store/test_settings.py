from pathlib import Path

from edge.store.settings import EVENTS_MAX, JSON, Events, Settings, open_state
from tests.house.fake_clock import FakeClock

CLAIM: dict[str, JSON] = {"name": "Ünal", "at": 1.5, "rights": ["a", None, True], "more": {"x": {}}}


def changed(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}


async def test_documents_come_back_equal_after_a_restart(folder: Path) -> None:
    state = await open_state(folder / "state.db")
    settings = await Settings.open(state)
    assert await settings.get("claim") is None
    await settings.put("claim", CLAIM)
    await settings.put("mapping", [])
    await settings.put("claim", {**CLAIM, "name": "Ada"})
    await settings.delete("mapping")
    await settings.delete("mapping")
    await state.close()
    state = await open_state(folder / "state.db")
    settings = await Settings.open(state)
    assert await settings.get("claim") == {**CLAIM, "name": "Ada"}
    assert await settings.names() == ["claim"]
    assert await settings.lost() is None
    await state.close()


async def test_claim_survives_a_damaged_file(folder: Path) -> None:
    state = await open_state(folder / "state.db")
    await (await Settings.open(state)).put("claim", CLAIM)
    await state.close()
    (folder / "state.db").write_bytes(b"garbage" * 1000)
    state = await open_state(folder / "state.db")
    settings = await Settings.open(state)
    assert await settings.get("claim") == CLAIM
    assert await settings.lost() is None
    assert state.problem is not None
    await state.close()


async def test_box_that_lost_its_claim_says_so_for_ever(folder: Path) -> None:
    state = await open_state(folder / "state.db")
    await (await Settings.open(state)).put("claim", CLAIM)
    await state.close()
    for name in ("state.db", "state.db.good"):
        (folder / name).write_bytes(b"garbage" * 1000)
    for _ in range(3):
        state = await open_state(folder / "state.db")
        settings = await Settings.open(state)
        assert await settings.get("claim") is None
        assert "damaged" in (await settings.lost() or "")
        await state.close()


async def test_new_box_has_lost_nothing(folder: Path) -> None:
    state = await open_state(folder / "state.db")
    assert await (await Settings.open(state)).lost() is None
    assert state.problem is None
    await state.close()


async def test_putting_the_same_again_writes_nothing(folder: Path) -> None:
    state = await open_state(folder / "state.db")
    settings = await Settings.open(state)
    await settings.put("claim", CLAIM)
    before = changed(folder)
    await settings.put("claim", CLAIM)
    assert changed(folder) == before
    await state.close()


async def test_events_are_bounded_and_the_newest_come_first(folder: Path) -> None:
    state = await open_state(folder / "state.db")
    clock = FakeClock()
    events = Events(state, clock)
    for number in range(EVENTS_MAX + 5):
        await events.add("login", f"{number}", {"number": number})
    latest = await events.latest(EVENTS_MAX + 5)
    assert len(latest) == EVENTS_MAX
    assert latest[0].text == f"{EVENTS_MAX + 4}"
    assert latest[0].detail == {"number": EVENTS_MAX + 4}
    assert latest[0].at == clock.wall_now()
    await state.close()
