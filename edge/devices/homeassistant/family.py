"""Home Assistant as a family: live values, the box's own gaps from its statistics, switching.

One session = one connection. Home Assistant sends a value only when it changes, so the box holds
it: every interval it asks when the value was last reported and says it again while that is recent.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from edge.clock import Clock
from edge.devices.homeassistant.connection import Connection, Message, NotFound, address
from edge.devices.homeassistant.entities import (
    FAMILY,
    NO_VALUE,
    Entity,
    channel_of,
    dashboard,
    entities,
    is_meter,
    is_on,
    paired,
    switches,
    value_of,
)
from edge.devices.homeassistant.gaps import Gaps
from edge.errors import Malformed, Refused, Unreachable
from edge.family import Answers, Choice, Field, Found, GetSecret, Notebook
from edge.model import Channel, Device, DeviceState, Direction, Intake, Reading

BY_NAME = "Home Assistant"  # where it knows no model
TICK = timedelta(seconds=5)
CHANGES_EVERY = timedelta(seconds=5)  # a P1 meter behind it changes each second; the card need not
HOLD_MAX = timedelta(minutes=65)  # Zigbee's usual longest report interval is an hour
START_POLL = timedelta(seconds=2)
START_WITHIN = timedelta(minutes=10)
STOCK_EVERY = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Settings:
    base_url: str
    entities: tuple[tuple[str, Direction], ...]
    switches: tuple[str, ...]
    history: bool
    token: str = field(repr=False)

    @classmethod
    def read(
        cls, fields: tuple[Field, ...], config: Mapping[str, Any], secret: GetSecret
    ) -> "Settings":
        answers = Answers(FAMILY, fields, config, secret)
        given, token = answers.text("address"), answers.secret("token")
        history = answers.text("history") == "all"
        chosen = []
        for text in answers.texts("entities"):
            uid, _, direction = text.rpartition(":")
            if not uid or direction not in tuple(Direction):
                answers.faults.append(f"{FAMILY}: entities: {text!r} is not ID:import or ID:export")
            else:
                chosen.append((uid, Direction(direction)))
        switched = answers.texts("switches")
        answers.settle()
        return cls(address(given), tuple(chosen), switched, history, token)


@dataclass
class _Meter:
    """One chosen meter and what is known of its value."""

    entity: Entity
    channel: Channel
    value: float | None = None
    said_at_ms: int | None = None
    untold: bool = False  # a change that came too soon after the last one


class HomeAssistant:
    """Meter and Switch over one Home Assistant."""

    family = FAMILY
    confirm_within_s = 10.0  # for a switch to say what it became; Z-Wave and Zigbee take seconds

    def __init__(
        self, settings: Settings, intake: Intake, clock: Clock, notebook: Notebook
    ) -> None:
        self._settings = settings
        self._intake = intake
        self._clock = clock
        self._connection: Connection | None = None
        self._meters: dict[str, _Meter] = {}  # by entity id, as it is called now
        self._switches: dict[str, Entity] = {}  # by Device.device
        self._states: dict[str, str] = {}  # of the switches, by entity id
        self._gone: tuple[str, ...] = ()
        self._changed = asyncio.Event()
        self._stock_is_old = False
        self._gaps = Gaps(intake, clock, notebook, wants_history=settings.history)

    @staticmethod
    async def check(settings: Settings) -> Found:
        """What can be read and switched, the energy dashboard's meters preselected."""
        async with Connection.opened(settings.base_url, settings.token) as connection:
            if not await _is_running(connection):
                raise Unreachable("Home Assistant is still starting: try again in a minute")
            known = await _stock(connection)
            shown = await _dashboard(connection)
        channels, choices, preselected = [], [], set()
        for entity in filter(is_meter, known):
            direction = shown.get(entity.entity_id, Direction.IMPORT)
            channel = channel_of(entity, direction)
            channels.append(channel)
            label = f"{entity.name} ({entity.entity_id})"
            wanted = entity.entity_id in shown
            choices.append(Choice("entities", f"{entity.uid}:{direction}", label, wanted))
            preselected |= {channel.key} if wanted else set()
        found = switches(known)
        choices += [
            Choice("switches", entity.uid, f"{entity.name} ({entity.entity_id})", False)
            for entity in found.values()
        ]
        devices = [_switch(device, entity, entity.state) for device, entity in found.items()]
        return Found(
            tuple(paired(channels).values()), tuple(devices), tuple(choices), frozenset(preselected)
        )

    async def run(self) -> None:
        """Follow the chosen entities until the connection ends."""
        async with Connection.opened(self._settings.base_url, self._settings.token) as connection:
            await self._until_running(connection)
            self._connection = connection
            try:
                await self._follow(connection)
            finally:
                self._connection = None
                self._states.clear()
                await self._gaps.leave()

    def devices(self) -> list[Device]:
        here = self._connection is not None
        found: dict[str, Device] = {}
        for meter in self._meters.values():
            entity = meter.entity
            state = DeviceState.UNKNOWN
            if here:
                state = DeviceState.DEAD if meter.value is None else DeviceState.ALIVE
            before = found.get(entity.device)
            if before is None or before.state is DeviceState.DEAD:
                device = Device(
                    FAMILY,
                    entity.device,
                    entity.device_name,
                    entity.model or BY_NAME,
                    state,
                    self._heard_at(meter),
                )
                device.details["history_percent"] = round(self._gaps.done * 100)
                found[entity.device] = device
        for device_id, entity in self._switches.items():
            switch = _switch(device_id, entity, self._states.get(entity.entity_id))
            state = switch.state if here else DeviceState.UNKNOWN
            found[device_id] = replace(switch, state=state)
        for uid in self._gone:
            found.setdefault(
                uid, Device(FAMILY, uid, uid, "no longer in Home Assistant", DeviceState.DEAD)
            )
        return list(found.values())

    async def offer_history(self, held_since: Mapping[str, datetime | None]) -> None:
        await self._gaps.want_history(held_since)

    def _heard_at(self, meter: _Meter) -> datetime | None:
        if meter.said_at_ms is None:
            return None
        ago = timedelta(milliseconds=self._clock.boottime_ms() - meter.said_at_ms)
        return self._clock.wall_now() - ago

    # --- one session ------------------------------------------------------------------------------

    async def _until_running(self, connection: Connection) -> None:
        """Wait until every integration is loaded: before that states are missing or unknown."""
        started_ms = self._clock.boottime_ms()
        while not await _is_running(connection):
            waited = timedelta(milliseconds=self._clock.boottime_ms() - started_ms)
            if waited > START_WITHIN:
                raise Unreachable("Home Assistant does not finish starting")
            await self._clock.sleep(START_POLL)

    async def _follow(self, connection: Connection) -> None:
        await connection.subscribe(
            self._on_registry, "subscribe_events", event_type="entity_registry_updated"
        )
        subscription = await self._take_stock(connection)
        self._gaps.join()
        stock_due_ms = self._in_ms(STOCK_EVERY)
        while True:
            now_ms = self._clock.boottime_ms()
            if self._stock_is_old or now_ms >= stock_due_ms:
                if subscription is not None:
                    await connection.unsubscribe(subscription)
                subscription = await self._take_stock(connection)
                stock_due_ms = self._in_ms(STOCK_EVERY)
            await self._hold(connection)
            channels = {name: meter.channel for name, meter in self._meters.items()}
            await self._gaps.tick(connection, channels)
            await self._clock.sleep(TICK)

    async def _take_stock(self, connection: Connection) -> int | None:
        """Find the chosen entities under the names they have now, and subscribe to them."""
        self._stock_is_old = False
        known = await _stock(connection)
        by_uid = {entity.uid: entity for entity in known}
        wanted_switches = set(self._settings.switches)
        before = {meter.channel.key: meter for meter in self._meters.values()}
        self._meters = {}
        for uid, direction in self._settings.entities:
            entity = by_uid.get(uid)
            if entity and is_meter(entity):
                channel = channel_of(entity, direction)
                meter = before.get(channel.key) or _Meter(entity, channel)
                meter.entity, meter.channel = entity, channel
                self._meters[entity.entity_id] = meter
        self._switches = {
            device: entity
            for device, entity in switches(known).items()
            if entity.uid in wanted_switches
        }
        self._states = {e.entity_id: e.state for e in self._switches.values()}
        wanted = [uid for uid, _ in self._settings.entities] + list(self._settings.switches)
        self._gone = tuple(uid for uid in wanted if uid not in by_uid)
        channels = paired(meter.channel for meter in self._meters.values())
        for meter in self._meters.values():
            meter.channel = channels[meter.channel.key]
        self._intake.announce(channels.values())
        names = [*self._meters, *self._states]
        if not names:
            return None  # an empty list would subscribe to everything
        return await connection.subscribe(self._on_states, "subscribe_entities", entity_ids=names)

    def _on_registry(self, _: Message) -> None:
        self._stock_is_old = True

    def _on_states(self, event: Message) -> None:
        """Compressed states: "a" whole, "c" changes, "r" removed (websocket_api/messages.py)."""
        for name, told in (event.get("a") or {}).items():
            self._take(name, told)
        for name, change in (event.get("c") or {}).items():
            self._take(name, change.get("+") or {})
        for name in event.get("r") or ():
            self._take(name, {"s": "unavailable"})
            self._stock_is_old = True
        self._changed.set()

    def _take(self, name: str, told: Message) -> None:
        meter = self._meters.get(name)
        unit = (told.get("a") or {}).get("unit_of_measurement")
        if meter and isinstance(unit, str):
            meter.entity = replace(meter.entity, unit=unit)
        if "s" not in told:
            return
        if name in self._states:
            self._states[name] = str(told["s"])
        if meter:
            entity = meter.entity
            meter.value = value_of(told["s"], entity.unit, entity.device_class)
            if meter.value is not None:
                self._tell(meter)

    def _tell(self, meter: _Meter) -> None:
        """Offer the meter's value now, or at the next tick where one was offered just before."""
        now_ms = self._clock.boottime_ms()
        too_soon = CHANGES_EVERY // timedelta(milliseconds=1)
        if meter.said_at_ms is not None and now_ms - meter.said_at_ms < too_soon:
            meter.untold = True
            return
        assert meter.value is not None  # noqa: S101  # callers looked
        meter.untold, meter.said_at_ms = False, now_ms
        self._intake.offer(Reading(meter.channel.key, self._intake.now(), meter.value))

    async def _hold(self, connection: Connection) -> None:
        """Say again what did not change, as long as Home Assistant still hears of it."""
        now_ms = self._clock.boottime_ms()
        for name, meter in list(self._meters.items()):
            if meter.value is None:
                continue
            if meter.untold:
                self._tell(meter)
            silent = timedelta(milliseconds=now_ms - (meter.said_at_ms or 0))
            if silent < meter.channel.report_interval - TICK:
                continue
            told = await connection.state(name)
            if told is None or str(told.state).lower() in NO_VALUE:
                meter.value = None
            elif told.age is None or told.age <= HOLD_MAX:
                self._tell(meter)

    def _in_ms(self, wait: timedelta) -> int:
        return self._clock.boottime_ms() + wait // timedelta(milliseconds=1)

    # --- switching --------------------------------------------------------------------------------

    async def turn_off(self, device: str, hold: timedelta | None) -> None:
        if hold is not None:
            raise Refused("Home Assistant has no timer of its own: the box must switch it on again")
        await self._turn(device, on=False)

    async def turn_on(self, device: str) -> None:
        await self._turn(device, on=True)

    async def is_on(self, device: str) -> bool | None:
        entity, _ = self._switch(device)
        return is_on(self._states.get(entity.entity_id))

    async def _turn(self, device: str, *, on: bool) -> None:
        """Switch, and wait for the state to say so: success of the call alone proves nothing."""
        entity, connection = self._switch(device)
        service = "turn_on" if on else "turn_off"
        try:
            await connection.ask(
                "call_service",
                domain=entity.domain,
                service=service,
                target={"entity_id": entity.entity_id},
            )
            async with asyncio.timeout(self.confirm_within_s):
                while is_on(self._states.get(entity.entity_id)) is not on:
                    self._changed.clear()
                    await self._changed.wait()
        except NotFound as problem:
            raise Refused(f"{entity.name} cannot be switched: {problem}") from problem
        except TimeoutError as problem:
            raise Unreachable(
                f"Home Assistant took the command, but {entity.name} does not say that it is "
                f"{'on' if on else 'off'}"
            ) from problem

    def _switch(self, device: str) -> tuple[Entity, Connection]:
        if self._connection is None:
            raise Unreachable("there is no connection to Home Assistant")
        if device not in self._switches:
            raise Refused(f"Home Assistant has no switch {device} that the box may use")
        return self._switches[device], self._connection


def _switch(device: str, entity: Entity, state: str | None) -> Device:
    on = is_on(state)
    return Device(
        FAMILY,
        device,
        entity.name,
        entity.model or BY_NAME,
        DeviceState.DEAD if on is None else DeviceState.ALIVE,
        is_switch=True,
        is_on=on,
    )


async def _is_running(connection: Connection) -> bool:
    return bool((await connection.ask("get_config")).get("state") == "RUNNING")


async def _stock(connection: Connection) -> list[Entity]:
    """Everything there is, under its present names."""
    states = await connection.ask("get_states")
    registry = await connection.ask("config/entity_registry/list")
    devices = await connection.ask("config/device_registry/list")
    try:
        return entities(states, registry, devices)
    except (LookupError, TypeError, AttributeError) as problem:
        raise Malformed("Home Assistant lists its entities in an unknown shape") from problem


async def _dashboard(connection: Connection) -> dict[str, Direction]:
    try:
        return dashboard(await connection.ask("energy/get_prefs"))
    except (NotFound, TypeError, AttributeError):  # nobody set it up, or a schema of tomorrow
        return {}
