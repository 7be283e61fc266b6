"""Where every device family puts what it reads: judged, then buffered. Never blocks or raises.

Owns the register of channels (kept across restarts, so that sensors stay fed from what was
buffered while a device is away), the latest believed value of each, and what was set aside.
"""

import logging
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from edge import energy_check
from edge.clock import Clock
from edge.documents import Documents
from edge.energy_check import EnergyCheck
from edge.model import BoxTime, Channel, Direction, Kind, Quantity, Reading
from edge.plausibility import ChannelState, Judgement, Limits, Reason, judge

log = logging.getLogger(__name__)

CHANNELS_MAX = 4000  # a full Z-Wave network of 232 nodes with 16 values each; bounds the memory
SET_ASIDE_MAX = 200  # of the latest ones shown; all are counted
FUTURE_MAX = timedelta(minutes=5)  # a source's clock may be this much ahead of ours
PAST_MAX = timedelta(days=30)  # Smappee keeps 14 days, Home Assistant ten unless told otherwise
# Even a box that does not know the time yet knows that a meter whose clock was lost says 1970.
EARLIEST, LATEST = datetime(2025, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
SAVE_EVERY = timedelta(seconds=2)  # devices announce in bursts; one write for all of them

_DOCUMENT = "channels"


class ReadingSink(Protocol):
    """What the intake needs of store/buffer.py."""

    @property
    def boot(self) -> int: ...
    def put(self, channel_key: str, taken_at: BoxTime | datetime, value: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Latest:
    """The last believed value of a channel and how old it is."""

    value: float
    taken_at: BoxTime | datetime
    age: timedelta


@dataclass(frozen=True, slots=True)
class SetAside:
    """A reading that was not believed, why, and when it was offered."""

    reading: Reading
    reason: Reason
    at: datetime


class ReadingIntake:
    """The one Intake of the box. `limits` say what the installation can carry."""

    def __init__(
        self, buffer: ReadingSink, settings: Documents, clock: Clock, limits: Limits | None = None
    ) -> None:
        self._buffer = buffer
        self._settings = settings
        self._clock = clock
        self.limits = limits or Limits()
        self._channels: dict[str, Channel] = {}
        self._clamps: dict[tuple[str, str], dict[str, Channel]] = {}  # by device and endpoint
        self._states: dict[str, ChannelState] = {}
        self._latest: dict[str, tuple[Reading, int]] = {}
        self._checks: dict[str, EnergyCheck] = {}  # by the key of the counter
        self._set_aside: deque[SetAside] = deque(maxlen=SET_ASIDE_MAX)
        self._set_aside_counts: Counter[tuple[str, Reason]] = Counter()
        self._is_unsaved = False
        self.accepted_total = 0
        self.confirmed_total = 0
        self.resets_total = 0
        self.unknown_total = 0  # readings of channels that nobody announced, or beyond the bound

    async def restore(self) -> None:
        """Know the channels of earlier runs again. Call before the families start."""
        kept = await self._settings.get(_DOCUMENT)
        try:
            self.announce([_channel(entry) for entry in kept or []])
        except (TypeError, KeyError, ValueError):  # devices announce themselves anew
            log.exception("the register of channels cannot be read")
        self._is_unsaved = False

    async def run(self) -> None:
        """Save the register whenever it has changed."""
        while True:
            await self.save()
            await self._clock.sleep(SAVE_EVERY)

    async def save(self) -> None:
        """Save the register if it has changed."""
        if self._is_unsaved:
            self._is_unsaved = False
            await self._settings.put(_DOCUMENT, [_entry(c) for c in self._channels.values()])

    # --- Intake ---------------------------------------------------------------------------------

    def announce(self, channels: Iterable[Channel]) -> None:
        """Tell that these channels exist (again); later announcements of a key replace earlier."""
        for channel in channels:
            known = self._channels.get(channel.key)
            if known == channel or (known is None and len(self._channels) >= CHANNELS_MAX):
                continue
            self._channels[channel.key] = channel
            self._clamps.setdefault(_clamp(channel), {})[channel.key] = channel
            self._is_unsaved = True
            self._pair_up(channel)

    def offer(self, reading: Reading) -> None:
        """Take one reading; checked for plausibility, then buffered."""
        channel = self._channels.get(reading.channel_key)
        if channel is None:
            self.unknown_total += 1
            return
        if wrong_time := self._wrong_time(reading):
            self._put_aside(reading, wrong_time)
            return
        state = self._states.get(channel.key, ChannelState())
        judgement = judge(channel, state, reading, self.limits)
        self._states[channel.key] = judgement.state
        self._follow(reading, judgement)

    def now(self) -> BoxTime:
        """The stamp for a reading that carries no time of its own."""
        return BoxTime(self._buffer.boot, self._clock.boottime_ms())

    # --- what the status and the uplink ask -----------------------------------------------------

    def channels(self) -> Mapping[str, Channel]:
        """Every channel the box has ever known, by key."""
        return self._channels

    def forget(self, device_key: str) -> None:
        """Forget the channels of a device that was removed for good."""
        for key in [k for k, c in self._channels.items() if c.device_key == device_key]:
            clamp = _clamp(self._channels.pop(key))
            self._clamps[clamp].pop(key)
            self._states.pop(key, None)
            self._latest.pop(key, None)
            self._checks.pop(key, None)
            self._is_unsaved = True

    def latest(self, channel_key: str) -> Latest | None:
        """The last believed value of a channel, since this start."""
        if channel_key not in self._latest:
            return None
        reading, offered_ms = self._latest[channel_key]
        match reading.taken_at:
            case BoxTime(boottime_ms=taken_ms):
                age = timedelta(milliseconds=self._clock.boottime_ms() - taken_ms)
            case taken_at if self._clock.is_trusted():
                age = self._clock.wall_now() - taken_at
            case _:
                age = timedelta(milliseconds=self._clock.boottime_ms() - offered_ms)
        return Latest(reading.value, reading.taken_at, age)

    def set_aside(self) -> list[SetAside]:
        """The latest readings that were not believed, newest first."""
        return list(reversed(self._set_aside))

    def set_aside_counts(self) -> dict[tuple[str, Reason], int]:
        """How often a reading was not believed, by channel key and reason, since this start."""
        return dict(self._set_aside_counts)

    def set_aside_total(self) -> int:
        return self._set_aside_counts.total()

    def energy_check(self) -> dict[str, float | None]:
        """Per kWh counter beside a power channel: deviation of ∫W from it in percent, or None
        while too little energy has flown to tell."""
        return {key: check.deviation_percent() for key, check in self._checks.items()}

    # --- inside ---------------------------------------------------------------------------------

    def _follow(self, reading: Reading, judgement: Judgement) -> None:
        if judgement.reason is not None:
            self._put_aside(reading, judgement.reason)
        for believed in judgement.accepted:
            self._believe(believed)
        self.confirmed_total += judgement.released
        self.resets_total += judgement.reset

    def _believe(self, reading: Reading) -> None:
        self.accepted_total += 1
        self._buffer.put(reading.channel_key, reading.taken_at, reading.value)
        known = self._latest.get(reading.channel_key)
        if known is None or not _is_older(reading, known[0]):
            self._latest[reading.channel_key] = (reading, self._clock.boottime_ms())
        for counter in self._counters_beside(reading.channel_key):
            if counter.key in self._checks:
                self._checks[counter.key].take(reading)

    def _pair_up(self, announced: Channel) -> None:
        """Compare counters of this clamp with its power; a comparison under way goes on."""
        for counter in self._counters_beside(announced.key):
            made = energy_check.pair(counter, self._clamps[_clamp(announced)])
            known = self._checks.get(counter.key)
            if made is not None and (
                known is None or (known.power, known.counter) != (made.power, made.counter)
            ):
                self._checks[counter.key] = made

    def _counters_beside(self, channel_key: str) -> list[Channel]:
        clamp = self._clamps[_clamp(self._channels[channel_key])]
        return [channel for channel in clamp.values() if channel.kind is Kind.COUNTER]

    def _put_aside(self, reading: Reading, reason: Reason) -> None:
        self._set_aside.append(SetAside(reading, reason, self._clock.wall_now()))
        self._set_aside_counts[reading.channel_key, reason] += 1

    def _wrong_time(self, reading: Reading) -> Reason | None:
        """Why the time its source gave a reading cannot be; the box's own is always right."""
        if not isinstance(reading.taken_at, datetime):
            return None
        earliest, latest = EARLIEST, LATEST
        if self._clock.is_trusted():
            now = self._clock.wall_now()
            earliest, latest = now - PAST_MAX, now + FUTURE_MAX
        if reading.taken_at > latest:
            return Reason.IN_THE_FUTURE
        return Reason.TOO_OLD if reading.taken_at < earliest else None


def _clamp(channel: Channel) -> tuple[str, str]:
    return channel.device_key, channel.endpoint


def _is_older(reading: Reading, known: Reading) -> bool:
    match reading.taken_at, known.taken_at:
        case datetime() as taken_at, datetime() as known_at:
            return taken_at < known_at
        case _:
            return False


def _entry(channel: Channel) -> dict[str, Any]:
    return asdict(channel) | {"report_interval": channel.report_interval.total_seconds()}


def _channel(entry: Mapping[str, Any]) -> Channel:
    return Channel(
        **{
            **entry,
            "quantity": Quantity(entry["quantity"]),
            "kind": Kind(entry["kind"]),
            "direction": Direction(entry["direction"]),
            "report_interval": timedelta(seconds=entry["report_interval"]),
        }
    )
