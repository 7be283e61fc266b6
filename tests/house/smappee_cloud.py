"""A faithful Smappee cloud: OAuth2 with rotating refresh tokens, versions 2 and 3, retention,
delay, outages and faults. Shapes from the developer documentation and from smappy's source.

Not verified against the live cloud, so chosen here: bad credentials are 400 invalid_grant; the
401 body; a refresh token dies after one use; the form of a 429; ten minutes of delay; events are
positive at switch-on and negative at switch-off; temperature is in 0.1 °C.

    cloud = SmappeeCloud(clock.wall_now)
    async with cloud.serve() as base_url: ...      # http://127.0.0.1:PORT/dev
"""

import asyncio
import json
import math
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from aiohttp import web

LOCATION = 123
CLIENT_ID, CLIENT_SECRET = "house-client", "house-client-secret"
USERNAME, PASSWORD = "anna@example.org", "house-password"
GAS_SENSOR, GAS_PULSES_PER_M3, WATER_PULSES_PER_M3 = 4, 100.0, 1000.0
INPUT_MODULE, PULSES_PER_KWH = 5, 800.0
HOLDS_S = (300, 900, 1800, 3600)
FIVE_MINUTES = timedelta(minutes=5)
STEPS_S = {1: 300, 2: 3600, 3: 86400, 4: 30 * 86400, 5: 91 * 86400}
EPOCH = datetime.fromtimestamp(0, UTC)


def consumption_wh(start_s: int) -> float:
    """What the house uses in the five minutes from start_s: base load, a day's swell, a boiler."""
    swell_w = 250 * (1 + math.sin(2 * math.pi * start_s / 86400))
    boiler_w = 1800 if start_s // 1800 % 5 == 0 else 0
    return round((300 + swell_w + boiler_w) / 12, 2)


def solar_wh(start_s: int) -> float:
    hour = start_s % 86400 / 3600
    return round(max(0.0, 3000 * math.sin(math.pi * (hour - 6) / 12)) / 12, 2)


def gas_pulses(start_s: int) -> int:
    return start_s // 300 % 7


def water_pulses(start_s: int) -> int:
    return start_s // 300 % 3


def heat_pump_pulses(start_s: int) -> int:
    return start_s // 300 % 11


def bottles(start_s: int) -> int:
    return start_s // 300 % 4


def event_w(at_s: int) -> float:
    """What the appliance is said to draw at each half hour; below zero it stops."""
    return 340.0 if at_s // 1800 % 2 else -340.0


@dataclass
class Actuator:
    name: str
    on: bool = True
    reverts_at: datetime | None = None


@dataclass
class Fault:
    """Answers the next request whose path contains `where`, instead of the cloud."""

    status: int = 503
    body: str = "<html>down</html>"
    headers: dict[str, str] = field(default_factory=dict)
    where: str = ""
    silent: bool = False  # takes the request and never answers


@dataclass(frozen=True)
class Asked:
    """One request as it came in."""

    method: str
    path: str
    query: dict[str, str]
    body: str
    user_agent: str


class SmappeeCloud:
    """The cloud and one house in it. Everything public may be changed while it runs."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.now = now
        self.token_life = timedelta(hours=10)
        self.delay = timedelta(minutes=10)
        self.kept = timedelta(days=14)
        self.off_line: list[tuple[datetime, datetime]] = []  # the monitor's own gaps
        self.corrections: dict[int, float] = {}  # start_s → consumption in Wh
        self.faults: deque[Fault] = deque()
        self.password = PASSWORD
        self.per_minute_max: int | None = None
        self.has_input_module = False
        self.actuators = {1: Actuator("Boiler"), 2: Actuator("Heat pump")}
        self.log: list[Asked] = []
        self.tokens: dict[str, datetime] = {}
        self.refresh_tokens: set[str] = set()
        self._asked_at: deque[datetime] = deque()

    @asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator[str]:
        """Listen on 127.0.0.1; yields the address up to the version."""
        app = web.Application(middlewares=[self._steer])
        place = "/dev/{version:v[23]}/servicelocation"
        app.add_routes(
            [
                web.post("/dev/{version:v[23]}/oauth2/token", self._token),
                web.get(place, self._locations),
                web.get(place + "/{location}/info", self._info),
                web.get(place + "/{location}/consumption", self._consumption),
                web.get(place + "/{location}/sensor/{sensor}/consumption", self._sensor),
                web.get(place + "/{location}/events", self._events),
                web.get(place + "/{location}/actuator/{actuator}/state", self._state),
                web.post(place + "/{location}/actuator/{actuator}/{action}", self._switch),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/dev"
        finally:
            await runner.cleanup()

    def asked(self, part: str) -> list[Asked]:
        """The requests whose path contains `part`."""
        return [asked for asked in self.log if part in asked.path]

    def revoke_tokens(self) -> None:
        """Every access token is dead before its time; refresh tokens live."""
        self.tokens.clear()

    def is_on(self, actuator: int) -> bool:
        held = self.actuators[actuator]
        if held.reverts_at and self.now() >= held.reverts_at:
            held.on, held.reverts_at = not held.on, None
        return held.on

    # --- the door --------------------------------------------------------------------------------

    @web.middleware
    async def _steer(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        self.log.append(
            Asked(
                request.method,
                request.path,
                dict(request.query),
                await request.text(),
                request.headers.get("User-Agent", ""),
            )
        )
        fault = next((f for f in self.faults if f.where in request.path), None)
        if fault:
            self.faults.remove(fault)
            if fault.silent:
                await asyncio.Event().wait()
            return web.Response(status=fault.status, text=fault.body, headers=fault.headers)
        if self.per_minute_max is not None:
            while self._asked_at and self._asked_at[0] < self.now() - timedelta(minutes=1):
                self._asked_at.popleft()
            if len(self._asked_at) >= self.per_minute_max:
                return web.Response(status=429, text="slow down", headers={"Retry-After": "60"})
            self._asked_at.append(self.now())
        if "/oauth2/" not in request.path:
            token = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if self.tokens.get(token, EPOCH) <= self.now():
                return web.json_response({"code": "401", "error": "invalid token"}, status=401)
            if request.match_info.get("location", str(LOCATION)) != str(LOCATION):
                return web.Response(status=403, text="Forbidden")
        return await handler(request)

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()

        def refuse(why: str) -> web.Response:
            return web.json_response({"error": why}, status=400)

        if (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            return refuse("invalid_client")
        match form.get("grant_type"):
            case "password":
                if (form.get("username"), form.get("password")) != (USERNAME, self.password):
                    return refuse("invalid_grant")
            case "refresh_token":
                if form.get("refresh_token") not in self.refresh_tokens:
                    return refuse("invalid_grant")
                self.refresh_tokens.discard(str(form.get("refresh_token")))
            case _:
                return refuse("unsupported_grant_type")
        access, refresh = secrets.token_hex(16), secrets.token_hex(16)
        self.tokens[access] = self.now() + self.token_life
        self.refresh_tokens.add(refresh)
        return web.json_response(
            {
                "access_token": access,
                "expires_in": int(self.token_life.total_seconds()),
                "refresh_token": refresh,
            }
        )

    # --- what it knows ---------------------------------------------------------------------------

    async def _locations(self, request: web.Request) -> web.Response:
        place: dict[str, object] = {"serviceLocationId": LOCATION, "name": "Home"}
        if request.match_info["version"] == "v3":
            place |= {"serviceLocationUuid": "6eefadeb", "deviceSerialNumber": "5010000001"}
        return web.json_response({"appName": "House", "serviceLocations": [place]})

    async def _info(self, request: web.Request) -> web.Response:
        actuators = []
        for ident, actuator in self.actuators.items():
            told: dict[str, object] = {"id": ident, "name": actuator.name}
            if request.match_info["version"] == "v3":
                on = self.is_on(ident)
                told |= {
                    "serialNumber": f"400600252{ident}",
                    "type": "SWITCH",
                    "states": [
                        {"id": "ON_ON", "name": "on", "current": on},
                        {"id": "OFF_OFF", "name": "off", "current": not on},
                    ],
                }
            actuators.append(told)
        return web.json_response(
            {
                "serviceLocationId": LOCATION,
                "name": "Home",
                "timezone": "Europe/Brussels",
                "lon": 4.35,
                "lat": 50.85,
                "electricityCost": 0.3,
                "electricityCurrency": "EUR",
                "appliances": [{"id": 1, "name": "Coffeemaker", "type": "cooking"}],
                "actuators": actuators,
                "sensors": self._sensors(),
            }
        )

    def _sensors(self) -> list[dict[str, object]]:
        gas = [
            _sensor_channel(1, "gas", "Gas", GAS_PULSES_PER_M3),
            _sensor_channel(2, "water", "Water", WATER_PULSES_PER_M3),
        ]
        found: list[dict[str, object]] = [
            {"id": GAS_SENSOR, "name": "3003000078", "channels": gas},
        ]
        if self.has_input_module:
            inputs = [
                _sensor_channel(1, "electricity", "Heat pump", PULSES_PER_KWH, "kWh"),
                _sensor_channel(2, "other", "Bottles", 4.0, "bottles"),
            ]
            found.append({"id": INPUT_MODULE, "name": "5005000012", "channels": inputs})
        return found

    def _starts(self, request: web.Request) -> list[int] | None:
        """The starts in seconds of the intervals asked for; closed-open, as the cloud has it."""
        query = request.query
        if "aggregation" not in query:
            return None
        step_s = STEPS_S[int(query["aggregation"])]
        first, last = float(query["from"]) / 1000, float(query["to"]) / 1000
        now_s = (self.now() - EPOCH).total_seconds()
        if step_s == 300:
            first = max(first, now_s - self.kept.total_seconds())
        last = min(last, now_s - self.delay.total_seconds() - step_s + 1)
        start_s = math.ceil(first / step_s) * step_s
        starts = []
        while start_s < last:
            moment = EPOCH + timedelta(seconds=start_s)
            if not any(begin <= moment < end for begin, end in self.off_line):
                starts.append(start_s)
            start_s += step_s
        return starts

    def used_wh(self, start_s: int) -> float:
        return self.corrections.get(start_s, consumption_wh(start_s))

    async def _consumption(self, request: web.Request) -> web.Response:
        starts = self._starts(request)
        if starts is None:  # documented: a missing aggregation is a server error
            return web.Response(status=500, text="<html>Internal Server Error</html>")
        factor = STEPS_S[int(request.query["aggregation"])] / 300
        records = []
        for start_s in starts:
            used_wh, made_wh = self.used_wh(start_s) * factor, solar_wh(start_s) * factor
            net_wh = round(used_wh - made_wh, 2)
            record: dict[str, object] = {
                "timestamp": start_s * 1000,
                "consumption": used_wh,
                "solar": made_wh,
                "alwaysOn": 120.0 * factor,  # power, summed: 12 times the energy
                "gridImport": max(net_wh, 0.0),
                "gridExport": max(-net_wh, 0.0),
            }
            if request.match_info["version"] == "v3":
                record |= {"active": [used_wh], "reactive": [1.0], "voltages": [231.0]}
            records.append(record)
        return web.json_response({"serviceLocationId": LOCATION, "consumptions": records})

    async def _sensor(self, request: web.Request) -> web.Response:
        starts = self._starts(request)
        if starts is None:
            return web.Response(status=500, text="<html>Internal Server Error</html>")
        sensor = int(request.match_info["sensor"])
        first, second = (
            (gas_pulses, water_pulses) if sensor == GAS_SENSOR else (heat_pump_pulses, bottles)
        )
        records = [
            {
                "timestamp": start_s * 1000,
                "value1": first(start_s),
                "value2": second(start_s),
                "temperature": 226,
                "humidity": 41,
                "battery": 100,
            }
            for start_s in starts
        ]
        return web.json_response(
            {"serviceLocationId": LOCATION, "sensorId": sensor, "records": records}
        )

    async def _events(self, request: web.Request) -> web.Response:
        last_ms, first_ms = int(request.query["to"]), int(request.query["from"])
        half_hour_ms = 1_800_000
        newest = last_ms // half_hour_ms * half_hour_ms
        events = [
            {
                "activePower": event_w(stamp // 1000),
                "totalPower": 1060.0,
                "applianceId": int(request.query["applianceId"]),
                "timestamp": stamp,
            }
            for stamp in range(newest, first_ms, -half_hour_ms)
            if stamp < last_ms
        ]
        return web.json_response(events)

    async def _state(self, request: web.Request) -> web.Response:
        on = self.is_on(int(request.match_info["actuator"]))
        if request.match_info["version"] == "v3":
            return web.json_response("ON_ON" if on else "OFF_OFF")
        return web.json_response("ON" if on else "OFF")

    async def _switch(self, request: web.Request) -> web.Response:
        actuator = self.actuators.get(int(request.match_info["actuator"]))
        action = {"ON_ON": "on", "OFF_OFF": "off"}.get(
            request.match_info["action"], request.match_info["action"]
        )
        if actuator is None or action not in ("on", "off"):
            return web.Response(status=404, text="Not found")
        asked = json.loads(await request.text() or "{}")
        duration_s = asked.get("duration")
        actuator.on = action == "on"
        actuator.reverts_at = None  # any duration but the four means for ever
        if duration_s in HOLDS_S:
            actuator.reverts_at = self.now() + timedelta(seconds=duration_s)
        return web.Response()


def _sensor_channel(
    number: int, kind: str, name: str, pulses: float, unit: str = "m3"
) -> dict[str, object]:
    return {
        "name": name,
        "ppu": pulses,
        "uom": unit,
        "enabled": True,
        "type": kind,
        "channel": number,
    }
