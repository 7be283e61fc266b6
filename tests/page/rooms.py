"""Rooms behind the door for the stand: a small house that answers as the agent's rooms do.

What a test wants changed it changes on the object; what the page asked for is in `asked`.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel

from edge.agent_api import web
from edge.agent_api.door import answer
from edge.agent_api.refusals import NotAllowed
from edge.contract import (
    BufferStatus,
    ChannelStatus,
    ClockStatus,
    DeviceStatus,
    FlexMeasuresStatus,
    Message,
    PartStatus,
    ReadingsStatus,
    RejectedSlotStatus,
    SetAsideStatus,
    Status,
)
from edge.contract.appliance import UpdateResult, UpdatesView, WifiNetwork, WifiView
from edge.contract.care import (
    EventsView,
    EventView,
    LiveRow,
    LiveView,
    LogLines,
    RestoreAnswer,
    Series,
)
from edge.contract.control import (
    CommandView,
    ControlHistory,
    ControlledDevice,
    ControlView,
    PlanSeries,
    PriceSensor,
    PricesView,
    Stretch,
)
from edge.contract.page import Certificate
from edge.contract.setup import (
    Account,
    AssetChoice,
    ChannelView,
    DeviceView,
    FamilyFound,
    FamilyView,
    FieldView,
    FoundChoice,
    HouseholdView,
    MapRow,
    MapView,
    MemoriesView,
    MemoryCopy,
    MetersView,
    NetworkStep,
    NetworkTask,
    PairingView,
    SensorView,
    StickView,
    TermView,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HEM = "zwave/7e570001-2"
PRINT = ":".join(["3F", "A0"] * 16)
PLUG = "zwave/7e570001-3"


def unpaired() -> FlexMeasuresStatus:
    return FlexMeasuresStatus(
        paired=False,
        url=None,
        paired_as=None,
        server_version=None,
        site=None,
        sensors=0,
        last_accepted=None,
        slots_accepted=0,
        slots_waiting=0,
        slots_rejected=0,
        slots_dropped=0,
        slots_per_minute=0,
        oldest_waiting=None,
        catching_up_percent=None,
        done_by=None,
        last_error=None,
        advice=None,
    )


def device(key: str, name: str, model: str, **more: Any) -> DeviceView:
    family, _, ident = key.partition("/")
    known: dict[str, Any] = {
        "state": "alive",
        "last_seen": NOON,
        "is_switch": False,
        "is_on": None,
        "power_w": None,
        "details": {},
        "may": ["ping", "interview", "rename", "interval", "replace", "remove"],
    }
    return DeviceView(
        key=key, family=family, device=ident, name=name, model=model, **(known | more)
    )


def idle() -> NetworkTask:
    return task(is_over=True, went_well=None, outcome="idle")


def task(**more: Any) -> NetworkTask:
    known: dict[str, Any] = {
        "revision": 1,
        "doing": "add",
        "device": "",
        "steps": [NetworkStep(code="started")],
        "waits_for": "",
        "asks": [],
        "left_s": None,
        "percent": None,
        "is_over": False,
        "went_well": None,
        "outcome": "",
    }
    return NetworkTask(**(known | more))


class House:
    """Everything the rooms answer, as plain attributes."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.pairing = PairingView(status=unpaired(), account=None)
        self.account = Account(
            url="https://demo.flexmeasures.io",
            email="box@example.org",
            server_version="1.0.1",
            assets=[
                AssetChoice(asset_id=3, name="Home of the Smiths", kind="building"),
                AssetChoice(asset_id=9, name="Old box", kind="site", was_a_box=True),
            ],
            may_create=True,
            may_do_more=True,
        )
        self.refusal: tuple[str, int] | None = None
        self.meters = MetersView(
            families=[
                FamilyView(family="zwave", in_use=True, state="running", fields=[]),
                FamilyView(family="smappee", in_use=False, state="", fields=smappee_fields()),
                FamilyView(family="homeassistant", in_use=False, state="", fields=[]),
                FamilyView(family="p1", in_use=False, state="", fields=[]),
            ],
            devices=[
                device(
                    HEM,
                    "Main meter",
                    "AEON Labs ZW095 Home Energy Meter",
                    power_w=1342.5,
                    details={
                        "node": 2.0,
                        "repeaters": "3",
                        "rssi_dbm": -91.0,
                        "security": "s2_authenticated",
                    },
                ),
                device(
                    PLUG,
                    "Boiler",
                    "Aeotec ZW175 Smart Switch 7",
                    is_switch=True,
                    is_on=True,
                    power_w=812.0,
                    details={"node": 3.0, "rssi_dbm": -54.0, "security": "s2_authenticated"},
                    may=["ping", "interview", "rename", "interval", "switch_test", "replace"],
                ),
                device(
                    "zwave/7e570001-4",
                    "<script>alert(1)</script>",
                    "<b>unknown</b>",
                    state="dead",
                    last_seen=NOON - timedelta(hours=7),
                    may=["ping", "replace", "remove_failed"],
                ),
            ],
            stick=StickView(code="ready", text="7.18"),
        )
        self.task = idle()
        self.status = status()
        self.household = HouseholdView(timezone="Europe/Amsterdam", is_chosen=True)
        self.updates = updates()
        self.wifi = wifi()
        self.control = ControlView(
            devices=[
                controlled(
                    PLUG,
                    "Boiler",
                    is_away=True,
                    is_on=False,
                    power_w=0.0,
                    origin="limit",
                    why="asked",
                ),
                controlled(
                    "zwave/7e570001-5",
                    "Heat pump",
                    origin="hand",
                    why="allowed",
                    is_box_timed=False,
                    hand_left_s=1730.0,
                ),
                controlled("zwave/7e570001-6", "<script>alert(1)</script>", is_used=False),
            ],
            schedule_age_s=120,
            notes=["FlexMeasures makes no schedule: the problem is infeasible"],
        )
        phases = [(f"{HEM}/{n}", 1) for n in (1, 2, 3)]
        foreign = "<script>alert(1)</script>"
        self.map = MapView(
            rows=[
                row("house", "Whole house", phases, 1342.5),
                row("boiler", "Boiler", [(f"{PLUG}/0", 1)], 812.0),
                row("dead", foreign, [("zwave/7e570001-4/0", 1)], None, send=False),
            ],
            channels=[
                *(channel(f"{HEM}/{n}", "Main meter", f"L{n}", 447.5) for n in (1, 2, 3)),
                channel(f"{PLUG}/0", "Boiler", "power", 812.0),
                channel("zwave/7e570001-4/0", "<script>alert(1)</script>", "power", None),
            ],
            sensors=[
                SensorView(sensor_id=11, name="Grid", unit="kW", resolution_s=900, refused=None),
                SensorView(
                    sensor_id=12, name="Price", unit="EUR/MWh", resolution_s=3600, refused="unit"
                ),
            ],
        )
        self.live = LiveView(
            rows=[
                live_row("house", "Whole house", 1342.5, 8.42),
                live_row("boiler", "Boiler", 812.0, 3.1),
                live_row("dead", "<script>alert(1)</script>", None, None, sends=False),
            ],
            waiting=640,
            oldest_waiting=NOON,
            last_accepted=NOON,
            accepted=1728,
            rejected=0,
            catching_up_percent=73.0,
            done_by=NOON + timedelta(minutes=25),
            problem=None,
            advice=None,
        )

    def routes(self) -> list[web.Route]:
        """The rooms' routes."""

        def get(message: Callable[[], Message]) -> web.Handler:
            async def handler(_: web.Request) -> web.Response:
                return answer(message())

            return handler

        return [
            web.get("/flexmeasures", get(lambda: self.pairing)),
            web.post("/flexmeasures/look", self._look),
            web.post("/flexmeasures/site", self._noted),
            web.delete("/flexmeasures", self._noted),
            web.get("/meters", get(lambda: self.meters)),
            web.post("/families/{name}/check", self._check),
            web.put("/families/{name}", self._noted),
            web.delete("/families/{name}", self._noted),
            web.get("/network", get(lambda: self.task)),
            web.post("/network", self._noted),
            web.get("/network/memories", get(lambda: memories())),
            web.get("/map", get(lambda: self.map)),
            web.put("/map", self._noted),
            web.get("/live", get(lambda: self.live)),
            web.get("/live/series/{ident:.*}", get(lambda: day())),
            web.get("/control", get(lambda: self.control)),
            web.get("/control/history", get(lambda: history())),
            web.get("/control/plan/{device:.+}", get(lambda: planned())),
            web.post("/control/hand", self._noted),
            web.put("/control/device", self._noted),
            web.put("/control/lease", self._noted),
            web.put("/control/schedules", self._noted),
            web.delete("/control/schedules", self._noted),
            web.get("/household", get(lambda: self.household)),
            web.put("/household", self._noted),
            web.get("/flexmeasures/prices", get(lambda: prices())),
            web.get("/updates", get(lambda: self.updates)),
            web.post("/updates/bundle", self._bundle),
            web.post("/updates/usb", self._noted),
            web.put("/updates/nightly", self._noted),
            web.get("/wifi", get(lambda: self.wifi)),
            web.get("/wifi/there", get(lambda: self.wifi)),
            web.post("/wifi", self._noted),
            web.delete("/wifi", self._noted),
            web.get("/status", get(lambda: self.status)),
            web.get("/certificate", get(lambda: Certificate(chain="", key="", fingerprint=PRINT))),
            web.get("/events", get(lambda: events())),
            web.get("/log", get(lambda: LogLines(lines=["edge: started", "<b>bold</b>"]))),
            web.post("/bundle", self._file),
            web.post("/backup", self._file),
            web.post("/restore", self._restore),
            web.post("/reset", self._reset),
        ]

    async def _noted(self, request: web.Request) -> web.Response:
        body = (await request.read()).decode()
        self.asked.append((f"{request.method} {request.path}", body))
        self._refuse()
        return web.Response(status=204)

    async def _reset(self, request: web.Request) -> web.Response:
        """Nobody's password is right: this house stays."""
        await self._noted(request)
        raise NotAllowed("password_wrong", 403)

    async def _bundle(self, request: web.Request) -> web.Response:
        """As large as it likes: only counted."""
        size = 0
        async for piece in request.pieces():
            size += len(piece)
        self.asked.append((f"{request.method} {request.path}", str(size)))
        self._refuse()
        return web.Response(status=204)

    async def _look(self, request: web.Request) -> web.Response:
        await self._noted(request)
        self.pairing = self.pairing.model_copy(update={"account": self.account})
        return answer(self.account)

    async def _check(self, request: web.Request) -> web.Response:
        await self._noted(request)
        return answer(
            FamilyFound(
                devices=["Smappee Infinity"],
                channels=6,
                choices=[
                    FoundChoice(field="locations", value="1", label="Home", preselected=True),
                    FoundChoice(field="locations", value="2", label="Office", preselected=False),
                ],
            )
        )

    async def _file(self, request: web.Request) -> web.Response:
        await self._noted(request)
        return web.Response(b"{}")

    async def _restore(self, request: web.Request) -> web.Response:
        await self._noted(request)
        return answer(RestoreAnswer(documents=4, secrets=0, taken_at=NOON))

    def _refuse(self) -> None:
        if self.refusal is not None:
            code, status = self.refusal
            raise NotAllowed(code, status)


def controlled(key: str, name: str, **more: Any) -> ControlledDevice:
    known: dict[str, Any] = {
        "is_used": True,
        "is_on": True,
        "power_w": 812.0,
        "is_away": False,
        "origin": "",
        "why": "nobody",
        "until": NOON + timedelta(minutes=15),
        "next_at": NOON + timedelta(hours=1),
        "next_off": True,
        "trouble": "",
        "is_box_timed": True,
        "consent": True,
        "nominal_power_w": 2000.0,
        "away_longest_min": 60,
        "rest_shortest_min": 10,
        "left_alone": [Stretch(start="18:00", end="20:00")],
    }
    return ControlledDevice(key=key, name=name, **(known | more))


def updates(**more: Any) -> UpdatesView:
    known: dict[str, Any] = {
        "possible": True,
        "release": "2026.03.01-1200",
        "board": "raspberrypi-64",
        "supported_until": "2028-03-01",
        "signer": "3fa0 91c2 77de 0b15 c8e4 5a2f 6d10 9b3c",
        "is_development": False,
        "busy": "",
        "coming": "",
        "percent": 0,
        "held_back": False,
        "nightly_offered": True,
        "nightly": True,
        "result": UpdateResult(
            release="2026.03.01-1200", outcome="installed", text="", at=NOON - timedelta(days=2)
        ),
    }
    return UpdatesView(**(known | more))


def wifi() -> WifiView:
    networks = [("Home of the Smiths", 82, True), ("<script>alert(1)</script>", 55, False)]
    return WifiView(
        there=True,
        kept=True,
        networks=[
            WifiNetwork(network=name, signal_percent=signal, is_open=False, is_joined=joined)
            for name, signal, joined in networks
        ]
        + [WifiNetwork(network="Bakery", signal_percent=20, is_open=True, is_joined=False)],
    )


def memories() -> MemoriesView:
    taken = [NOON - timedelta(days=1), NOON - timedelta(days=40)]
    return MemoriesView(
        memories=[
            MemoryCopy(file=f"7e570001-{at:%Y%m%dT%H%M%S}.nvm", home_id="7e570001", taken_at=at)
            for at in taken
        ]
    )


def prices() -> PricesView:
    return PricesView(
        sensors=[
            PriceSensor(sensor_id=12, name="Day-ahead price", unit="EUR/MWh"),
            PriceSensor(sensor_id=31, name="My tariff", unit="EUR/kWh"),
        ]
    )


def history() -> ControlHistory:
    return ControlHistory(
        commands=[
            CommandView(
                device=PLUG,
                name="Boiler",
                origin=origin,
                why="asked",
                at=NOON - timedelta(hours=n),
                until=NOON - timedelta(hours=n, minutes=-15),
                outcome="longest",
            )
            for n, origin in enumerate(("limit", "schedule", "hand"))
        ]
    )


def planned() -> PlanSeries:
    measured = day().values
    return PlanSeries(
        start=day().start,
        resolution_s=300,
        unit="kW",
        planned=[0.0 if 120 < n < 140 or 250 < n < 260 else 2.0 for n in range(288)],
        measured=measured[:260] + [None] * 28,
    )


def status(**more: Any) -> Status:
    server = unpaired().model_copy(
        update={
            "paired": True,
            "paired_as": "box@example.org",
            "url": "https://demo.flexmeasures.io",
            "server_version": "1.0.1",
            "site": "Home of the Smiths",
            "last_accepted": NOON,
            "slots_accepted": 1728,
            "slots_waiting": 640,
            "slots_rejected": 1,
            "catching_up_percent": 63.0,
            "sensors": 6,
        }
    )
    known: dict[str, Any] = {
        "name": "edge",
        "version": "0.1.0",
        "release": "1.2.3",
        "parts": [PartStatus(name="zwave", state="running", since_s=400)],
        "alarms": {},
        "stick": None,
        "devices": [
            DeviceStatus(
                key=HEM,
                name="Main meter",
                model="",
                state="alive",
                last_seen=NOON,
                is_switch=False,
                is_on=None,
                details={},
            ),
            DeviceStatus(
                key="zwave/7e570001-4",
                name="<script>alert(1)</script>",
                model="",
                state="dead",
                last_seen=NOON,
                is_switch=False,
                is_on=None,
                details={},
            ),
        ],
        "channels": [
            *(clamp(HEM, n, deviation) for n, deviation in ((1, 1.4), (2, -0.6), (3, -199.0))),
            clamp(PLUG, 0, None),
        ],
        "set_aside": [
            SetAsideStatus(
                channel=f"{HEM}/1/active_power/import",
                value=91000.0,
                reason="beyond the rating of the main fuse",
                at=NOON,
            )
        ],
        "readings": ReadingsStatus(believed=9, confirmed=0, counter_resets=0, unknown=0),
        "buffer": BufferStatus(
            readings=13846,
            stored_since_start=120,
            bytes_used=400_000,
            bytes_max=1_000_000_000,
            oldest=NOON - timedelta(days=1),
            uncommitted=3,
            oldest_uncommitted_s=2.0,
            dropped=0,
            damaged_groups=0,
            unresolved=0,
        ),
        "clock": ClockStatus(trusted=True, wall=NOON, uptime_s=86_000),
        "flexmeasures": server,
        "rejected": [
            RejectedSlotStatus(
                sensor_id=11,
                name="Grid",
                unit="kW",
                start=NOON,
                value=91.0,
                reason="beyond its range",
            )
        ],
        "counts": {},
    }
    return Status(**(known | more))


def clamp(device_key: str, endpoint: int, deviation: float | None) -> ChannelStatus:
    return ChannelStatus(
        key=f"{device_key}/{endpoint}/active_power/import",
        name="",
        unit="W",
        value=447.5,
        age_s=4.0,
        sensor_id=11,
        set_aside=2 if endpoint == 1 else 0,
        energy_deviation_percent=deviation,
    )


def events() -> EventsView:
    kinds = ("claim", "log-in", "paired", "network", "command")
    return EventsView(
        events=[
            EventView(at=NOON, kind=kind, text=kind, detail={"address": "192.168.1.20"})
            for kind in kinds
        ]
    )


def smappee_fields() -> list[FieldView]:
    def text(name: str, kind: Any = "text", **more: Any) -> FieldView:
        known: dict[str, Any] = {"required": True, "choices": [], "only_if": None, "value": ""}
        known["is_kept"] = False
        return FieldView(name=name, kind=kind, label=f"smappee.{name}", **(known | more))

    cloud = ("way", "cloud")
    return [
        text("way", "choice", choices=["cloud", "local"], value="cloud"),
        text("client_id", only_if=cloud),
        text("client_secret", "password", only_if=cloud),
        text("username", only_if=cloud),
        text("password", "password", only_if=cloud),
        text("address", only_if=("way", "local")),
    ]


def channel(key: str, device_name: str, name: str, value: float | None) -> ChannelView:
    return ChannelView(
        key=key,
        device=device_name,
        name=name,
        quantity="active_power",
        unit="W",
        direction="import",
        value=value,
        age_s=4.0,
        repeats=False,
    )


def row(
    ident: str, name: str, terms: list[tuple[str, int]], value: float | None, *, send: bool = True
) -> MapRow:
    return MapRow(
        ident=ident,
        name=name,
        send=send,
        sensor_id=None,
        terms=[TermView.model_validate({"channel_key": k, "sign": s}) for k, s in terms],
        quantity="active_power",
        unit="W",
        value=value,
    )


def live_row(
    ident: str, name: str, value: float | None, today: float | None, *, sends: bool = True
) -> LiveRow:
    return LiveRow(
        ident=ident,
        name=name,
        quantity="active_power",
        unit="W",
        value=value,
        age_s=None if value is None else 4.0,
        today_kwh=today,
        sends=sends,
    )


def day() -> Series:
    """A plausible day of a house."""
    shape = [0.3, 0.25, 0.2, 0.2, 0.25, 0.4, 1.1, 1.6, 1.2, 0.8, 0.6, 0.5]
    shape += [0.9, 0.7, 0.5, 0.6, 1.2, 2.4, 2.8, 1.9, 1.3, 1.0, 0.7, 0.4]
    values = [shape[n // 12] * (1 + 0.2 * ((n * 37) % 7 - 3) / 3) for n in range(288)]
    gaps = [None if 100 <= n < 106 else round(v, 3) for n, v in enumerate(values)]
    return Series(start=NOON - timedelta(days=1), resolution_s=300, unit="kW", values=gaps)


def for_pictures(house: House) -> None:
    """The same house, with neighbours' names instead of a test's."""
    fresh = House()
    for name in ("pairing", "task", "household", "updates"):
        setattr(house, name, getattr(fresh, name))
    text = "<script>alert(1)</script>"

    def renamed[M: BaseModel](message: M) -> M:
        said = message.model_dump_json().replace(text, "Washing machine")
        said = said.replace("<b>unknown</b>", "Aeotec ZW175 Smart Switch 7")
        return type(message).model_validate_json(said)

    for name in ("meters", "map", "live", "status", "control", "wifi"):
        setattr(house, name, renamed(getattr(fresh, name)))
