"""One meter seen by two families is offered once, by the shorter path."""

from edge.model import Channel, Direction, Kind, Quantity
from edge.overlap import resolved, seen_twice
from edge.uplink.mapping import default_mapping


def power(family: str, device: str, endpoint: str = "0", repeats: str | None = None) -> Channel:
    return Channel(
        family, device, endpoint, Quantity.ACTIVE_POWER, Kind.INSTANTANEOUS, repeats=repeats
    )


CLAMP = power("zwave", "deadbeef-7", "1")
CLAMP_IN_HA = power("homeassistant", "abc", "def", CLAMP.key)
HEAT_PUMP_IN_HA = power("homeassistant", "heatpump", "x")
METER = power("p1", "4B38")
PHASE = power("p1", "4B38", "L1", METER.key)
PHASE_IN_HA = power("homeassistant", "p1", "l1", PHASE.key)


def mapped_by_default(*channels: Channel) -> set[str]:
    return {term.channel_key for feed in default_mapping(channels) for term in feed.terms}


def test_clamp_on_the_stick_and_in_home_assistant_is_preselected_once_by_the_stick() -> None:
    found = mapped_by_default(CLAMP_IN_HA, CLAMP, HEAT_PUMP_IN_HA)
    assert found == {CLAMP.key, HEAT_PUMP_IN_HA.key}


def test_clamp_only_in_home_assistant_is_preselected_there() -> None:
    assert resolved([CLAMP_IN_HA])[CLAMP_IN_HA.key].repeats is None
    assert mapped_by_default(CLAMP_IN_HA) == {CLAMP_IN_HA.key}


def test_sending_both_is_found_out() -> None:
    chosen = [CLAMP.key, CLAMP_IN_HA.key, HEAT_PUMP_IN_HA.key]
    channels = [CLAMP, CLAMP_IN_HA, HEAT_PUMP_IN_HA]
    assert seen_twice(chosen, channels) == [(CLAMP_IN_HA.key, CLAMP.key)]
    assert seen_twice(chosen[1:], channels) == []


def test_part_of_the_whole_in_another_family_is_found_out_but_not_its_neighbour() -> None:
    channels = [METER, PHASE, PHASE_IN_HA, power("p1", "4B38", "L2", METER.key)]
    assert seen_twice([METER.key, PHASE_IN_HA.key], channels)
    assert not seen_twice([channels[3].key, PHASE_IN_HA.key], channels)


def test_parts_within_one_family_are_the_persons_own_choice() -> None:
    assert seen_twice([METER.key, PHASE.key], [METER, PHASE]) == []


def test_smappee_that_home_assistant_shows_too_is_the_same_meter() -> None:
    consumption = Channel("smappee", "123", "consumption", Quantity.ACTIVE_ENERGY, Kind.INTERVAL)
    total_power = power("homeassistant", "monitor", "total", consumption.key)
    assert mapped_by_default(consumption, total_power) == {consumption.key}
    assert seen_twice([consumption.key, total_power.key], [consumption, total_power])


def test_channels_that_repeat_each_other_in_a_circle_end() -> None:
    first = power("a", "1", repeats=power("b", "1").key)
    second = power("b", "1", repeats=first.key)
    assert seen_twice([first.key, second.key], [first, second]) == [(first.key, second.key)]


def test_directions_are_two_meters() -> None:
    given = Channel("p1", "4B38", "0", Quantity.ACTIVE_POWER, Kind.INSTANTANEOUS, Direction.EXPORT)
    assert seen_twice([METER.key, given.key], [METER, given]) == []
