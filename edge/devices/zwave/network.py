"""Adding, replacing and removing Z-Wave devices, as live steps for a person.

One such act at a time: the stick can only do one. An act that nobody finishes is ended, so that a
browser that was closed leaves no open door. The stick's memory is copied before each.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from zwave_js_server.const import (
    ExclusionStrategy,
    InclusionState,
    InclusionStrategy,
    QRCodeVersion,
    SecurityClass,
)
from zwave_js_server.model.controller.inclusion_and_provisioning import (
    ProvisioningEntry,
    QRProvisioningInformation,
)
from zwave_js_server.model.driver import Driver
from zwave_js_server.model.utils import async_parse_qr_code_string

from edge.clock import MILLISECOND, Clock
from edge.devices.zwave import codes, events
from edge.devices.zwave.backup import Backups
from edge.devices.zwave.door import NodeSilent, answered
from edge.devices.zwave.events import EventLog
from edge.devices.zwave.nodes import label, printable
from edge.devices.zwave.picture import Picture
from edge.devices.zwave.steps import Steps
from edge.errors import EdgeError, Refused

# Long enough to walk to the fuse box; the driver itself would listen for ever.
OPEN_FOR = timedelta(minutes=4)
LOOK_EVERY = timedelta(seconds=2)
COMMAND_WITHIN_S = 30.0
FAILED_NODE_WITHIN_S = 90.0  # the driver first makes sure that the node is gone
RESTORE_WITHIN_S = 900.0  # reads the memory, writes it, and restarts the driver
# After the last piece the driver restarts, and thereby removes the very task that wrote: its answer
# is this error although all is well (zwave-js 15.29).
_RESTARTED = "ZW0111"
_WRITTEN = 99.0  # percent; the last progress is told before the last piece is written

_S2_CLASSES = [
    SecurityClass.S2_UNAUTHENTICATED,
    SecurityClass.S2_AUTHENTICATED,
    SecurityClass.S2_ACCESS_CONTROL,
]


@dataclass(frozen=True, slots=True)
class Expected:
    """A SmartStart device that joins by itself once it is powered, or did."""

    dsk: str
    model: str | None
    device: str | None


class Network:
    """Everything that changes which devices belong to the network."""

    def __init__(
        self,
        picture: Picture,
        clock: Clock,
        backups: Backups,
        log: EventLog,
        steps: Steps,
        radio: asyncio.Lock,
    ) -> None:
        self._picture = picture
        self._clock = clock
        self._backups = backups
        self._log = log
        self._steps = steps
        self._radio = radio
        self._is_starting = False
        self._opened_ms: int | None = None

    # --- what a person does -----------------------------------------------------------------------

    def activity(self) -> str:
        """What the stick does now: idle, including, excluding or busy. Raises Unreachable."""
        return _ACTIVITIES[self._picture.driver().controller.inclusion_state]

    def is_busy(self) -> bool:
        """Whether a device is being added or removed; nothing else should use the radio then."""
        try:
            return self._is_starting or self.activity() != "idle"
        except EdgeError:
            return False

    async def add(self, *, secure: bool = True) -> None:
        """Let a device join: press its button now. With `secure` S2 where the device can.

        Raises Unreachable, or Refused if the stick is busy.
        """
        strategy = InclusionStrategy.DEFAULT if secure else InclusionStrategy.INSECURE
        async with self._alone() as driver, answered("letting a device join", COMMAND_WITHIN_S):
            self._steps.secure = secure
            started = await driver.controller.async_begin_inclusion(strategy)  # type: ignore[arg-type]
            self._opened(started)

    def code_fault(self, typed: str) -> str | None:
        """What is wrong with a typed code, in a word; None where nothing is (codes.py)."""
        return codes.fault(typed)

    async def add_by_code(self, typed: str) -> Expected | None:
        """Let the device with this code join: the QR code's text, or the whole DSK of its label.

        A SmartStart device joins by itself once powered; any other (None is returned) joins now,
        without asking for a PIN. Raises Refused where the code is none.
        """
        code = codes.read(typed)
        driver = self._picture.driver()
        if isinstance(code, codes.Dsk):
            entry = ProvisioningEntry(dsk=code.text, security_classes=_S2_CLASSES)
            return await self._provision(driver, entry, None)
        async with answered("reading the code", COMMAND_WITHIN_S):
            told = await async_parse_qr_code_string(driver.client, code.digits)
        if told.version == QRCodeVersion.SMART_START:
            return await self._provision(driver, told, await _model_told(driver, told))
        async with self._alone() as driver, answered("letting a device join", COMMAND_WITHIN_S):
            started = await driver.controller.async_begin_inclusion(
                InclusionStrategy.SECURITY_S2, provisioning=told
            )
            self._opened(started)
        return None

    async def expected(self) -> list[Expected]:
        """The SmartStart devices that may join by themselves."""
        driver = self._picture.driver()
        async with answered("asking for expected devices", COMMAND_WITHIN_S):
            entries = await driver.controller.async_get_provisioning_entries()
        return [
            Expected(entry.dsk, None, self._device_with(driver, entry.additional_properties or {}))
            for entry in entries
        ]

    async def forget_expected(self, dsk: str) -> None:
        """Do not let that SmartStart device join any more."""
        async with answered("forgetting the code", COMMAND_WITHIN_S):
            await self._picture.driver().controller.async_unprovision_smart_start_node(dsk)

    async def enter_pin(self, typed: str) -> None:
        """Answer PinWanted. Raises Refused where it is no PIN, or none is wanted any more."""
        pin = codes.read_pin(typed)
        if self._steps.pin_wanted is None:
            raise Refused("no device waits for a PIN; it has only two minutes. Add it again")
        async with answered("sending the PIN", COMMAND_WITHIN_S):
            await self._picture.driver().controller.async_validate_dsk_and_enter_pin(pin)
        self._steps.pin_wanted = None

    async def replace(self, device: str, *, secure: bool | None = None) -> None:
        """Let a new device take the place of one that is dead: same channels, same history.

        `secure` None: as the old one was. The driver cannot see what the new one is capable of
        before it has joined. Raises Refused where the old one still answers.
        """
        node = self._picture.node(device)
        if secure is None:
            secure = node.highest_security_class in _S2_CLASSES
        strategy = InclusionStrategy.SECURITY_S2 if secure else InclusionStrategy.INSECURE
        what = f"replacing {label(node)}"
        self._steps.replacing = device
        try:
            async with self._alone() as driver, answered(what, FAILED_NODE_WITHIN_S):
                self._steps.secure = secure
                started = await driver.controller.async_replace_failed_node(
                    node,
                    strategy,  # type: ignore[arg-type]
                )
                self._opened(started)
        except EdgeError:
            self._steps.replacing = None
            raise

    async def remove(self) -> None:
        """Let a device leave: press its button now."""
        async with self._alone() as driver, answered("letting a device leave", COMMAND_WITHIN_S):
            started = await driver.controller.async_begin_exclusion(
                ExclusionStrategy.DISABLE_PROVISIONING_ENTRY  # else SmartStart brings it back
            )
            self._opened(started)

    async def remove_failed(self, device: str) -> None:
        """Forget a device that is dead or gone. Raises Refused where it still answers."""
        node = self._picture.node(device)
        what = f"removing {label(node)}"
        async with self._alone() as driver, answered(what, FAILED_NODE_WITHIN_S):
            await driver.controller.async_remove_failed_node(node)

    async def write_memory(self, file: str) -> None:
        """Let the stick be the one that `file` is a copy of: that one's network goes on with it.

        The driver converts between generations of sticks, writes, and starts anew; what the box
        knew of the network is fetched anew too. Raises Refused where the copy does not fit.
        """
        memory = await asyncio.to_thread(self._backups.read, file)
        async with self._alone() as driver:
            self._log.add(events.RestoreStarted(file))
            began = self._log.last
            try:
                async with answered("writing the stick's memory", RESTORE_WITHIN_S):
                    await driver.controller.async_restore_nvm(memory)
            except (Refused, NodeSilent) as problem:
                if _RESTARTED not in str(problem) or not self._is_written_since(began):
                    raise
            self._log.add(events.Restored(file))
            await driver.client.disconnect()

    def _is_written_since(self, number: int) -> bool:
        said = [n.event for n in self._log.after(number)]
        return any(isinstance(e, events.RestoreProgress) and e.percent >= _WRITTEN for e in said)

    async def stop(self) -> None:
        """End adding or removing."""
        controller = self._picture.driver().controller
        if controller.inclusion_state == InclusionState.EXCLUDING:
            async with answered("ending the removal", COMMAND_WITHIN_S):
                await controller.async_stop_exclusion()
        else:
            async with answered("ending the adding", COMMAND_WITHIN_S):
                if self._steps.pin_wanted is not None:
                    # No PIN is the word for "no": the driver's own cancel is not heard while it
                    # waits for one (zwave-js 15.29). The device is in then, but has no key.
                    await controller.async_validate_dsk_and_enter_pin("")
                    self._steps.pin_wanted = None
                else:
                    await controller.async_stop_inclusion()
        self._opened_ms = None

    # --- around one connection --------------------------------------------------------------------

    async def care(self, driver: Driver) -> None:
        """Answer the driver's questions, and close what was left open. Runs with the session."""
        self._steps.pin_wanted = None
        while True:
            try:
                async with asyncio.timeout(LOOK_EVERY.total_seconds()):
                    grant = await self._steps.grants.get()
            except TimeoutError:
                await self._close_if_late(driver)
                continue
            try:
                async with answered("granting security", COMMAND_WITHIN_S):
                    await driver.controller.async_grant_security_classes(grant)
            except EdgeError as problem:
                self._log.add(events.SecurityGranted(()))
                if not isinstance(problem, Refused):
                    raise
            else:
                classes = tuple(key.name.lower() for key in grant.security_classes)
                self._log.add(events.SecurityGranted(classes))

    async def _close_if_late(self, driver: Driver) -> None:
        if self._steps.ended:
            self._opened_ms = None
        if self._opened_ms is None:
            return
        is_open = driver.controller.inclusion_state in (
            InclusionState.INCLUDING,
            InclusionState.EXCLUDING,
        )
        late_ms = self._clock.boottime_ms() - self._opened_ms
        if is_open and late_ms > OPEN_FOR / MILLISECOND:
            await self.stop()

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[Driver]:
        """The driver, idle, with nothing on the air, the stick's memory copied."""
        driver = self._picture.driver()
        if self.is_busy():
            raise Refused("the stick is adding or removing a device already; stop that first")
        self._is_starting = True
        try:
            async with self._radio:
                await self._backups.take(driver, self._clock.wall_now())
                yield driver
        finally:
            self._is_starting = False

    def _opened(self, started: bool) -> None:
        if not started:
            raise Refused("the stick is busy; wait a minute and try again")
        self._steps.ended = False
        self._opened_ms = self._clock.boottime_ms()

    async def _provision(
        self, driver: Driver, entry: ProvisioningEntry | QRProvisioningInformation, told: str | None
    ) -> Expected:
        async with answered("noting the code", COMMAND_WITHIN_S):
            await driver.controller.async_provision_smart_start_node(entry)
        self._log.add(events.CodeAccepted(entry.dsk, told))
        return Expected(entry.dsk, told, None)

    def _device_with(self, driver: Driver, properties: dict[str, Any]) -> str | None:
        node = driver.controller.nodes.get(properties.get("nodeId", 0))
        return self._picture.device_of(node) if node else None


async def _model_told(driver: Driver, told: QRProvisioningInformation) -> str | None:
    """The model that a QR code names, if the driver's device database has it."""
    try:
        async with answered("looking up the model", COMMAND_WITHIN_S):
            config = await driver.config_manager.lookup_device(
                told.manufacturer_id, told.product_type, told.product_id
            )
    except Refused:
        return None
    if config is None:
        return None
    return printable(" ".join(filter(None, (config.manufacturer, config.label))))


_ACTIVITIES = {
    InclusionState.IDLE: "idle",
    InclusionState.SMART_START: "idle",  # it listens for known codes only
    InclusionState.INCLUDING: "including",
    InclusionState.EXCLUDING: "excluding",
    InclusionState.BUSY: "busy",
}
