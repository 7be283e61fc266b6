"""From meter reports to readings.

Keeps the taps of every node, stamps each report as it comes in and knows which channels have been
silent. The driver's cached values are never readings: they may be days old.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from edge.clock import MILLISECOND, Clock
from edge.devices.zwave.channels import MeterValue, Product, Tap, taps
from edge.model import Direction, Intake, Quantity, Reading

# These feed FlexMeasures: a silent one is asked. Voltage and current are not worth the air time.
POLLED = frozenset(
    {
        Quantity.ACTIVE_POWER,
        Quantity.ACTIVE_ENERGY,
        Quantity.GAS,
        Quantity.WATER,
        Quantity.HEAT,
        Quantity.COLD,
    }
)
SILENT_AFTER_INTERVALS = 1.5
_NEVER_MS = -1


class Silent(NamedTuple):
    """A channel that should have reported."""

    node_id: int
    source: MeterValue


@dataclass(slots=True)
class _Source:
    tap: Tap
    heard_ms: int | None = None  # last report in this boot, CLOCK_BOOTTIME
    asked_ms: int | None = None
    value: float | None = None


class Metering:
    """The meters of one network. Survives reconnects, so that silence is counted through them."""

    def __init__(self, intake: Intake, clock: Clock) -> None:
        self._intake = intake
        self._clock = clock
        self._nodes: dict[int, dict[MeterValue, _Source]] = {}
        self.reports = 0

    def node_has(
        self,
        node_id: int,
        device: str,
        name: str,
        product: Product,
        values: Iterable[MeterValue],
        intervals: Mapping[tuple[int, Quantity, Direction], timedelta],
    ) -> None:
        """Tell what a node measures, as often as that may have changed. Announces what is new."""
        before = self._nodes.get(node_id, {})
        announced = [source.tap for source in before.values()]
        now: dict[MeterValue, _Source] = {}
        for tap in taps(device, name, product, values, intervals):
            source = before.get(tap.source)
            if source is None:
                source = _Source(tap)
            source.tap = tap
            now[tap.source] = source
        if [source.tap for source in now.values()] != announced:
            self._intake.announce(source.tap.channel for source in now.values())
        self._nodes[node_id] = now

    def node_gone(self, node_id: int) -> None:
        """Its channels get no more readings; what they measured stays."""
        self._nodes.pop(node_id, None)

    def forget(self) -> None:
        """Another network came: nothing known so far belongs to it."""
        self._nodes.clear()

    def node_ids(self) -> set[int]:
        """The nodes that measure something."""
        return set(self._nodes)

    def power_interval(self, node_id: int) -> timedelta | None:
        """How often the node reports its power, where it measures any."""
        intervals = [
            source.tap.channel.report_interval
            for source in self._nodes.get(node_id, {}).values()
            if source.tap.channel.quantity is Quantity.ACTIVE_POWER
        ]
        return min(intervals, default=None)

    def knows(self, node_id: int, value: MeterValue) -> bool:
        return value in self._nodes.get(node_id, {})

    def report(self, node_id: int, value: MeterValue, number: float) -> None:
        """A meter reported `number`; the same number again is a reading too."""
        source = self._nodes.get(node_id, {}).get(value)
        if source is None:
            return
        self.reports += 1
        source.heard_ms = self._clock.boottime_ms()
        source.value = number * source.tap.factor
        self._intake.offer(Reading(source.tap.channel.key, self._intake.now(), source.value))

    def silent(self) -> list[Silent]:
        """Channels that have not reported for too long, the longest silent ones first.

        A channel that was asked in vain waits as long again before it is asked once more.
        """
        now_ms = self._clock.boottime_ms()
        due: list[tuple[int, Silent]] = []
        for node_id, sources in self._nodes.items():
            for value, source in sources.items():
                channel = source.tap.channel
                if channel.quantity not in POLLED:
                    continue
                last_ms = max(
                    _NEVER_MS if at_ms is None else at_ms
                    for at_ms in (source.heard_ms, source.asked_ms)
                )
                patience_ms = channel.report_interval * SILENT_AFTER_INTERVALS / MILLISECOND
                if last_ms == _NEVER_MS or now_ms - last_ms > patience_ms:
                    due.append((last_ms, Silent(node_id, value)))
        return [silent for _, silent in sorted(due)]

    def asked(self, silent: Silent) -> None:
        """Note that a silent channel was asked for its value."""
        if source := self._nodes.get(silent.node_id, {}).get(silent.source):
            source.asked_ms = self._clock.boottime_ms()
