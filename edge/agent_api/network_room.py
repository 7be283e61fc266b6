"""The page's room for the Z-Wave network: one act at a time, told as live steps.

Acts that take long run as a part of the agent (run), so that a closed browser neither stops them
nor loses sight of them. What is going on is read from the family's own log of events.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, cast

from edge.agent_api import web
from edge.agent_api.door import answer, asked
from edge.agent_api.inheritance import Inheritance
from edge.agent_api.network_story import Story
from edge.agent_api.refusals import NotAllowed
from edge.clock import MILLISECOND, Clock
from edge.contract.setup import (
    GoneDevice,
    MemoriesView,
    MemoryCopy,
    NetworkRequest,
    NetworkTask,
    StickView,
)
from edge.errors import EdgeError
from edge.families import Families
from edge.model import Device, DeviceState
from edge.stick_watch import StickWatch

FAMILY = "zwave"
LONG_POLL = timedelta(seconds=20)
LOOK_EVERY = timedelta(milliseconds=250)
LISTENS_FOR = timedelta(minutes=4)
NOTHING_FOLLOWS_AFTER = timedelta(seconds=5)
_LONG = frozenset(
    {
        "add",
        "add_code",
        "remove",
        "remove_failed",
        "replace",
        "rebuild",
        "interview",
        "restore_memory",
    }
)
_COPY = re.compile(r"([0-9a-f]{8})-([0-9]{8}T[0-9]{6})\.nvm")  # devices/zwave/backup.py

type Note = Callable[[str, str, dict[str, str]], Awaitable[None]]


class _Numbered(Protocol):
    number: int

    def document(self) -> dict[str, Any]: ...


class _Log(Protocol):
    last: int

    def after(self, number: int) -> list[_Numbered]: ...


class _Network(Protocol):
    async def add(self) -> None: ...
    def code_fault(self, typed: str) -> str | None: ...
    async def add_by_code(self, typed: str) -> object: ...
    async def enter_pin(self, typed: str) -> None: ...
    async def replace(self, device: str) -> None: ...
    async def remove(self) -> None: ...
    async def remove_failed(self, device: str) -> None: ...
    async def write_memory(self, file: str) -> None: ...
    async def stop(self) -> None: ...
    def is_busy(self) -> bool: ...


class _SwitchTest(Protocol):
    obeyed: bool
    restored: bool


class _Upkeep(Protocol):
    async def rename(self, device: str, name: str) -> str: ...
    async def ping(self, device: str) -> bool: ...
    async def interview(self, device: str) -> None: ...
    async def test_switch(self, device: str) -> _SwitchTest: ...
    async def rebuild_routes(self) -> None: ...
    async def stop_rebuilding_routes(self) -> None: ...
    async def set_power_interval(self, device: str, interval: timedelta | None) -> None: ...
    async def adopt(self, device: str, old_device: str, name: str) -> None: ...


class _Backups(Protocol):
    def files(self) -> list[Path]: ...


class _Status(Protocol):
    connected: bool
    problem: str | None
    stick_firmware: str | None


class ZWaveFamily(Protocol):
    """What this room needs of devices/zwave, which is never imported here."""

    network: _Network
    upkeep: _Upkeep
    events: _Log
    backups: _Backups

    def status(self) -> _Status: ...


class NetworkRoom:
    """Routes over the Z-Wave family, where it runs."""

    def __init__(
        self,
        families: Families,
        inheritance: Inheritance,
        stick_watch: StickWatch,
        clock: Clock,
        note: Note,
    ) -> None:
        self._families = families
        self._inheritance = inheritance
        self._stick_watch = stick_watch
        self._clock = clock
        self._note = note
        self._acts: asyncio.Queue[NetworkRequest] = asyncio.Queue(maxsize=1)
        self._doing = ""
        self._device = ""
        self._from = 0
        self._since_ms = 0
        self._said: tuple[str, str] | None = None  # how the act failed before any event told so
        self._changes = 0
        self._idle_since_ms: float | None = None
        self._pin_entered = False

    def routes(self) -> list[web.Route]:
        return [
            web.get("/network", self._show),
            web.post("/network", self._act),
            web.get("/network/memories", self._memories),
        ]

    async def run(self) -> None:
        """Carry out the long acts, one after the other; a part of the agent."""
        while True:
            wanted = await self._acts.get()
            try:
                await self._carry_out(self._family(), wanted)
            except EdgeError as problem:
                self._said = ("stopped" if self._said else "failed", str(problem))
                self._tell()

    # --- for the meters' room ---------------------------------------------------------------------

    def stick(self) -> StickView:
        """How the stick is, in a word."""
        family = self._families.running(FAMILY)
        if family is None:
            return StickView(code="none", text="")
        known = cast("ZWaveFamily", family).status()
        if not known.connected:
            return StickView(code=self._stick_watch.code, text=self._stick_watch.sentence)
        if known.problem:
            return StickView(code="trouble", text=known.problem)
        return StickView(code="ready", text=known.stick_firmware or "")

    def may(self, device: Device) -> list[str]:
        """What can be done with this device now."""
        if device.family != FAMILY or self._families.running(FAMILY) is None:
            return []
        offered = ["switch_test"] if device.is_switch else []
        if ":" in device.device:  # one socket of a device
            return offered
        offered += ["ping", "interview", "rename", "interval", "remove"]
        if device.state is DeviceState.DEAD:
            return [*offered, "replace", "remove_failed"]
        return [*offered, "take_over"]  # where a device is gone

    def gone(self) -> list[GoneDevice]:
        """The devices whose place another may take; none while the stick is away."""
        return self._inheritance.gone() if self.stick().code == "ready" else []

    # --- routes -----------------------------------------------------------------------------------

    async def _show(self, request: web.Request) -> web.Response:
        since = _number(request.query.get("since", "-1"))
        return answer(await self._after(since))

    async def _memories(self, _: web.Request) -> web.Response:
        files = await asyncio.to_thread(self._family().backups.files)
        named = [(path, _COPY.fullmatch(path.name)) for path in reversed(files)]
        return answer(
            MemoriesView(
                memories=[
                    MemoryCopy(
                        file=path.name,
                        home_id=name[1],
                        taken_at=datetime.strptime(name[2], "%Y%m%dT%H%M%S").replace(tzinfo=UTC),
                    )
                    for path, name in named
                    if name is not None
                ]
            )
        )

    async def _act(self, request: web.Request) -> web.Response:
        wanted = await asked(request, NetworkRequest)
        family = self._family()
        if wanted.doing not in _LONG:
            await self._at_once(family, wanted)
            return web.Response(status=204)
        if wanted.doing == "add_code" and (fault := family.network.code_fault(wanted.text)):
            raise NotAllowed(f"code_{fault}", 422)
        if self._doing and not self._task().is_over:
            raise NotAllowed("network_busy", 409)
        if self._acts.full():
            raise NotAllowed("network_busy", 409)
        self._doing, self._device = wanted.doing, wanted.device
        self._from, self._since_ms = family.events.last, self._clock.boottime_ms()
        self._said = self._idle_since_ms = None
        self._pin_entered = False
        self._acts.put_nowait(wanted)
        self._tell()
        await self._note("network", f"Z-Wave: {wanted.doing}", {"device": wanted.device})
        return web.Response(status=204)

    async def _carry_out(self, family: ZWaveFamily, wanted: NetworkRequest) -> None:
        device = wanted.device.removeprefix(f"{FAMILY}/")
        match wanted.doing:
            case "add":
                await family.network.add()
            case "add_code":
                await family.network.add_by_code(wanted.text)
            case "remove":
                await family.network.remove()
            case "remove_failed":
                await family.network.remove_failed(device)
            case "replace":
                await family.network.replace(device)
            case "rebuild":
                await family.upkeep.rebuild_routes()
            case "interview":
                await family.upkeep.interview(device)
            case "restore_memory":
                await family.network.write_memory(wanted.text)

    async def _at_once(self, family: ZWaveFamily, wanted: NetworkRequest) -> None:
        device = wanted.device.removeprefix(f"{FAMILY}/")
        match wanted.doing:
            case "pin":
                await family.network.enter_pin(wanted.text)
                self._pin_entered = True
                self._tell()
            case "stop":
                await self._stop(family)
            case "ping":
                if not await family.upkeep.ping(device):
                    raise NotAllowed("device_silent", 409)
            case "rename":
                await family.upkeep.rename(device, wanted.text)
            case "interval":
                await family.upkeep.set_power_interval(device, timedelta(seconds=wanted.seconds))
            case "take_over":
                await self._inheritance.hand_over(family.upkeep, wanted.device, wanted.text)
                told = {"device": wanted.device, "place_of": wanted.text}
                await self._note("network", "Z-Wave: take_over", told)
            case "switch_test":
                outcome = await family.upkeep.test_switch(device)
                await self._note("command", "switch tested by hand", {"device": wanted.device})
                if not (outcome.obeyed and outcome.restored):
                    raise NotAllowed("switch_disobeyed", 409)

    async def _stop(self, family: ZWaveFamily) -> None:
        self._said = ("stopped", "")
        self._tell()
        if self._doing == "rebuild":
            await family.upkeep.stop_rebuilding_routes()
        elif self._doing != "interview":
            await family.network.stop()

    # --- what is going on -------------------------------------------------------------------------

    def _task(self) -> NetworkTask:
        family = cast("ZWaveFamily | None", self._families.running(FAMILY))
        if not self._doing or family is None:
            story = Story(self._doing)
            story.end("idle", well=True)
            return story.message(self._changes, None)
        story = Story(self._doing, self._device)
        story.tell(each.document() for each in family.events.after(self._from))
        if self._pin_entered and story.waits_for == "pin":
            story.step("pin_entered")
            story.waits_for = ""
        if self._said is not None and not story.is_over:
            outcome, text = self._said
            if text:
                story.step("said", text)
            if not story.is_half_in or self._nothing_follows(family):
                story.end(outcome, well=False)
            story.waits_for = ""
        if not story.is_over and story.listens_no_more and self._nothing_follows(family):
            story.end("timed_out", well=False)
        passed_ms = self._clock.boottime_ms() - self._since_ms
        left_s = max(0.0, LISTENS_FOR.total_seconds() - passed_ms / 1000)
        return story.message(self._changes + family.events.last, left_s)

    def _nothing_follows(self, family: ZWaveFamily) -> bool:
        """Whether the stick has been idle for a while since it stopped listening."""
        now_ms = self._clock.boottime_ms()
        if family.network.is_busy():
            self._idle_since_ms = None
            return False
        if self._idle_since_ms is None:
            self._idle_since_ms = now_ms
        return now_ms - self._idle_since_ms > NOTHING_FOLLOWS_AFTER / MILLISECOND

    async def _after(self, since: int) -> NetworkTask:
        """The task as soon as it differs from revision `since`, or as it is after a while."""
        until_ms = self._clock.boottime_ms() + LONG_POLL / MILLISECOND
        while True:
            found = self._task()
            is_late = self._clock.boottime_ms() >= until_ms
            if found.revision != since or found.is_over or is_late:
                return found
            await self._clock.sleep(LOOK_EVERY)

    def _tell(self) -> None:
        self._changes += 1

    def _family(self) -> ZWaveFamily:
        family = self._families.running(FAMILY)
        if family is None:
            raise NotAllowed("network_away", 409)
        return cast("ZWaveFamily", family)


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return -1
