"""What a household is told of how its box is, and that it is told what to do."""

from typing import Any

import pytest

from edge.contract import ClockStatus, PartStatus, Status
from edge.contract.attention import Level, attention, channel_names, lines
from edge.setup_page.languages import LANGUAGES, catalogue
from tests.page.rooms import HEM, NOON, PLUG, status, unpaired


def healthy(**more: Any) -> Status:
    """A box with which nothing is wrong."""
    full = status()
    known: dict[str, Any] = {
        "devices": full.devices[:1],
        "channels": full.channels[:0],
        "set_aside": [],
        "rejected": [],
        "flexmeasures": sending(),
    }
    return full.model_copy(update=known | more)


def sending(**more: Any) -> Any:
    well: dict[str, Any] = {
        "slots_waiting": 0,
        "slots_rejected": 0,
        "catching_up_percent": None,
        "last_error": None,
    }
    return status().flexmeasures.model_copy(update=well | more)


def buffer(**more: Any) -> dict[str, Any]:
    return {"buffer": status().buffer.model_copy(update=more)}


def part(state: str, name: str = "zwave") -> dict[str, Any]:
    return {"parts": [PartStatus(name=name, state=state, since_s=400)]}


TROUBLES: dict[str, tuple[dict[str, Any], Level]] = {
    "clock": ({"clock": ClockStatus(trusted=False, wall=NOON, uptime_s=60)}, Level.ASK),
    "unpaired": ({"flexmeasures": unpaired()}, Level.ASK),
    "server_trouble": ({"flexmeasures": sending(last_error="waiting: no route")}, Level.ASK),
    "nothing_mapped": ({"flexmeasures": sending(sensors=0)}, Level.ASK),
    "catching_up": ({"flexmeasures": sending(catching_up_percent=63.0)}, Level.INFO),
    "rejected": ({"flexmeasures": sending(slots_rejected=2)}, Level.ASK),
    "dropped_slots": ({"flexmeasures": sending(slots_dropped=7)}, Level.BAD),
    "dropped": (buffer(dropped=3), Level.BAD),
    "full": (buffer(bytes_used=950, bytes_max=1000), Level.ASK),
    "part_broken": (part("broken, see the log"), Level.BAD),
    "part_zwave": (part("waiting: the driver is away"), Level.ASK),
    "part_smappee": (part("needs a person: the password", "smappee"), Level.ASK),
    "device_dead": ({"devices": status().devices}, Level.ASK),
    "set_aside": ({"channels": status().channels[:1]}, Level.INFO),
    "deviates": ({"channels": status().channels[2:3]}, Level.ASK),
    "alarm": ({"alarms": {"card": "the card is failing: replace it"}}, Level.ASK),
}


def test_box_with_which_nothing_is_wrong_asks_for_nobody() -> None:
    said = lines(healthy())
    assert {line.level for line in said} == {Level.GOOD}
    assert {line.code for line in said} == {"sending", "devices", "stored"}
    assert attention(healthy()) == 0


@pytest.mark.parametrize("code", TROUBLES)
def test_each_trouble_is_one_line_above_what_is_well(code: str) -> None:
    more, level = TROUBLES[code]
    said = [line for line in lines(healthy(**more)) if line.level is not Level.GOOD]
    assert [(line.code, line.level) for line in said] == [(code, level)]
    assert attention(healthy(**more)) == (level is not Level.INFO)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("code", [*TROUBLES, "sending", "devices", "stored"])
def test_each_line_has_words_and_a_next_step(language: str, code: str) -> None:
    """In words of its own; of a part and of an alarm the box says itself what to do."""
    known = catalogue(language)
    if code.startswith("part_") and code != "part_broken":
        assert {"health.part", "health.part_family"} <= set(known)
        return
    assert f"health.{code}" in known
    if code in TROUBLES and code != "alarm":
        assert f"health.{code}.next" in known


def test_worst_comes_first() -> None:
    everything = {key: value for more, _ in TROUBLES.values() for key, value in more.items()}
    order = [Level.BAD, Level.ASK, Level.INFO, Level.GOOD]
    found = [order.index(line.level) for line in lines(healthy(**everything))]
    assert found == sorted(found)


def test_what_the_server_says_is_said_once() -> None:
    trouble = sending(last_error="needs a person: the password is wrong", advice="pair again")
    more = part("needs a person: the password is wrong", "shipping")
    [said] = [x for x in lines(healthy(flexmeasures=trouble, **more)) if x.level is Level.ASK]
    assert (said.text, said.advice) == ("the password is wrong", "pair again")


def test_missing_stick_is_missed_only_where_it_measured_or_nothing_else_does() -> None:
    waits = part("waiting: the Z-Wave driver does not answer")
    measured = status().channels[0]
    smappee = measured.model_copy(
        update={"key": "smappee/1/0/active_power/import", "energy_deviation_percent": None}
        | {"set_aside": 0}
    )
    by_zwave = smappee.model_copy(update={"key": measured.key})
    for channels, is_missed in (
        ([], True),
        ([smappee], False),
        ([smappee, by_zwave], True),
    ):
        assert attention(healthy(devices=[], channels=channels, **waits)) == is_missed


def test_channels_are_called_as_a_household_calls_them() -> None:
    names = channel_names(status())
    assert names[f"{HEM}/1/active_power/import"] == "Main meter 1"
    assert names[f"{PLUG}/0/active_power/import"]
