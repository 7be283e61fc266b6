"""The page's socket: whoever passes the entrance may use the rooms behind it."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from edge.agent_api import web
from edge.agent_api.access import Access
from edge.agent_api.backup_desk import BackupDesk
from edge.agent_api.care_room import CareRoom
from edge.agent_api.certificate import CertificateRoom
from edge.agent_api.control_room import ControlRoom
from edge.agent_api.door import Application
from edge.agent_api.entrance import Entrance, session_needed
from edge.agent_api.flexmeasures_room import FlexMeasuresRoom
from edge.agent_api.hosts import own_hosts
from edge.agent_api.household_room import HouseholdRoom
from edge.agent_api.inheritance import Inheritance
from edge.agent_api.live_room import LiveRoom
from edge.agent_api.log_tail import LogTail
from edge.agent_api.map_room import MapRoom
from edge.agent_api.meters_room import MetersRoom
from edge.agent_api.network_room import NetworkRoom
from edge.agent_api.reset import CLAIMED
from edge.agent_api.status import StatusDesk
from edge.agent_api.update_room import Places, UpdateRoom
from edge.agent_api.wifi_room import WifiRoom
from edge.clock import Clock
from edge.config import Config
from edge.contract.attention import attention
from edge.contract.page import Front, Standing
from edge.credentials import Credentials
from edge.families import Families
from edge.health import Health
from edge.intake import ReadingIntake
from edge.privileged import Privileged
from edge.stick_watch import StickWatch
from edge.store.outbox import Outbox
from edge.store.settings import Events, Settings
from edge.uplink.account import Account

CLAIM_CODE = "claim.code"  # kept among the secrets where the card was prepared with one


@dataclass(frozen=True, slots=True)
class Parts:
    """What the page may see and touch of the agent."""

    config: Config
    clock: Clock
    settings: Settings
    events: Events
    credentials: Credentials
    health: Health
    intake: ReadingIntake
    families: Families
    stick_watch: StickWatch
    account: Account
    outbox: Outbox
    desk: StatusDesk
    control: ControlRoom
    anything_away: Callable[[], bool]
    move_devices: Callable[[str], Awaitable[None]]
    end: Callable[[], None]


class PageDoor:
    """Access, entrance and rooms, joined."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.access = Access(
            parts.settings,
            parts.clock,
            self._note,
            marker=parts.config.state_dir / CLAIMED,
            window=timedelta(seconds=parts.config.claim_window_s),
            code=parts.credentials.get(CLAIM_CODE),
        )
        self.network = NetworkRoom(
            parts.families,
            Inheritance(parts.families, parts.intake, parts.account),
            parts.stick_watch,
            parts.clock,
            self._note,
        )
        self._privileged = Privileged()
        self.backups = BackupDesk(
            parts.config.state_dir,
            parts.config.release,
            parts.settings,
            parts.credentials,
            parts.clock,
            self._privileged,
        )
        self._tail = LogTail()
        logging.getLogger().addHandler(self._tail)
        self._map = MapRoom(
            parts.account, parts.intake, parts.families.devices, parts.settings, parts.clock
        )

    def application(self) -> Application:
        """What the page's socket serves."""
        entrance = Entrance(self.access, self._front, self._standing)
        return page_application(self.access, entrance, [room.routes() for room in self._rooms()])

    def _rooms(self) -> "list[_Room]":
        of = self._parts
        return [
            FlexMeasuresRoom(of.account, of.desk.flexmeasures, of.clock, self._note),
            MetersRoom(
                of.families,
                of.credentials,
                of.intake,
                of.health,
                of.clock,
                self.network,
                self._note,
            ),
            self.network,
            CertificateRoom(
                of.settings, of.credentials, of.clock, lambda: own_hosts(of.config.name)
            ),
            self._map,
            of.control,
            LiveRoom(self._map, of.account, of.intake, of.outbox, of.desk, of.clock),
            CareRoom(
                of.config.state_dir,
                of.desk,
                of.settings,
                of.events,
                self.access,
                self.backups,
                self._privileged,
                self._tail,
                self._note,
                self._take_in,
                of.end,
            ),
            UpdateRoom(
                Places(of.config.state_dir / "update"),
                of.config.release,
                of.config.supported_until,
                self._privileged,
                of.anything_away,
                of.clock,
                self._note,
            ),
            WifiRoom(self._privileged, self._note),
            HouseholdRoom(of.settings, of.move_devices),
        ]

    def _front(self) -> Front:
        config = self._parts.config
        return Front(
            name=config.name,
            release=config.release,
            supported_until=config.supported_until,
            hosts=own_hosts(config.name),
            claimed=False,
            claim_lost=False,
            claim_open_s=0,
            claim_code_needed=False,
            clock_trusted=self._parts.clock.is_trusted(),
        )

    async def _standing(self) -> Standing:
        of = self._parts
        status = await of.desk.status()
        return Standing(
            paired=of.account.paired is not None,
            meters=len(of.families.devices()),
            mapped=len(of.account.sensors()),
            live=of.account.paired is not None and status.flexmeasures.slots_accepted > 0,
            attention=attention(status),
        )

    async def _take_in(self) -> None:
        """Documents came from outside: the register is the one that is written when we end."""
        await self._parts.intake.restore()

    async def _note(self, kind: str, text: str, detail: dict[str, str]) -> None:
        await self._parts.events.add(kind, text, dict(detail))


class _Room(Protocol):
    def routes(self) -> list[web.Route]: ...


def page_application(
    access: Access, entrance: Entrance, rooms: Iterable[Sequence[web.Route]] = ()
) -> Application:
    """Every route but those open to all needs a session; so does every path that is no route."""
    routes = [*entrance.routes(), *(route for room in rooms for route in room)]
    return Application(routes, session_needed(access))
