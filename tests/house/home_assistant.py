"""A real Home Assistant that the test starts: meters and switches made of templates, one admin, and
a user without rights for the box with a long-lived token of its own.

    async with HomeAssistant.started(folder) as house: ...   # house.url, house.token

`tests/house/setup homeassistant` installs it into build/homeassistant. What it runs is the newest
that installs on Python 3.13.0; newer ones are covered by recorded messages (tests/dumps).
"""

import asyncio
import itertools
import json
import os
import shutil
import socket
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp

from tests.house.child import BUILD, die_with_parent, stop

# HOMEASSISTANT=/path/to/hass tries another release than the one installed here.
PROGRAM = os.environ.get("HOMEASSISTANT", str(BUILD / "homeassistant/bin/hass"))
START_WITHIN_S = 90.0
STOP_WITHIN_S = 30.0  # killed before it has saved, it no longer knows the tokens it gave
ADMIN, ADMIN_PASSWORD = "admin", "house-admin-password"
BOX, BOX_PASSWORD = "box", "house-box-password"

CONFIGURATION = """
homeassistant:
  name: House
  time_zone: Europe/Brussels
  unit_system: metric
  currency: EUR
  country: BE
http:
  server_host: 127.0.0.1
  server_port: {port}
api:
websocket_api:
auth:
config:
onboarding:
recorder:
  commit_interval: 1
history:
energy:
logger:
  default: warning
input_number:
  grid_power: {{min: -20000, max: 20000, step: 0.001, initial: 800, mode: box}}
  solar_power: {{min: 0, max: 20, step: 0.001, initial: 1.5, mode: box}}
  grid_import: {{min: 0, max: 1000000, step: 0.001, initial: 1234.5, mode: box}}
  grid_export: {{min: 0, max: 1000000, step: 0.001, initial: 99000, mode: box}}
  gas: {{min: 0, max: 1000000, step: 0.001, initial: 500.25, mode: box}}
input_boolean:
  boiler: {{initial: true}}
  meter_present: {{initial: true}}
template:
  - sensor:
      - name: Grid power
        unique_id: house_grid_power
        unit_of_measurement: W
        device_class: power
        state_class: measurement
        availability: "{{{{ is_state('input_boolean.meter_present', 'on') }}}}"
        state: "{{{{ states('input_number.grid_power') }}}}"
      - name: Solar power
        unique_id: house_solar_power
        unit_of_measurement: kW
        device_class: power
        state_class: measurement
        state: "{{{{ states('input_number.solar_power') }}}}"
      - name: Grid import
        unique_id: house_grid_import
        unit_of_measurement: kWh
        device_class: energy
        state_class: total_increasing
        state: "{{{{ states('input_number.grid_import') }}}}"
      - name: Grid export
        unique_id: house_grid_export
        unit_of_measurement: Wh
        device_class: energy
        state_class: total_increasing
        state: "{{{{ states('input_number.grid_export') }}}}"
      - name: Gas
        unique_id: house_gas
        unit_of_measurement: m³
        device_class: gas
        state_class: total_increasing
        state: "{{{{ states('input_number.gas') }}}}"
  - switch:
      - name: Boiler
        unique_id: house_boiler
        state: "{{{{ is_state('input_boolean.boiler', 'on') }}}}"
        turn_on:
          - action: input_boolean.turn_on
            target: {{entity_id: input_boolean.boiler}}
        turn_off:
          - action: input_boolean.turn_off
            target: {{entity_id: input_boolean.boiler}}
      - name: Deaf plug
        unique_id: house_deaf
        state: "{{{{ true }}}}"
        turn_on: []
        turn_off: []
"""


@dataclass(frozen=True)
class Shown:
    """A meter that another integration brought in: what that integration calls it, and its name.

    It stands in the registry as such an integration leaves it; the house says its state.
    """

    entity_id: str
    platform: str
    unique_id: str
    name: str


class HomeAssistantTrouble(Exception):
    """It could not be started; says what its log says."""


class HomeAssistant:
    """One Home Assistant and the folder it lives in. `token` is the box's, without rights."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.token = ""
        self._admin_token = ""
        self._child: asyncio.subprocess.Process | None = None

    @classmethod
    @asynccontextmanager
    async def started(
        cls, folder: Path, port: int = 0, shown: Sequence[Shown] = ()
    ) -> AsyncIterator[Self]:
        """Start it, make its users, stop it at the end. A folder used before keeps its users, and
        what it shows of other integrations."""
        house = cls(folder, port or _free_port())
        house._furnish(shown)
        await house.start()
        try:
            await house._make_users()
            yield house
        finally:
            await house.stop()

    def _furnish(self, shown: Sequence[Shown]) -> None:
        storage = self.folder / ".storage"
        storage.mkdir(parents=True, exist_ok=True)
        registry = storage / "core.entity_registry"
        if shown and not registry.exists():
            entities = [_registered(meter) for meter in shown]
            content = {
                "version": 1,
                "minor_version": 1,
                "key": registry.name,
                "data": {"entities": entities},
            }
            registry.write_text(json.dumps(content), encoding="utf-8")
        configuration = CONFIGURATION.format(port=self.port)
        (self.folder / "configuration.yaml").write_text(configuration, encoding="utf-8")

    async def start(self) -> None:
        """Start the process; returns when it answers, which is before it is ready."""
        if shutil.which(PROGRAM) is None:
            raise HomeAssistantTrouble("run tests/house/setup homeassistant first")
        self._child = await asyncio.create_subprocess_exec(
            PROGRAM,
            "--config",
            str(self.folder),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        try:
            async with asyncio.timeout(START_WITHIN_S), aiohttp.ClientSession() as http:
                while not await self._answers(http):  # noqa: ASYNC110  # another process
                    await asyncio.sleep(0.2)
        except TimeoutError as problem:
            raise HomeAssistantTrouble(self._log_tail()) from problem

    async def until_running(self) -> None:
        """Wait until every integration is loaded."""
        async with asyncio.timeout(START_WITHIN_S):
            while (await self.as_admin("get_config"))["state"] != "RUNNING":  # noqa: ASYNC110
                await asyncio.sleep(0.2)

    async def stop(self) -> None:
        if self._child:
            await stop(self._child, patience_s=STOP_WITHIN_S)

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def _answers(self, http: aiohttp.ClientSession) -> bool:
        if self._child is None or self._child.returncode is not None:
            raise HomeAssistantTrouble(self._log_tail())
        try:
            async with http.get(f"{self.url}/api/onboarding") as answer:
                return answer.status in (200, 404)  # 404: everybody is on board
        except aiohttp.ClientError:
            return False

    def _log_tail(self) -> str:
        log = self.folder / "home-assistant.log"
        return log.read_text(encoding="utf-8")[-2000:] if log.exists() else "no log"

    # --- its users -------------------------------------------------------------------------------

    async def _make_users(self) -> None:
        kept = self.folder / "tokens"
        if kept.exists():
            self._admin_token, self.token = kept.read_text(encoding="utf-8").split()
            return
        async with aiohttp.ClientSession() as http:
            admin = await self._on_board(http)
            self._admin_token = await self._long_lived(admin, "house")
            made = await self.as_admin(
                "config/auth/create", name=BOX, group_ids=["system-users"], local_only=True
            )
            await self.as_admin(
                "config/auth_provider/homeassistant/create",
                user_id=made["user"]["id"],
                username=BOX,
                password=BOX_PASSWORD,
            )
            self.token = await self._long_lived(await self._log_in(http), "box")
        kept.write_text(f"{self._admin_token} {self.token}", encoding="utf-8")

    async def _on_board(self, http: aiohttp.ClientSession) -> str:
        """The first user, made as the app does it; returns a short-lived token."""
        client = f"{self.url}/"
        person = {
            "client_id": client,
            "name": "Admin",
            "username": ADMIN,
            "password": ADMIN_PASSWORD,
            "language": "en",
        }
        async with http.post(f"{self.url}/api/onboarding/users", json=person) as answer:
            code = (await answer.json())["auth_code"]
        token = await self._token_for(http, code)
        headers = {"Authorization": f"Bearer {token}"}
        for step, said in (
            ("analytics", None),
            ("integration", {"client_id": client, "redirect_uri": client}),
        ):
            url = f"{self.url}/api/onboarding/{step}"
            async with http.post(url, headers=headers, json=said) as answer:
                answer.raise_for_status()
        return token

    async def _log_in(self, http: aiohttp.ClientSession) -> str:
        client = f"{self.url}/"
        flow = {
            "client_id": client,
            "handler": ["homeassistant", None],
            "redirect_uri": client,
        }
        async with http.post(f"{self.url}/auth/login_flow", json=flow) as answer:
            step = (await answer.json())["flow_id"]
        said = {"client_id": client, "username": BOX, "password": BOX_PASSWORD}
        async with http.post(f"{self.url}/auth/login_flow/{step}", json=said) as answer:
            return await self._token_for(http, (await answer.json())["result"])

    async def _token_for(self, http: aiohttp.ClientSession, code: str) -> str:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "client_id": f"{self.url}/",
        }
        async with http.post(f"{self.url}/auth/token", data=form) as answer:
            return str((await answer.json())["access_token"])

    async def _long_lived(self, token: str, name: str) -> str:
        said = await self._commands(
            token, {"type": "auth/long_lived_access_token", "client_name": name, "lifespan": 3650}
        )
        return str(said[0])

    # --- what the house does ---------------------------------------------------------------------

    async def as_admin(self, kind: str, **fields: Any) -> Any:
        """One WebSocket command with every right; raises AssertionError where it is refused."""
        return (await self._commands(self._admin_token, {"type": kind, **fields}))[0]

    async def set(self, name: str, value: float) -> None:
        """Set input_number.`name`: what the meters made of it show."""
        await self._act("input_number", "set_value", f"input_number.{name}", value=value)

    async def say(self, meter: Shown, power_w: float) -> None:
        """The integration behind `meter` tells a value."""
        said = {
            "state": str(power_w),
            "attributes": {
                "device_class": "power",
                "state_class": "measurement",
                "unit_of_measurement": "W",
                "friendly_name": meter.name,
            },
        }
        headers = {"Authorization": f"Bearer {self._admin_token}"}
        url = f"{self.url}/api/states/{meter.entity_id}"
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.post(url, json=said) as answer,
        ):
            answer.raise_for_status()

    async def turn(self, entity: str, on: bool) -> None:
        """Somebody in the house switches `entity`."""
        domain = entity.partition(".")[0]
        await self._act(domain, "turn_on" if on else "turn_off", entity)

    async def show_on_dashboard(self) -> None:
        """The grid on the energy dashboard, in whichever schema this release takes."""
        whole = {"stat_energy_from": "sensor.grid_import", "stat_cost": None}
        back = {"stat_energy_to": "sensor.grid_export", "stat_compensation": None}
        price: dict[str, Any] = {"entity_energy_price": None, "number_energy_price": None}
        exported = {"entity_energy_price_export": None, "number_energy_price_export": None}
        grid = {"type": "grid", "cost_adjustment_day": 0}
        lists = {"flow_from": [whole | price], "flow_to": [back | price]}
        try:
            await self.as_admin("energy/save_prefs", energy_sources=[grid | lists])
        except AssertionError:  # 2026: one source, flat
            flat = grid | whole | back | price | exported
            await self.as_admin("energy/save_prefs", energy_sources=[flat])

    async def state(self, entity: str) -> str:
        states = await self.as_admin("get_states")
        return str(next(s["state"] for s in states if s["entity_id"] == entity))

    async def revoke_box(self) -> None:
        """Somebody deletes the box's token."""
        tokens = await self._commands(self.token, {"type": "auth/refresh_tokens"})
        own = next(t for t in tokens[0] if t["client_name"] == "box")
        with suppress(aiohttp.WSMessageTypeError):  # it closes what the token had opened
            await self._commands(
                self.token, {"type": "auth/delete_refresh_token", "refresh_token_id": own["id"]}
            )

    async def restart_with_statistics(
        self, told: Mapping[str, tuple[str, list[dict[str, float]]]]
    ) -> None:
        """Restart it with five-minute statistics as if it had been running before.

        By entity: the unit, and rows of start_ts (seconds) with mean, or with state and sum.
        """
        await self.stop()
        for entity, (unit, rows) in told.items():
            self._write_statistics(entity, unit, rows)
        await self.start()

    def _write_statistics(self, entity: str, unit: str, rows: list[dict[str, float]]) -> None:
        is_mean = "mean" in rows[0]
        with closing(sqlite3.connect(self.folder / "home-assistant_v2.db")) as database, database:
            database.execute(
                "insert or ignore into statistics_meta (statistic_id, source, unit_of_measurement,"
                " has_mean, has_sum, mean_type) values (?, 'recorder', ?, ?, ?, ?)",
                (entity, unit, is_mean, not is_mean, int(is_mean)),
            )
            [[meta]] = database.execute(
                "select id from statistics_meta where statistic_id = ?", (entity,)
            )
            for row in rows:
                names = ", ".join(("metadata_id", "created_ts", *row))
                marks = ", ".join("?" * (len(row) + 2))
                database.execute(
                    f"insert into statistics_short_term ({names}) values ({marks})",
                    (meta, row["start_ts"], *row.values()),
                )

    async def _act(self, domain: str, service: str, entity: str, **data: Any) -> None:
        await self.as_admin(
            "call_service",
            domain=domain,
            service=service,
            service_data=data,
            target={"entity_id": entity},
        )

    async def _commands(self, token: str, *commands: dict[str, Any]) -> list[Any]:
        answers = []
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(f"{self.url}/api/websocket", max_msg_size=0) as socket_,
        ):
            await socket_.receive_json()
            await socket_.send_json({"type": "auth", "access_token": token})
            said = await socket_.receive_json()
            assert said["type"] == "auth_ok", said
            for number, command in zip(itertools.count(1), commands, strict=False):
                await socket_.send_json({"id": number, **command})
                answer = await socket_.receive_json()
                assert answer["success"], answer
                answers.append(answer["result"])
        return answers


def _registered(meter: Shown) -> dict[str, Any]:
    """As version 1.1 of Home Assistant's registry wrote it; today's reads it."""
    return {
        "entity_id": meter.entity_id,
        "platform": meter.platform,
        "unique_id": meter.unique_id,
        "original_name": meter.name,
        "name": meter.name,
        "capabilities": {"state_class": "measurement"},
        "original_device_class": "power",
        "device_class": "power",
        "unit_of_measurement": "W",
        "config_entry_id": None,
        "device_id": None,
        "area_id": None,
        "disabled_by": None,
        "icon": None,
        "original_icon": None,
        "supported_features": 0,
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
