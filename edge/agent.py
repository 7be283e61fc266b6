"""The composition root: builds every part, opens the one TaskGroup, stops it in order.

Nothing else starts tasks that outlive a call. A part that fails is restarted by keep_running();
SIGTERM ends all of them and commits what was read.
"""

import asyncio
import logging
import secrets
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from edge import __version__
from edge.agent_api import web
from edge.agent_api.control_room import ControlRoom
from edge.agent_api.door import Application, answer, asked, serve
from edge.agent_api.household_room import restore_zone
from edge.agent_api.losses import Losses, totals
from edge.agent_api.page_door import PageDoor, Parts
from edge.agent_api.reset import forget_password_if_wished, wipe_if_wished
from edge.agent_api.status import StatusDesk
from edge.clock import SystemClock
from edge.config import Config
from edge.contract import Done, PairAnswer, PairRequest
from edge.contract.setup import FamilyRequest
from edge.control.carry_out import CarryOut
from edge.control.ledger import Ledger
from edge.control.steering import Steering
from edge.credentials import Credentials, machine_key
from edge.devices import load
from edge.errors import ConfigFault
from edge.families import Families
from edge.health import Health
from edge.intake import ReadingIntake
from edge.model import DeviceState
from edge.plausibility import Limits
from edge.preset import PresetAccount, take_preset
from edge.signs import Signs
from edge.stick_watch import StickWatch
from edge.store.buffer import Buffer
from edge.store.commands import CommandTable
from edge.store.database import Database
from edge.store.outbox import Outbox
from edge.store.prepare import prepare
from edge.store.settings import Events, Settings, open_state
from edge.supervise import Job, give_back, keep_running, prove_alive, tell_systemd
from edge.uplink.account import Account
from edge.uplink.box_health import BoxHealth, Vitals
from edge.uplink.due import DueSlots
from edge.uplink.flexibility import Followed
from edge.uplink.pacing import Pacing
from edge.uplink.pairing import SiteWish
from edge.uplink.schedules import Schedules
from edge.uplink.shipping import Shipping

log = logging.getLogger(__name__)


def main(config: Config) -> int:
    """Run the agent until it is told to stop; the exit code."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(name)s: %(message)s")
    prepare(config.state_dir)
    asyncio.run(_until_stopped(config))
    return 0


async def _until_stopped(config: Config) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for stop in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(stop, stopped.set)
    agent = await Agent.open(config, stopped.set)
    try:
        await agent.run(stopped)
    finally:
        await agent.close()
    log.info("stopped")


class Agent:
    """Every part of the box, and how they are joined."""

    def __init__(
        self,
        config: Config,
        clock: SystemClock,
        buffer: Buffer,
        outbox: Outbox,
        state: Database,
        settings: Settings,
        commands: CommandTable,
        identity: str,
        end: Callable[[], None],
    ) -> None:
        self.clock = clock
        self.health = Health(clock)
        self.buffer = buffer
        self.outbox = outbox
        self.state = state
        self.settings = settings
        self.events = Events(state, clock)
        self.config = config
        credentials = Credentials(config.state_dir / "credentials.json", machine_key())
        house = config.house
        limits = Limits(main_fuse_a=house.fuse_a, phases=house.phases, voltage_v=house.volts)
        self.intake = ReadingIntake(buffer, settings, clock, limits)
        self.families = Families(
            settings,
            credentials,
            self.intake,
            clock,
            self.health,
            config.families_always_on(),
            buffer.oldest,
        )
        self.stick_watch = StickWatch(clock, self._has_zwave, config.zwave.stick)
        take_preset(config.state_dir, credentials)
        self.account = Account(
            identity,
            settings,
            credentials,
            clock,
            self.intake.channels,
            self.families.devices,
            outbox.forget_all,
            allow_loopback=config.flexmeasures.allow_loopback,
        )
        self.preset = PresetAccount(self.account, credentials, clock, lambda: config.name)
        self.account.on_mapped = self.families.history_wanted
        self.due = DueSlots(
            buffer,
            outbox,
            self.account.sensors,
            self.intake.channels,
            clock,
            commit_every=config.buffer.commit_every,
            limits=limits,
        )
        pacing = Pacing(
            identity,
            upload_every=timedelta(seconds=config.flexmeasures.upload_every_s),
            backfill_spread_max=timedelta(seconds=config.flexmeasures.backfill_spread_s),
        )
        self.shipping = Shipping(
            outbox,
            self.account.server,
            self.account.sensors,
            clock,
            pacing,
            beat=self._box_health(identity, pacing).beat
            if config.flexmeasures.box_health
            else None,
        )
        self.carry_out = CarryOut(Ledger(commands), self.families.switches, clock, self.health)
        self.steering = Steering(
            settings, self.carry_out, self.families.devices, clock, self.health, self.events.add
        )
        self.schedules = Schedules(
            self.account,
            settings,
            self._followed,
            self.steering.take_plan,
            clock,
            pacing,
            poll_every=timedelta(seconds=config.flexmeasures.poll_every_s),
        )
        control = ControlRoom(
            self.steering,
            self.carry_out,
            self.schedules,
            self.families,
            self.intake,
            self.account,
            outbox,
            clock,
        )
        self._control_routes = control.routes
        self.desk = StatusDesk(
            config,
            clock,
            self.health,
            buffer,
            outbox,
            state,
            self.intake,
            self.families,
            self.account,
            self.shipping,
            self.stick_watch,
            control.status,
        )
        self.page = PageDoor(
            Parts(
                config,
                clock,
                settings,
                self.events,
                credentials,
                self.health,
                self.intake,
                self.families,
                self.stick_watch,
                self.account,
                outbox,
                self.desk,
                control,
                self.steering.anything_away,
                self.steering.move_to,
                end,
            )
        )
        self.losses = Losses(totals(buffer, outbox), settings, clock, self.events.add)
        self.signs = Signs(
            config.runtime_dir,
            clock,
            self.health,
            self.page.access.is_claimed,
            self.account.time_source,
            self.steering.anything_away,
            lambda: bool(buffer.problem or state.problem),
        )

    @classmethod
    async def open(cls, config: Config, end: Callable[[], None]) -> "Agent":
        """Open both files and build every part; `end` ends the agent from inside.

        Raises ConfigFault or StoreBroken.
        """
        for folder in (config.state_dir, config.runtime_dir):
            _make_folder(folder)
        wipe_if_wished(config.state_dir)
        clock = SystemClock(config.clock.floor, trust_always=config.clock.trust_always)
        state = await open_state(config.state_dir / "state.db")
        settings = await Settings.open(state)
        await forget_password_if_wished(config.state_dir, settings)
        buffer = await Buffer.open(
            config.state_dir / "buffer.db",
            clock,
            commit_every=config.buffer.commit_every,
            bytes_max=config.buffer.bytes_max,
        )
        agent = cls(
            config,
            clock,
            buffer,
            await Outbox.open(buffer),
            state,
            settings,
            await CommandTable.open(state),
            await _identity(settings),
            end,
        )
        await restore_zone(settings)
        await agent.intake.restore()
        await agent.account.restore()
        await agent.steering.restore()
        await agent.schedules.restore()
        return agent

    async def run(self, stopped: asyncio.Event) -> None:
        """Run every part until `stopped` is set."""
        own = Application(self._own_routes())
        doors = [
            await serve(self.config.own_socket, own, mode=0o600),
            await serve(self.config.page_socket, self.page.application(), mode=0o660),
        ]
        try:
            async with asyncio.TaskGroup() as group:
                parts = [group.create_task(self._kept(*part)) for part in self._parts().items()]
                parts += [group.create_task(job()) for job in self.families.jobs().values()]
                parts += [group.create_task(job(self.clock)) for job in (prove_alive, give_back)]
                tell_systemd("READY=1")
                await stopped.wait()
                tell_systemd("STOPPING=1")
                for part in parts:
                    part.cancel()
        finally:
            for door in doors:
                await door.close()

    async def close(self) -> None:
        """Commit what was read and leave both files."""
        await self.intake.save()
        await self.carry_out.write_now()
        await self.buffer.close()
        await self.state.close()

    def _parts(self) -> dict[str, Job]:
        return {
            "buffer": self.buffer.run,
            "intake": self.intake.run,
            "account": self.account.run,
            "preset": self.preset.run,
            "signs": self.signs.run,
            "slots": self.due.run,
            "shipping": self.shipping.run,
            "control": self.steering.run,
            "schedules": self.schedules.run,
            "network": self.page.network.run,
            "backup": self.page.backups.run,
            "losses": self.losses.run,
            **({"stick": self.stick_watch.run} if self.config.zwave.enabled else {}),
        }

    def _has_zwave(self) -> bool:
        family = self.families.running("zwave")
        return family is not None and bool(family.status().connected)  # type: ignore[attr-defined]

    def _followed(self) -> dict[str, Followed]:
        names = {device.key: device.name for device in self.families.devices()}
        return {
            key: Followed(key, names.get(key) or key, device.nominal_power_w)
            for key, device in self.steering.devices().items()
        }

    def _box_health(self, identity: str, pacing: Pacing) -> BoxHealth:
        async def vitals() -> Vitals:
            oldest = (await self.outbox.counts()).oldest_waiting
            waits = timedelta(0) if oldest is None else self.clock.wall_now() - oldest
            states = [device.state for device in self.families.devices()]
            return Vitals(waits, states.count(DeviceState.DEAD), self.intake.set_aside_total())

        return BoxHealth(
            identity,
            self.config.name,
            {"version": __version__, "release": self.config.release},
            self.account,
            vitals,
            self.settings,
            pacing,
            self.health,
            self.clock,
        )

    async def _kept(self, name: str, job: Job) -> None:
        health = self.health
        await keep_running(name, job, self.clock, health.report, unreadable=health.keep_sample)

    def _own_routes(self) -> list[web.Route]:
        return [
            web.get("/status", self._status),
            web.post("/flexmeasures/pair", self._pair),
            web.post("/flexmeasures/map", self._map),
            *self._control_routes(),
            web.put("/families/{name}", self._use),
        ]

    async def _status(self, _: web.Request) -> web.Response:
        return answer(await self.desk.status())

    async def _pair(self, request: web.Request) -> web.Response:
        wanted = await asked(request, PairRequest)
        log_in = self.account.log_in(
            wanted.url, wanted.email, wanted.password, allow_private=wanted.allow_private
        )
        made = await self.account.pair(log_in, SiteWish(wanted.site_asset_id, wanted.site))
        await self.events.add("paired", f"paired with {wanted.url} as {wanted.email}")
        return answer(
            PairAnswer(
                server_version=made.version,
                site_asset_id=made.site.asset_id,
                sensors=len(self.account.sensors()),
            )
        )

    async def _use(self, request: web.Request) -> web.Response:
        """Use a family with these settings; unlike on the page, with any setting it knows."""
        name, wanted = request.values["name"], await asked(request, FamilyRequest)
        load(name)  # raises ConfigFault for a name that is none
        secrets = {field: secret.get_secret_value() for field, secret in wanted.secrets.items()}
        await self.families.configure(name, {**wanted.values, **wanted.chosen}, secrets)
        return answer(Done(text=f"{name} is used"))

    async def _map(self, _: web.Request) -> web.Response:
        sensors = await self.account.map_by_default()
        return answer(Done(text=f"{len(sensors)} sensors are fed"))


async def _identity(settings: Settings) -> str:
    """The box's lasting name for FlexMeasures and for its place in time: random, made once."""
    known = await settings.get("identity")
    if not isinstance(known, str):
        known = secrets.token_hex(8)
        await settings.put("identity", known)
    return known


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as problem:
        raise ConfigFault(f"{folder} cannot be made: {problem.strerror}") from problem
