"""Z-Wave as the agent sees it: a Meter and a Switch over one connection to the zwave-server.

run() is one session: connect, take the snapshot, follow events, care for the network. Whatever
ends it becomes an EdgeError, and keep_running() starts the next session with a new client.
"""

import asyncio
import logging
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import aiohttp
from zwave_js_server.const import ControllerStatus
from zwave_js_server.model.driver import Driver
from zwave_js_server.model.node import Node

from edge.clock import MILLISECOND, Clock
from edge.devices.zwave import switching
from edge.devices.zwave.backup import Backups
from edge.devices.zwave.care import Care, StickHealth
from edge.devices.zwave.channels import FAMILY
from edge.devices.zwave.choices import Choices
from edge.devices.zwave.door import (
    SNAPSHOT_WITHIN_S,
    DriverClient,
    Event,
    connect,
    listen,
)
from edge.devices.zwave.events import EventLog
from edge.devices.zwave.metering import Metering
from edge.devices.zwave.network import Network
from edge.devices.zwave.nodes import configuration, product
from edge.devices.zwave.picture import Picture
from edge.devices.zwave.presets import Setting, settings
from edge.devices.zwave.steps import Steps
from edge.devices.zwave.upkeep import Upkeep
from edge.errors import Malformed, Unreachable
from edge.family import Notebook
from edge.model import Device, Intake
from edge.supervise import first_to_fail

log = logging.getLogger(__name__)

# After an event that could not be read the whole picture is fetched anew, but not more often.
FRESH_PICTURE_EVERY = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class ZWaveStatus:
    """The driver and the stick, for the status and the page."""

    connected: bool
    problem: str | None
    home_id: str | None = None
    server_version: str | None = None
    driver_version: str | None = None
    stick_firmware: str | None = None
    controller: str | None = None
    inclusion: str | None = None
    nodes: int = 0
    reports: int = 0
    sessions: int = 0
    unreadable_events: int = 0
    last_unreadable: str | None = None
    soft_resets: int = 0


class ZWave:
    """Every Z-Wave meter and switch of the house. `network` and `upkeep` are the page's."""

    family = FAMILY

    def __init__(
        self,
        url: str,
        intake: Intake,
        clock: Clock,
        *,
        notebook: Notebook | None = None,
        backup_folder: Path | None = None,
        report_presets: bool = True,
        signed_power: bool = True,
    ) -> None:
        """Costs nothing; run() connects.

        `notebook` keeps what a person chose for single devices, `backup_folder` copies of the
        stick's memory. `report_presets`: known meters are told how often to report (presets.py);
        `signed_power`: and to give power a sign.
        """
        self._url = url
        self._clock = clock
        self._report_presets = report_presets
        self._signed_power = signed_power
        self._choices = Choices(notebook)
        self._metering = Metering(intake, clock)
        self._stick = StickHealth()
        self._picture = Picture(self._metering, self._choices)
        self.events = EventLog()
        self.backups = Backups(backup_folder, self.events)
        self._steps = Steps(self._picture, self.events)
        radio = asyncio.Lock()
        self.network = Network(self._picture, clock, self.backups, self.events, self._steps, radio)
        self._care = Care(
            clock,
            self._metering,
            self._stick,
            radio=radio,
            is_busy=self.network.is_busy,
            wishes=self._wishes,
        )
        self.upkeep = Upkeep(self._picture, self._steps, self._choices, self._care.wish_soon)
        self._client: DriverClient | None = None
        self._sessions = 0
        self._unreadable = 0
        self._unreadable_sample: str | None = None
        self._fresh_picture_ms: int | None = None
        self._stale: Malformed | None = None  # why the picture may miss something

    # --- Meter ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Measure until the session ends. Raises Unreachable, Refused or Malformed."""
        await self._choices.load()
        self._stale = None
        async with aiohttp.ClientSession() as http:
            client = DriverClient(
                self._url,
                http,
                on_driver=self._picture.begin,
                on_event=self._on_event,
                on_unreadable=self._on_unreadable,
            )
            await connect(client)
            self._client = client
            ready = asyncio.Event()
            try:
                await first_to_fail(listen(client, ready), self._care_once(ready))
            finally:
                self._picture.end()
                self._client = None

    def devices(self) -> list[Device]:
        """Every device known now; without a connection those known last, their state unknown."""
        return self._picture.devices()

    def status(self) -> ZWaveStatus:
        """What `edge status` says of driver and stick."""
        status = ZWaveStatus(
            connected=False,
            problem="the Z-Wave driver is not connected",
            reports=self._metering.reports,
            sessions=self._sessions,
            unreadable_events=self._unreadable,
            last_unreadable=self._unreadable_sample,
            soft_resets=self._stick.soft_resets,
        )
        driver, client = self._picture.live, self._client
        if driver is None or client is None:
            return status
        controller, version = driver.controller, client.version
        return replace(
            status,
            connected=True,
            problem=self._problem(controller.status),
            home_id=f"{controller.home_id:08x}" if controller.home_id is not None else None,
            server_version=version.server_version if version else None,
            driver_version=version.driver_version if version else None,
            stick_firmware=controller.firmware_version,
            controller=controller.status.name.lower(),
            inclusion=controller.inclusion_state.name.lower(),
            nodes=sum(not node.is_controller_node for node in controller.nodes.values()),
        )

    def _problem(self, controller: ControllerStatus) -> str | None:
        if self._stick.is_silent or controller == ControllerStatus.UNRESPONSIVE:
            return "the Z-Wave stick does not answer; unplug it and plug it in again"
        if controller == ControllerStatus.JAMMED:
            return "the radio is jammed; move the stick away from other electronics"
        return None

    # --- Switch -----------------------------------------------------------------------------------

    async def turn_off(self, device: str, hold: timedelta | None) -> None:
        """Switch off; with `hold` the device itself comes back after it."""
        node, point = self._picture.switch_of(device)
        await switching.hold(node, hold)
        await switching.switch(node, point, on=False)

    async def turn_on(self, device: str) -> None:
        """Switch on, and clear the device's own timer if one is set."""
        node, point = self._picture.switch_of(device)
        await switching.switch(node, point, on=True)
        await switching.hold(node, None)

    async def is_on(self, device: str) -> bool | None:
        """Ask the device itself. Raises Unreachable where it does not answer."""
        node, point = self._picture.switch_of(device)
        return await switching.read(node, point)

    # --- one session ------------------------------------------------------------------------------

    async def _care_once(self, ready: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(SNAPSHOT_WITHIN_S):
                await ready.wait()
        except TimeoutError as problem:
            raise Unreachable("the Z-Wave driver does not tell which devices it has") from problem
        driver = self._picture.driver()
        self._sessions += 1
        await first_to_fail(
            self._care.run(driver),
            self.network.care(driver),
            self.upkeep.keep_names(driver, self.events),
        )

    def _wishes(self, node: Node) -> list[Setting]:
        """What must be written to the node so that it reports as the house wants."""
        if not self._report_presets:
            return []
        return settings(
            product(node),
            configuration(node),
            signed_power=self._signed_power,
            power_interval=self._choices.power_intervals.get(self._picture.device_of(node)),
        )

    def _on_event(self, event: Event) -> None:
        driver: Driver = self._picture.driver()
        if event.get("source") == "controller":
            self._picture.on_controller_event(event)
            self._steps.on_controller_event(event)
        elif event.get("source") == "node":
            node = driver.controller.nodes.get(int(event["nodeId"]))
            if node is not None:
                if self._picture.on_node_event(node, event):
                    self._care.stick_heard()
                self._steps.on_node_event(node, event)
        self._end_if_stale()

    def _on_unreadable(self, problem: Malformed) -> None:
        """Count the event; end the session for a fresh picture, unless that was done lately."""
        self._unreadable += 1
        self._unreadable_sample = problem.sample
        log.warning("%s: %s", problem, problem.sample)
        now_ms, last_ms = self._clock.boottime_ms(), self._fresh_picture_ms
        if last_ms is None or now_ms - last_ms > FRESH_PICTURE_EVERY / MILLISECOND:
            self._stale = problem
        self._end_if_stale()

    def _end_if_stale(self) -> None:
        """Not while a person adds or removes a device: its steps would be lost in between."""
        if self._stale is not None and not self.network.is_busy():
            self._fresh_picture_ms = self._clock.boottime_ms()
            problem, self._stale = self._stale, None
            raise problem
