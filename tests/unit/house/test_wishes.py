import socket
from datetime import timedelta
from pathlib import Path

import pytest

from tests.house.run.wishes import WishFault, wishes

# Below the range from which the kernel lends ports to others.
FREE = {"PAGE_PORT": "21080", "FLEXMEASURES_PORT": "21050", "ZWAVE_PORT": "21030"}


def test_nothing_asked_is_the_embedded_house() -> None:
    asked = wishes(FREE)
    assert asked.stick is None
    assert asked.flexmeasures_url is None
    assert asked.household.name.startswith("refit")
    assert asked.run_for is None


def test_everything_asked_is_followed(tmp_path: Path) -> None:
    asked = wishes(
        FREE
        | {
            "STICK": "/dev/null",
            "FLEXMEASURES_URL": "https://fm.example",
            "EMAIL": "me@fm.example",
            "STATE": str(tmp_path),
            "RUN_FOR": "90",
            "CLAIMED": "1",
        }
    )
    assert asked.state == tmp_path
    assert asked.run_for == timedelta(seconds=90)
    assert asked.claimed
    assert not asked.home_assistant


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"STICK": "/dev/no-stick"}, "no such port"),
        ({"STICK": "README.md"}, "such as /dev/tty"),
        ({"PAGE_PORT": "21050"}, "PAGE_PORT and FLEXMEASURES_PORT are both"),
        ({"HOUSE_DATA": "nowhere.csv.gz"}, "no such file"),
        ({"RUN_FOR": "soon"}, "number of seconds"),
        ({"RUN_FOR": "-1"}, "number of seconds"),
        ({"RUN_FOR": "nan"}, "number of seconds"),
        ({"PAGE_PORT": "0"}, "from 1 to 65535"),
        ({"FLEXMEASURES_URL": "fm.example", "EMAIL": "me"}, "looks like https"),
        ({"FLEXMEASURES_URL": "https://fm.example"}, "go together"),
        ({"EMAIL": "me@fm.example"}, "go together"),
    ],
)
def test_wish_that_cannot_be_followed_is_one_clear_line(
    variables: dict[str, str], line: str
) -> None:
    with pytest.raises(WishFault, match=line) as caught:
        wishes(FREE | variables)
    assert len(str(caught.value).splitlines()) == 1


def test_port_in_use_says_which_variable_chooses_another() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(WishFault, match="PAGE_PORT=…"):
            wishes(FREE | {"PAGE_PORT": str(port)})
