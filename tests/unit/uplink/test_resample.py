from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import ConfigFault
from edge.model import HOLD_INTERVALS, UNITS, Channel, Kind, Quantity, Sample, Sensor, Slot, Term
from edge.uplink.resample import (
    MINIMUM_COVERAGE,
    SETTLING,
    check,
    due_slots,
    reach,
    slot_start,
)

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = START + timedelta(days=1)
FIVE = timedelta(minutes=5)
HOUR = timedelta(hours=1)
WINDOW = (START, START + HOUR)


def power(endpoint: str = "1", every_s: int = 60) -> Channel:
    return _channel(endpoint, Quantity.ACTIVE_POWER, Kind.INSTANTANEOUS, every_s)


def counter(endpoint: str = "1", every_s: int = 60) -> Channel:
    return _channel(endpoint, Quantity.ACTIVE_ENERGY, Kind.COUNTER, every_s)


def interval(endpoint: str = "1", every_s: int = 300) -> Channel:
    return _channel(endpoint, Quantity.ACTIVE_ENERGY, Kind.INTERVAL, every_s)


def _channel(endpoint: str, quantity: Quantity, kind: Kind, every_s: int) -> Channel:
    return Channel(
        "zwave", "7", endpoint, quantity, kind, report_interval=timedelta(seconds=every_s)
    )


def sensor(*terms: Term | Channel, unit: str = "kW", resolution: timedelta = FIVE) -> Sensor:
    made = tuple(Term(term.key) if isinstance(term, Channel) else term for term in terms)
    return Sensor(1, "power", unit, resolution, made)


def at(seconds: float, value: float) -> Sample:
    return Sample(START + timedelta(seconds=seconds), value)


def every(step_s: int, count: int, value: float) -> list[Sample]:
    return [at(n * step_s, value) for n in range(count)]


def values(
    fed: Sensor,
    *told: tuple[Channel, Sequence[Sample]],
    window: tuple[datetime, datetime] = WINDOW,
    now: datetime = LATER,
) -> list[tuple[int, float]]:
    """Minute of the start and value of each due slot."""
    due = due_slots(fed, _by_key(told), {c.key: samples for c, samples in told}, window, now)
    return [((slot.start - START) // timedelta(minutes=1), slot.value) for slot in due.slots]


def _by_key(told: Sequence[tuple[Channel, Sequence[Sample]]]) -> dict[str, Channel]:
    return {channel.key: channel for channel, _ in told}


# --- power ---------------------------------------------------------------------------------------


def test_power_is_the_time_weighted_mean() -> None:
    fed = sensor(power(every_s=300))
    assert values(fed, (power(every_s=300), [at(0, 1000), at(60, 2000), at(300, 7)])) == [
        (0, pytest.approx(1.8)),
        *[(minute, 0.007) for minute in (5, 10, 15)],
    ]


def test_value_from_before_the_slot_holds_into_it() -> None:
    assert values(sensor(power(every_s=300)), (power(every_s=300), [at(-200, 500)]))[0] == (0, 0.5)


def test_channel_holds_its_last_value_no_longer_than_three_report_intervals() -> None:
    told = values(sensor(power()), (power(), [*every(60, 8, 1000.0)]))
    # the last report, at minute 7, holds until minute 10; nothing is invented after it
    assert told == [(0, 1.0), (5, 1.0)]


def test_slot_of_which_too_little_is_known_stays_a_gap() -> None:
    enough_s = int(FIVE.total_seconds() * MINIMUM_COVERAGE)
    for first_s, slots in ((300 - enough_s, 1), (301 - enough_s, 0)):
        samples = [at(first_s + n, 1000.0) for n in range(0, 300 - first_s, 10)]
        window = (START, START + FIVE)
        assert len(values(sensor(power()), (power(), samples), window=window)) == slots


def test_silence_is_never_told_as_zero() -> None:
    assert values(sensor(power()), (power(), [])) == []


@pytest.mark.parametrize(
    ("unit", "value"),
    [("W", 1500.0), ("kW", 1.5), ("MW", 0.0015), ("Wh", 125.0), ("kWh", 0.125), ("MWh", 0.000125)],
)
def test_power_is_told_in_the_unit_of_the_sensor(unit: str, value: float) -> None:
    told = values(sensor(power(), unit=unit), (power(), every(60, 5, 1500.0)))
    assert told[0] == (0, pytest.approx(value))


@pytest.mark.parametrize(
    ("quantity", "unit"),
    [(Quantity.VOLTAGE, "V"), (Quantity.CURRENT, "A"), (Quantity.TEMPERATURE, "°C")],
)
def test_other_instantaneous_quantities_are_averaged(quantity: Quantity, unit: str) -> None:
    channel = _channel("1", quantity, Kind.INSTANTANEOUS, 60)
    samples = [at(n * 60, 230.0 if n % 2 else 232.0) for n in range(-1, 6)]
    window = (START, START + 2 * timedelta(minutes=1))
    fed = sensor(channel, unit=unit, resolution=timedelta(minutes=2))
    assert values(fed, (channel, samples), window=window) == [(0, 231.0)]


# --- counters ------------------------------------------------------------------------------------


def test_counter_is_split_linearly_between_two_reports() -> None:
    channel = counter(every_s=600)
    told = values(sensor(channel), (channel, [at(0, 10.0), at(1200, 10.6), at(1500, 10.6)]))
    assert told == [(minute, pytest.approx(1.8)) for minute in (0, 5, 10, 15)] + [(20, 0.0)]


def test_counter_is_never_split_across_a_gap() -> None:
    told = [at(0, 10.0), at(300, 10.1), at(300 + HOLD_INTERVALS * 60 + 1, 10.2), at(600, 10.2)]
    assert [minute for minute, _ in values(sensor(counter()), (counter(), told))] == []
    frequent = [at(n * 60, 10 + n / 100) for n in [*range(6), *range(10, 16)]]
    assert values(sensor(counter()), (counter(), frequent)) == [
        (0, pytest.approx(0.6)),
        (10, pytest.approx(0.6)),
    ]


def test_counter_is_never_split_across_a_reset() -> None:
    told = [at(0, 10.0), at(60, 0.0), at(120, 0.01), at(300, 0.02), at(450, 0.03), at(600, 0.04)]
    assert values(sensor(counter()), (counter(), told)) == [(5, pytest.approx(0.24))]


def test_confirmed_jump_of_a_counter_is_a_new_meter_not_energy() -> None:
    told = [at(n * 60, 10 + n / 100 + (5000 if n > 7 else 0)) for n in range(16)]
    assert [minute for minute, _ in values(sensor(counter()), (counter(), told))] == [0, 10]


def test_gas_is_told_per_slot_in_its_own_unit() -> None:
    gas = _channel("gas", Quantity.GAS, Kind.COUNTER, 3600)
    told = values(
        sensor(gas, unit="m³", resolution=timedelta(minutes=15)), (gas, [at(0, 100), at(3600, 101)])
    )
    assert told == [(minute, pytest.approx(0.25)) for minute in (0, 15, 30, 45)]


def test_counter_waits_for_the_report_that_completes_the_slot() -> None:
    channel, samples = counter(every_s=300), [at(0, 1.0), at(290, 1.1)]
    told = (sensor(channel), {channel.key: channel}, {channel.key: samples}, WINDOW)
    waiting = due_slots(*told, now=START + FIVE + SETTLING)
    assert waiting.slots == ()
    assert waiting.until == START
    given_up = due_slots(*told, now=START + timedelta(seconds=290 + 901) + SETTLING)
    assert given_up.slots == ()
    assert given_up.until == START + timedelta(minutes=15)


# --- intervals -----------------------------------------------------------------------------------


def test_intervals_are_summed() -> None:
    told = [at(n * 300, 0.1 * (n + 1)) for n in range(6)]
    quarters = sensor(interval(), unit="kWh", resolution=timedelta(minutes=15))
    assert values(quarters, (interval(), told)) == [
        (0, pytest.approx(0.6)),
        (15, pytest.approx(1.5)),
    ]


def test_missing_interval_leaves_its_slot_a_gap() -> None:
    told = [at(n * 300, 0.1) for n in (0, 1, 2, 3, 5, 6, 7, 8)]
    quarters = sensor(interval(), resolution=timedelta(minutes=15))
    assert [minute for minute, _ in values(quarters, (interval(), told))] == [0, 30]


def test_value_told_again_for_the_same_moment_replaces_the_first() -> None:
    told = [at(0, 0.1), at(0, 0.2)]
    fed = sensor(interval(), unit="kWh")
    assert values(fed, (interval(), told)) == [(0, pytest.approx(0.2))]


# --- sums of terms -------------------------------------------------------------------------------


def test_import_minus_export_is_one_signed_value() -> None:
    bought, sold = power("in"), power("out")
    fed = sensor(Term(bought.key), Term(sold.key, sign=-1))
    told = values(fed, (bought, every(60, 5, 200.0)), (sold, every(60, 5, 1200.0)))
    assert told[0] == (0, pytest.approx(-1.0))


def test_slot_exists_only_where_every_term_does() -> None:
    one, two, three = power("1"), power("2"), power("3")
    told = values(
        sensor(one, two, three),
        (one, every(60, 15, 100.0)),
        (two, every(60, 15, 100.0)),
        (three, [s for s in every(60, 15, 100.0) if not 300 <= (s[0] - START).seconds < 600]),
    )
    assert [minute for minute, _ in told] == [0, 10]


def test_counter_serves_only_the_slots_where_power_is_missing() -> None:
    fed = sensor(Term(power().key, fallback_key=counter().key))
    told = values(
        fed,
        (power(), every(60, 5, 1000.0)),
        (counter(), [at(n * 60, n / 10) for n in range(21)]),  # 6 kW, contradicting the power
    )
    assert told == [(0, 1.0), *[(minute, pytest.approx(6.0)) for minute in (5, 10, 15)]]


def test_slot_with_power_does_not_wait_for_the_counter() -> None:
    fed = sensor(Term(power().key, fallback_key=counter(every_s=3600).key))
    told = (power(), every(60, 5, 1000.0)), (counter(every_s=3600), [at(0, 5.0)])
    assert values(fed, *told, now=START + FIVE + SETTLING) == [(0, 1.0)]


def test_final_gap_of_one_term_does_not_wait_for_another() -> None:
    dead, slow = power("dead"), counter("slow", every_s=3600)
    fed = sensor(dead, slow)
    samples = {dead.key: [], slow.key: [at(0, 5.0)]}
    due = due_slots(fed, {dead.key: dead, slow.key: slow}, samples, WINDOW, START + FIVE + SETTLING)
    assert due.until == START + FIVE


# --- when ----------------------------------------------------------------------------------------


def test_slot_is_due_when_it_is_over_and_settled() -> None:
    told = power(), every(60, 10, 1.0)
    just_before = START + FIVE + SETTLING - timedelta(milliseconds=1)
    assert values(sensor(power()), told, now=just_before) == []
    assert values(sensor(power()), told, now=START + FIVE + SETTLING) == [(0, 0.001)]


def test_watermark_stands_where_gaps_are_final() -> None:
    now = START + timedelta(minutes=23) + SETTLING
    due = due_slots(sensor(power()), {power().key: power()}, {}, WINDOW, now)
    assert due.until == START + timedelta(minutes=20)


def test_watermark_never_moves_before_the_window() -> None:
    due = due_slots(sensor(power()), {power().key: power()}, {}, WINDOW, START - HOUR)
    assert due.until == START


@pytest.mark.parametrize("minutes", [1, 5, 7, 15, 60])
def test_slots_lie_on_the_grid_from_the_utc_epoch(minutes: int) -> None:
    resolution = timedelta(minutes=minutes)
    samples = every(30, 1000, 1.0)
    due = due_slots(
        sensor(power(), resolution=resolution),
        {power().key: power()},
        {power().key: samples},
        (START, START + timedelta(hours=8)),
        LATER,
    )
    assert len(due.slots) >= 7
    assert all(slot.start == slot_start(slot.start, resolution) for slot in due.slots)
    assert {slot.event_resolution for slot in due.slots} == {resolution}


# --- what cannot be fed --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fed", "words"),
    [
        (sensor(power(), resolution=timedelta(seconds=30)), "whole number of minutes"),
        (sensor(power(), resolution=timedelta(0)), "whole number of minutes"),
        (sensor(power(), unit="EUR"), "cannot compute the unit 'EUR'"),
        (sensor(power(), unit="V"), "in 'W' is no 'V'"),
        (sensor(power("elsewhere")), "not known to the box yet"),
        (sensor(), "no channel feeds it"),
    ],
)
def test_sensor_that_cannot_be_fed_is_named_with_the_reason(fed: Sensor, words: str) -> None:
    with pytest.raises(ConfigFault, match=words):
        check(fed, {power().key: power()})


@pytest.mark.parametrize("quantity", Quantity)
def test_every_quantity_can_be_told_in_its_own_unit(quantity: Quantity) -> None:
    channel = _channel("1", quantity, Kind.INSTANTANEOUS, 60)
    check(sensor(channel, unit=UNITS[quantity]), {channel.key: channel})


# --- against a computation that knows nothing of ours --------------------------------------------
#
# It steps through the seconds, in exact fractions: at each the channel has a rate or none.


def brute_rate(kind: Kind, every_s: int, told: dict[int, int], second: int) -> Fraction | None:
    before = max((t for t in told if t <= second), default=None)
    after = min((t for t in told if t > second), default=None)
    if before is None:
        return None
    match kind:
        case Kind.INSTANTANEOUS:
            return Fraction(told[before]) if second - before < max(3 * every_s, 180) else None
        case Kind.INTERVAL:
            is_inside = second - before < every_s
            is_cut = after is not None and after < before + every_s
            return (
                Fraction(told[before] * 3600 * 1000, every_s) if is_inside and not is_cut else None
            )
        case Kind.COUNTER:
            bridged_s = max(3 * every_s, 180)
            if after is None or after - before > bridged_s or told[after] < told[before]:
                return None
            step, hours = told[after] - told[before], Fraction(after - before + every_s, 3600)
            if step > Fraction(25 * 3 * 230, 1000) * Fraction(3, 2) * hours:
                return None
            return Fraction(step * 3600 * 1000, after - before)


def brute_slots(
    kind: Kind, every_s: int, told: dict[int, int], minutes: int, slots: int
) -> dict[int, Fraction]:
    """Slot number → kW."""
    length_s, means = minutes * 60, {}
    for number in range(slots):
        rates = [
            brute_rate(kind, every_s, told, second)
            for second in range(number * length_s, (number + 1) * length_s)
        ]
        known = [rate for rate in rates if rate is not None]
        needed = Fraction(8, 10) if kind is Kind.INSTANTANEOUS else Fraction(1)
        if known and Fraction(len(known), length_s) >= needed:
            means[number] = sum(known, Fraction(0)) / len(known) / 1000
    return means


kinds = st.sampled_from(list(Kind))
intervals_s = st.sampled_from([10, 60, 97, 300])
minutes_of_slots = st.sampled_from([1, 3, 5])
histories = st.dictionaries(st.integers(-900, 1800), st.integers(-50, 9000), max_size=40)
regular = st.builds(
    lambda step, steps: {n * step - 600: sum(steps[: n + 1]) for n in range(len(steps))},
    st.sampled_from([10, 60, 97, 150, 300]),
    st.lists(st.sampled_from([0, 0, 1, 1, 2, 3, 900, -4]), max_size=60),
)
anything = st.one_of(histories, regular)


def channel_of(kind: Kind, every_s: int, endpoint: str = "1") -> Channel:
    is_power = kind is Kind.INSTANTANEOUS
    quantity = Quantity.ACTIVE_POWER if is_power else Quantity.ACTIVE_ENERGY
    return _channel(endpoint, quantity, kind, every_s)


def samples_of(told: dict[int, int]) -> list[Sample]:
    return [at(second, value) for second, value in sorted(told.items())]


def slots_of(
    channel: Channel, samples: Sequence[Sample], minutes: int, first: int, end: int
) -> list[Slot]:
    resolution = timedelta(minutes=minutes)
    window = (START + first * resolution, START + end * resolution)
    fed = sensor(channel, resolution=resolution)
    due = due_slots(fed, {channel.key: channel}, {channel.key: samples}, window, LATER)
    return list(due.slots)


@settings(max_examples=60, deadline=None)
@given(kinds, intervals_s, anything, minutes_of_slots)
def test_slots_equal_a_second_by_second_computation(
    kind: Kind, every_s: int, told: dict[int, int], minutes: int
) -> None:
    count = 30 // minutes
    slots = slots_of(channel_of(kind, every_s), samples_of(told), minutes, 0, count)
    expected = brute_slots(kind, every_s, told, minutes, count)
    found = {(slot.start - START) // timedelta(minutes=minutes): slot.value for slot in slots}
    assert found == {number: pytest.approx(float(kw)) for number, kw in expected.items()}


@given(kinds, intervals_s, anything, minutes_of_slots, st.data())
def test_value_of_a_slot_does_not_depend_on_how_the_work_is_cut(
    kind: Kind, every_s: int, told: dict[int, int], minutes: int, data: st.DataObject
) -> None:
    channel, samples, count = channel_of(kind, every_s), samples_of(told), 30 // minutes
    cut = data.draw(st.integers(0, count))
    whole = slots_of(channel, samples, minutes, 0, count)
    parts: list[Slot] = []
    for first, end in ((0, cut), (cut, count)):
        far = reach(sensor(channel), {channel.key: channel})
        resolution = timedelta(minutes=minutes)
        low, high = START + first * resolution - far, START + end * resolution + far
        near = [sample for sample in samples if low <= sample.taken_at <= high]
        parts += slots_of(channel, near, minutes, first, end)
    assert parts == whole


@given(kinds, intervals_s, anything, minutes_of_slots, st.randoms())
def test_order_in_which_samples_arrive_does_not_matter(
    kind: Kind, every_s: int, told: dict[int, int], minutes: int, random: object
) -> None:
    channel, samples = channel_of(kind, every_s), samples_of(told)
    shuffled = list(samples)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert slots_of(channel, shuffled, minutes, 0, 6) == slots_of(channel, samples, minutes, 0, 6)


@given(kinds, intervals_s, histories, st.sampled_from([0.0, 0.5, 3.0]))
def test_slots_scale_with_the_readings(
    kind: Kind, every_s: int, told: dict[int, int], factor: float
) -> None:
    tame = {second: value / 1e5 for second, value in told.items()}  # no jump in any scale
    channel = channel_of(kind, every_s)
    once = slots_of(channel, samples_of(tame), 5, 0, 6)  # type: ignore[arg-type]
    scaled = {second: value * factor for second, value in tame.items()}
    times = slots_of(channel, samples_of(scaled), 5, 0, 6)  # type: ignore[arg-type]
    if kind is not Kind.COUNTER or factor:  # a counter of zeros no longer shows its resets
        assert [s.start for s in times] == [s.start for s in once]
        assert [s.value for s in times] == pytest.approx([s.value * factor for s in once])


@given(intervals_s, st.lists(st.integers(0, 80), min_size=2, max_size=80), minutes_of_slots)
def test_energy_of_a_counter_is_conserved(every_s: int, steps: list[int], minutes: int) -> None:
    readings = {n * every_s: sum(steps[:n]) / 1000 for n in range(len(steps) + 1)}
    channel, length_s = channel_of(Kind.COUNTER, every_s), minutes * 60
    whole = len(steps) * every_s // length_s
    slots = slots_of(channel, samples_of(readings), minutes, 0, whole)  # type: ignore[arg-type]
    assert len(slots) == whole
    told_kwh = sum(slot.value for slot in slots) * minutes / 60
    end_s = whole * length_s
    before = end_s // every_s
    rest = (end_s % every_s) / every_s
    meter_kwh = readings[before * every_s] + rest * (
        readings.get((before + 1) * every_s, 0) - readings[before * every_s] if rest else 0
    )
    assert told_kwh == pytest.approx(meter_kwh)


@given(st.lists(st.integers(-5000, 5000), min_size=30, max_size=30))
def test_energy_of_power_is_conserved(watts: list[int]) -> None:
    told = {n * 60: value for n, value in enumerate(watts)}
    slots = slots_of(channel_of(Kind.INSTANTANEOUS, 60), samples_of(told), 5, 0, 6)
    assert sum(slot.value for slot in slots) * 5 == pytest.approx(sum(watts) / 1000)
