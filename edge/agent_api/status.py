"""Gathers what every part knows into one Status."""

from collections.abc import Awaitable, Callable

from edge import __version__
from edge.clock import Clock
from edge.config import Config
from edge.contract import (
    BufferStatus,
    ChannelStatus,
    ClockStatus,
    ControlStatus,
    DeviceStatus,
    FlexMeasuresStatus,
    PartStatus,
    ReadingsStatus,
    RejectedSlotStatus,
    SetAsideStatus,
    Status,
)
from edge.families import Families
from edge.health import Health
from edge.intake import ReadingIntake
from edge.model import Channel, Device
from edge.stick_watch import StickWatch
from edge.store.buffer import Buffer
from edge.store.database import Database
from edge.store.outbox import Outbox, OutboxCounts
from edge.supervise import NEEDS_A_PERSON
from edge.uplink.account import Account
from edge.uplink.shipping import Shipping

_SET_ASIDE_SHOWN = 20
_REJECTED_SHOWN = 20
_WAITING_IS_NORMAL = 50  # a round of fresh slots


class StatusDesk:
    """Answers "how is the box?"."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        health: Health,
        buffer: Buffer,
        outbox: Outbox,
        state: Database,
        intake: ReadingIntake,
        families: Families,
        account: Account,
        shipping: Shipping,
        stick_watch: StickWatch,
        control: Callable[[], Awaitable[ControlStatus]],
    ) -> None:
        self._config = config
        self._clock = clock
        self._health = health
        self._buffer = buffer
        self._outbox = outbox
        self._state = state
        self._intake = intake
        self._families = families
        self._account = account
        self._shipping = shipping
        self._stick_watch = stick_watch
        self._control = control

    async def status(self) -> Status:
        """Everything, now."""
        now_ms = self._clock.boottime_ms()
        sensors = {sensor.sensor_id: sensor for sensor in self._account.sensors()}
        return Status(
            name=self._config.name,
            version=__version__,
            release=self._config.release,
            parts=[
                PartStatus(
                    name=name,
                    state=part.state,
                    since_s=(now_ms - part.since_boottime_ms) / 1000,
                )
                for name, part in sorted(self._health.parts.items())
            ],
            alarms=self._alarms(),
            stick=self._stick(),
            devices=[_device(device) for device in self._families.devices()],
            channels=self._channels(),
            set_aside=[
                SetAsideStatus(
                    channel=aside.reading.channel_key,
                    value=aside.reading.value,
                    reason=str(aside.reason),
                    at=aside.at,
                )
                for aside in self._intake.set_aside()[:_SET_ASIDE_SHOWN]
            ],
            readings=ReadingsStatus(
                believed=self._intake.accepted_total,
                confirmed=self._intake.confirmed_total,
                counter_resets=self._intake.resets_total,
                unknown=self._intake.unknown_total,
            ),
            buffer=await self._buffer_status(),
            clock=ClockStatus(
                trusted=self._clock.is_trusted(),
                wall=self._clock.wall_now(),
                uptime_s=now_ms / 1000,
            ),
            flexmeasures=await self.flexmeasures(),
            rejected=[
                RejectedSlotStatus(
                    sensor_id=row.slot.sensor_id,
                    name=sensor.name if sensor else "",
                    unit=sensor.unit if sensor else "",
                    start=row.slot.start,
                    value=row.slot.value,
                    reason=row.reason or "",
                )
                for row in await self._outbox.rejected(_REJECTED_SHOWN)
                for sensor in (sensors.get(row.slot.sensor_id),)
            ],
            counts=dict(self._health.counts) | self._zwave_counts(),
            control=await self._control(),
        )

    def _alarms(self) -> dict[str, str]:
        files = {"buffer": self._buffer.problem, "settings": self._state.problem}
        return self._health.alarms | {name: text for name, text in files.items() if text}

    def _stick(self) -> str | None:
        family = self._families.running("zwave")
        if family is None or not hasattr(family, "status"):
            return None
        known = family.status()
        if not known.connected:
            return self._stick_watch.sentence
        if known.problem:
            return str(known.problem)
        return f"firmware {known.stick_firmware}, home {known.home_id}, {known.nodes} devices"

    def _zwave_counts(self) -> dict[str, int]:
        family = self._families.running("zwave")
        if family is None or not hasattr(family, "status"):
            return {}
        known = family.status()
        return {
            "zwave sessions": known.sessions,
            "zwave reports": known.reports,
            "zwave unreadable events": known.unreadable_events,
            "zwave stick restarts": known.soft_resets,
        }

    def _channels(self) -> list[ChannelStatus]:
        fed = {
            key: sensor.sensor_id
            for sensor in self._account.sensors()
            for term in sensor.terms
            for key in (term.channel_key, term.fallback_key)
            if key
        }
        aside: dict[str, int] = {}
        for (key, _), times in self._intake.set_aside_counts().items():
            aside[key] = aside.get(key, 0) + times
        deviations = self._intake.energy_check()
        return [
            self._channel(channel, fed.get(key), aside.get(key, 0), deviations.get(key))
            for key, channel in sorted(self._intake.channels().items())
        ]

    def _channel(
        self, channel: Channel, sensor_id: int | None, aside: int, deviation: float | None
    ) -> ChannelStatus:
        latest = self._intake.latest(channel.key)
        return ChannelStatus(
            key=channel.key,
            name=channel.name,
            unit=channel.unit,
            value=latest.value if latest else None,
            age_s=latest.age.total_seconds() if latest else None,
            sensor_id=sensor_id,
            set_aside=aside,
            energy_deviation_percent=deviation,
        )

    async def _buffer_status(self) -> BufferStatus:
        stats = await self._buffer.stats()
        waited = stats.oldest_uncommitted
        return BufferStatus(
            readings=stats.stored,
            stored_since_start=stats.stored_since_start,
            bytes_used=stats.file_bytes - stats.free_bytes,
            bytes_max=stats.bytes_max,
            oldest=stats.oldest,
            uncommitted=stats.uncommitted,
            oldest_uncommitted_s=waited.total_seconds() if waited else 0.0,
            dropped=stats.dropped_full + stats.dropped_memory,
            damaged_groups=stats.damaged_groups,
            unresolved=stats.held_without_time,
        )

    async def flexmeasures(self) -> FlexMeasuresStatus:
        counts = await self._outbox.counts()
        progress = self._shipping.progress(counts.waiting)
        paired = self._account.paired
        said = self._health.parts.get("shipping")
        trouble = said.state if said and said.state != "running" else None
        return FlexMeasuresStatus(
            paired=paired is not None,
            url=paired.url if paired else None,
            paired_as=paired.email if paired else None,
            server_version=paired.server_version if paired else None,
            site=paired.site if paired else None,
            sensors=len(self._account.sensors()),
            last_accepted=self._shipping.last_accepted,
            slots_accepted=counts.accepted_total,
            slots_waiting=counts.waiting,
            slots_rejected=counts.rejected_total,
            slots_dropped=counts.dropped_total,
            slots_per_minute=progress.slots_per_minute,
            oldest_waiting=counts.oldest_waiting,
            catching_up_percent=_percent(counts),
            done_by=progress.done_by,
            last_error=trouble,
            advice=self._advice(trouble),
        )

    def _advice(self, trouble: str | None) -> str | None:
        if not self._clock.is_trusted():
            return "the clock is not set yet; nothing is sent before it is"
        if trouble is None:
            return "; ".join((*self._shipping.refused.values(), *self._account.refused)) or None
        if trouble.startswith(NEEDS_A_PERSON):
            return "open the setup page and pair the box again"
        return "nothing to do: the box keeps everything and tries again by itself"


def _percent(counts: OutboxCounts) -> float | None:
    """How much of what was ever due has arrived; None where next to nothing waits."""
    if counts.oldest_waiting is None or counts.waiting <= _WAITING_IS_NORMAL:
        return None
    return 100 * counts.accepted_total / (counts.accepted_total + counts.waiting)


def _device(device: Device) -> DeviceStatus:
    return DeviceStatus(
        key=device.key,
        name=device.name,
        model=device.model,
        state=device.state,
        last_seen=device.last_seen,
        is_switch=device.is_switch,
        is_on=device.is_on,
        details=device.details,
    )
