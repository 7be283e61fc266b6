"""What the box shows outside: the lamp says the worst, the files follow what is true."""

from pathlib import Path

from edge.health import Health
from edge.signs import Lamp, Signs, lamp
from tests.house.fake_clock import FakeClock


def test_the_lamp_says_the_worst() -> None:
    health = Health(FakeClock())
    assert lamp(claimed=False, health=health) == Lamp.UNCLAIMED
    assert lamp(claimed=True, health=health) == Lamp.HEALTHY
    health.report("shipping", "waiting: no route")
    assert lamp(claimed=True, health=health) == Lamp.OFFLINE
    assert lamp(claimed=True, health=health, card_trouble=True) == Lamp.PERSON
    health.alarm("commands", "it could not be switched off")
    assert lamp(claimed=True, health=health) == Lamp.PERSON


def shown(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


async def test_the_files_follow_what_is_true(tmp_path: Path) -> None:
    claimed, server, curtailing, full = False, None, True, False

    async def is_claimed() -> bool:
        return claimed

    clock = FakeClock()
    signs = Signs(
        tmp_path,
        clock,
        Health(clock),
        is_claimed,
        lambda: server,
        lambda: curtailing,
        lambda: full,
    )
    await signs.show()
    assert shown(tmp_path).keys() == {"lamp", "curtailing"}
    claimed, server, curtailing = True, "https://company.example", False
    await signs.show()
    assert shown(tmp_path) == {
        "lamp": "healthy\n",
        "time-source": "https://company.example\n",
    }
    full = True
    await signs.show()
    assert shown(tmp_path)["lamp"] == "person\n"
