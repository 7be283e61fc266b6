import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.model import BoxTime, Channel, Kind, Quantity, Reading
from edge.plausibility import ChannelState, Judgement, Limits, Reason, judge, step_max

MINUTE = timedelta(minutes=1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOME = Limits(main_fuse_a=25, phases=3)  # 17 250 W


def channel(quantity: Quantity, kind: Kind) -> Channel:
    return Channel("zwave", "7", "1", quantity, kind, report_interval=MINUTE)


POWER = channel(Quantity.ACTIVE_POWER, Kind.INSTANTANEOUS)
ENERGY = channel(Quantity.ACTIVE_ENERGY, Kind.COUNTER)
INTERVAL = channel(Quantity.ACTIVE_ENERGY, Kind.INTERVAL)


def judged(
    subject: Channel, values: Sequence[float], limits: Limits = HOME, boot: int = 1
) -> list[Judgement]:
    """One reading a minute."""
    state, judgements = ChannelState(), []
    for minute, value in enumerate(values):
        reading = Reading(subject.key, BoxTime(boot, minute * 60_000), value)
        judgements.append(judge(subject, state, reading, limits))
        state = judgements[-1].state
    return judgements


def accepted(subject: Channel, values: Sequence[float], limits: Limits = HOME) -> list[float]:
    return [r.value for j in judged(subject, values, limits) for r in j.accepted]


def reasons(subject: Channel, values: Sequence[float]) -> list[Reason | None]:
    return [j.reason for j in judged(subject, values)]


@pytest.mark.parametrize("subject", [POWER, ENERGY, INTERVAL])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_is_never_believed(subject: Channel, value: float) -> None:
    assert reasons(subject, [0.1, value, value]) == [None, Reason.NOT_A_NUMBER, Reason.NOT_A_NUMBER]


@pytest.mark.parametrize("value", [-21474435.18, -214748364.8, -2147483.648, 21474836.47])
@pytest.mark.parametrize("subject", [POWER, ENERGY])
def test_overflowed_value_is_never_believed_however_often_it_comes(
    subject: Channel, value: float
) -> None:
    assert accepted(subject, [1.0, value, value, value, 1.0]) == [1.0, 1.0]


def test_power_within_the_fuse_is_believed_both_ways() -> None:
    assert accepted(POWER, [0.0, 17_000.0, -17_000.0]) == [0.0, 17_000.0, -17_000.0]


def test_power_beyond_the_fuse_waits_for_a_second_reading() -> None:
    first, second = judged(POWER, [20_000.0, 20_500.0])
    assert (first.accepted, first.reason) == ((), Reason.BEYOND_RATING)
    assert [reading.value for reading in second.accepted] == [20_000.0, 20_500.0]
    assert second.released


def test_once_confirmed_a_larger_installation_is_believed_at_once() -> None:
    assert reasons(POWER, [20_000.0, 20_500.0, 21_000.0]) == [Reason.BEYOND_RATING, None, None]


def test_single_spike_of_power_is_left_out() -> None:
    assert accepted(POWER, [500.0, 99_000.0, 510.0, 99_000.0, 505.0]) == [500.0, 510.0, 505.0]


def test_two_spikes_that_contradict_each_other_confirm_nothing() -> None:
    assert accepted(POWER, [500.0, 99_000.0, -60_000.0, 510.0]) == [500.0, 510.0]


def test_the_fuse_can_be_configured() -> None:
    assert accepted(POWER, [50_000.0], Limits(main_fuse_a=80)) == [50_000.0]


def test_counter_grows() -> None:
    assert accepted(ENERGY, [10.0, 10.0, 10.2]) == [10.0, 10.0, 10.2]


def test_counter_that_jumps_once_is_a_spike() -> None:
    told = [12.75, 125.271, 12.76, 12.77]
    assert accepted(ENERGY, told) == [12.75, 12.76, 12.77]
    assert reasons(ENERGY, told) == [None, Reason.COUNTER_JUMP, None, None]


def test_jump_that_a_second_reading_confirms_is_a_new_meter() -> None:
    first, jumped, confirmed = judged(ENERGY, [12.75, 3546.0, 3546.1])
    assert (len(first.accepted), jumped.reason) == (1, Reason.COUNTER_JUMP)
    assert [reading.value for reading in confirmed.accepted] == [3546.0, 3546.1]
    assert confirmed.released
    assert not confirmed.reset


def test_decrease_that_a_second_reading_confirms_is_a_reset() -> None:
    _, fell, confirmed = judged(ENERGY, [300.0, 0.0, 0.1])
    assert fell.reason is Reason.COUNTER_DECREASED
    assert [reading.value for reading in confirmed.accepted] == [0.0, 0.1]
    assert confirmed.reset


def test_decrease_that_comes_once_is_left_out() -> None:
    assert accepted(ENERGY, [300.0, 30.0, 300.1]) == [300.0, 300.1]


def test_counter_that_keeps_falling_is_never_believed() -> None:
    """A reversed clamp on a HEM Gen5 counts down; differences of it are no energy used."""
    assert accepted(ENERGY, [0.0, -0.02, -0.04, -0.06]) == [0.0]


def test_doubted_reading_is_forgotten_once_the_channel_is_itself_again() -> None:
    assert accepted(POWER, [99_000.0, 500.0, 98_000.0]) == [500.0]


def test_counter_may_grow_while_the_box_was_off() -> None:
    before = Reading(ENERGY.key, BoxTime(1, 60_000), 100.0)
    after = Reading(ENERGY.key, BoxTime(2, 5_000), 900.0)
    assert judge(ENERGY, ChannelState(before), after, HOME).accepted == (after,)


def test_counter_step_may_be_as_large_as_the_time_allows() -> None:
    hour = step_max(ENERGY, timedelta(hours=1) - MINUTE, HOME)
    assert hour == pytest.approx(17.25 * 1.5)
    before = Reading(ENERGY.key, NOON, 100.0)
    for step, reason in ((hour, None), (hour + 0.001, Reason.COUNTER_JUMP)):
        after = Reading(ENERGY.key, NOON + timedelta(minutes=59), 100 + step)
        assert judge(ENERGY, ChannelState(before), after, HOME).reason is reason


def test_coarse_counter_may_step_at_once() -> None:
    """Meters that count in tenths of a kWh show a whole step between two close reports."""
    before = Reading(ENERGY.key, BoxTime(1, 0), 100.0)
    after = Reading(ENERGY.key, BoxTime(1, 1_000), 100.1)
    assert judge(ENERGY, ChannelState(before), after, HOME).reason is None


def test_older_value_told_late_is_no_decrease() -> None:
    now = Reading(ENERGY.key, NOON, 100.0)
    late = Reading(ENERGY.key, NOON - timedelta(hours=1), 99.0)
    judgement = judge(ENERGY, ChannelState(now), late, HOME)
    assert judgement.accepted == (late,)
    assert judgement.state.believed == now


def test_energy_of_an_interval_is_bounded_by_the_fuse() -> None:
    most = 0.43  # 17.25 kW × 1.5 for a minute: 0.43125 kWh
    assert reasons(INTERVAL, [0.0, most, most + 0.01, -0.01]) == [
        None,
        None,
        Reason.BEYOND_RATING,
        Reason.OUT_OF_RANGE,
    ]


@pytest.mark.parametrize(
    ("quantity", "good", "odd"),
    [
        (Quantity.VOLTAGE, 231.0, 700.0),
        (Quantity.TEMPERATURE, -12.0, 200.0),
        (Quantity.HUMIDITY, 100.0, 130.0),
        (Quantity.POWER_FACTOR, -0.9, 1.2),
    ],
)
def test_each_quantity_has_its_range(quantity: Quantity, good: float, odd: float) -> None:
    subject = channel(quantity, Kind.INSTANTANEOUS)
    assert reasons(subject, [good, odd, good]) == [None, Reason.OUT_OF_RANGE, None]


def test_current_is_bounded_by_the_fuse() -> None:
    subject = channel(Quantity.CURRENT, Kind.INSTANTANEOUS)
    assert reasons(subject, [74.0, 76.0]) == [None, Reason.BEYOND_RATING]


values = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-50_000, 50_000)


@given(st.sampled_from([POWER, ENERGY, INTERVAL]), st.lists(values, max_size=30))
def test_every_reading_is_accepted_once_or_held_back_with_a_reason(
    subject: Channel, told: list[float]
) -> None:
    state, stored = ChannelState(), []
    for minute, value in enumerate(told):
        reading = Reading(subject.key, BoxTime(1, minute * 60_000), value)
        judgement = judge(subject, state, reading, HOME)
        assert (reading in judgement.accepted) is (judgement.reason is None)
        assert judgement.released is (len(judgement.accepted) == 2)
        assert all(math.isfinite(kept.value) for kept in judgement.accepted)
        stored += [kept.taken_at for kept in judgement.accepted]
        state = judgement.state
    assert stored == sorted(set(stored))
