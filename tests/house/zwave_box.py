"""The box's Z-Wave family alone, on the real driver and the simulated stick, for the flow tests."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from edge.clock import SystemClock
from edge.devices.zwave.events import NetworkEvent
from edge.devices.zwave.family import ZWave
from edge.model import BoxTime, Channel, DeviceState, Reading
from edge.supervise import keep_running
from tests.house.stick.stick import METER, PLUGS, Stick, Value, W
from tests.house.zwave_server import ZwaveServer

HOME = "7e570001"
PLUG = f"{HOME}-{PLUGS[0]}"
CLAMP_1_W = f"zwave/{HOME}-{METER}/1/active_power/import"
HURRY = 20


class HurriedClock(SystemClock):
    """The box's own waits pass many times as fast; time-outs of commands do not."""

    def __init__(self, hurry: int) -> None:
        super().__init__(datetime(2026, 1, 1, tzinfo=UTC), trust_always=True)
        self._hurry = hurry

    def boottime_ms(self) -> int:
        return super().boottime_ms() * self._hurry

    async def sleep(self, pause: timedelta) -> None:
        await super().sleep(pause / self._hurry)


@dataclass
class Notes:
    """An intake and a notebook that only write down."""

    clock: HurriedClock
    channels: dict[str, Channel] = field(default_factory=dict)
    readings: list[Reading] = field(default_factory=list)
    documents: dict[str, Any] = field(default_factory=dict)

    def offer(self, reading: Reading) -> None:
        self.readings.append(reading)

    def announce(self, channels: Iterable[Channel]) -> None:
        self.channels.update({channel.key: channel for channel in channels})

    def now(self) -> BoxTime:
        return BoxTime(1, self.clock.boottime_ms())

    async def get(self, name: str) -> Any:
        return self.documents.get(name)

    async def put(self, name: str, value: Any) -> None:
        self.documents[name] = value

    def values(self, key: str) -> list[float]:
        return [reading.value for reading in self.readings if reading.channel_key == key]


@dataclass
class House:
    """The stick and its driver, every device interviewed."""

    stick: Stick
    server: ZwaveServer


@dataclass
class Box:
    zwave: ZWave
    notes: Notes
    states: list[str] = field(default_factory=list)
    seen: int = 0

    async def hears(self, house: House, value: float, within_s: float = 20) -> None:
        """Wait until a report of `value` W from clamp 1 has become a reading; it is repeated."""
        async with asyncio.timeout(within_s):
            while True:
                await house.stick.report(Value(METER, 1, W, value))
                if value in self.notes.values(CLAMP_1_W):
                    return
                await asyncio.sleep(0.2)

    async def step[Step: NetworkEvent](self, kind: type[Step], within_s: float = 15) -> Step:
        """The next step of this kind that was not seen yet; steps before it are passed over."""
        try:
            async with asyncio.timeout(within_s):
                async for number, event in self.zwave.events.follow(self.seen):
                    self.seen = number
                    if isinstance(event, kind):
                        return event
        except TimeoutError:
            pass
        raise AssertionError(f"no {kind.__name__}, but {self.zwave.events.after(0)}")


@asynccontextmanager
async def a_house(folder: Path) -> AsyncIterator[House]:
    server = ZwaveServer(folder / "stick", folder / "driver", respawn=True)
    async with Stick(folder / "stick", server.keys) as stick, server:
        async with a_box(server.url) as box:
            await until(lambda: _interviewed(box), within_s=60)
        yield House(stick, server)


def _interviewed(box: Box) -> bool:
    ready = [d.state for d in box.zwave.devices() if d.details.get("ready")]
    return ready == [DeviceState.ALIVE] * 3


@asynccontextmanager
async def a_box(
    url: str, *, hurry: int = HURRY, backup_folder: Path | None = None, presets: bool = True
) -> AsyncIterator[Box]:
    """The family, kept running; entered once it is connected.

    Without `presets` nothing is written to the meters: what the driver asks a meter to make sure
    of such writes, the mock does not stand while a device joins securely.
    """
    clock = HurriedClock(hurry)
    notes = Notes(clock)
    zwave = ZWave(
        url,
        notes,
        clock,
        notebook=notes,
        backup_folder=backup_folder,
        report_presets=presets,
    )
    box = Box(zwave, notes)
    task = asyncio.create_task(
        keep_running("zwave", zwave.run, clock, lambda _, state: box.states.append(state))
    )
    try:
        await until(lambda: zwave.status().connected)
        yield box
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(true: Callable[[], bool], within_s: float = 20) -> None:
    """Wait until something is true."""
    async with asyncio.timeout(within_s):
        while True:
            if true():
                return
            await asyncio.sleep(0.02)
