import pytest

from edge.cli.duration import minutes_from
from edge.errors import ConfigFault


@pytest.mark.parametrize(
    ("typed", "minutes"),
    [("30", 30), ("30m", 30), ("5min", 5), ("1h", 60), ("1h30", 90), ("PT30M", 30), ("PT1H", 60)],
)
def test_duration_is_read_as_people_type_it(typed: str, minutes: int) -> None:
    assert minutes_from(typed) == minutes


@pytest.mark.parametrize("typed", ["", "0", "-5", "for ever", "13h", "h", "1.5"])
def test_duration_that_is_none_is_refused(typed: str) -> None:
    with pytest.raises(ConfigFault):
        minutes_from(typed)
