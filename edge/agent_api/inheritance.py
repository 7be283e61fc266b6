"""Devices that left the Z-Wave network, and handing what they fed to one that takes their place.

A device that was included anew by hand comes under another number: its person says whose place it
takes. From then on it is that device, and nothing of its own short life is left.
"""

from typing import Protocol

from edge.agent_api.refusals import NotAllowed
from edge.contract.setup import GoneDevice
from edge.families import Families
from edge.intake import ReadingIntake
from edge.uplink.account import Account

FAMILY = "zwave"


class _Upkeep(Protocol):
    async def adopt(self, device: str, old_device: str, name: str) -> None: ...


class Inheritance:
    """What is left of devices that are gone, by the channels they had."""

    def __init__(self, families: Families, intake: ReadingIntake, account: Account) -> None:
        self._families = families
        self._intake = intake
        self._account = account

    def gone(self) -> list[GoneDevice]:
        """Devices whose channels are known and that no network has; those that feed a sensor
        first. Meaningful only while the family is connected."""
        present = {device.key for device in self._families.devices()}
        names = {
            channel.device_key: channel.name
            for channel in self._intake.channels().values()
            if channel.family == FAMILY and channel.device_key not in present
        }
        feeding = {
            term.channel_key.rsplit("/", 3)[0]
            for sensor in self._account.sensors()
            for term in sensor.terms
        }
        found = [GoneDevice(key=key, name=name or key) for key, name in names.items()]
        return sorted(found, key=lambda each: (each.key not in feeding, each.name, each.key))

    async def hand_over(self, upkeep: _Upkeep, device_key: str, old_key: str) -> None:
        """Let a device go on as one that is gone. Raises NotAllowed, and what the family does."""
        names = {each.key: each.name for each in self.gone()}
        if old_key not in names:
            raise NotAllowed("not_found", 404)
        device, old = (key.removeprefix(f"{FAMILY}/") for key in (device_key, old_key))
        await upkeep.adopt(device, old, names[old_key])
        await self._account.move_feeds(device_key, old_key)
        self._intake.forget(device_key)
