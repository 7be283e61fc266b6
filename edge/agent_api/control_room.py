"""The way back, for the page and the command line: who may switch what, and what was switched."""

from collections.abc import Iterator
from datetime import datetime, time, timedelta

from edge.agent_api import web
from edge.agent_api.door import answer, asked
from edge.agent_api.names import display_names
from edge.clock import Clock, own_zone
from edge.contract import ControlStatus, Done, SteeredStatus, SwitchedStatus
from edge.contract.control import (
    CommandView,
    ControlHistory,
    ControlledDevice,
    ControlRequest,
    ControlView,
    CurtailAnswer,
    CurtailRequest,
    DeviceRequest,
    HandRequest,
    LeaseRequest,
    PlanSeries,
    Stretch,
    TriggerRequest,
    TriggerView,
)
from edge.control.carry_out import CarryOut
from edge.control.decide import WHY, Controllable
from edge.control.ledger import Command, Stage
from edge.control.steering import Steered, Steering
from edge.errors import Refused
from edge.families import Families
from edge.intake import ReadingIntake
from edge.model import Device, Origin, Plan, Quantity
from edge.store.commands import NotKept
from edge.store.outbox import Outbox
from edge.uplink.account import Account
from edge.uplink.flexibility import OwnTriggers
from edge.uplink.schedules import Schedules, power_sensor

_HISTORY_SHOWN = 50
_SWITCHED_SHOWN = 5  # in edge status
_PLAN_STEP = timedelta(minutes=5)
_PLAN_AHEAD = timedelta(hours=24)
_MINUTE = timedelta(minutes=1)
_UNUSED_NOMINAL_W = 1000.0
_KW = {"W": 0.001, "kW": 1.0, "MW": 1000.0}
_STATES = {Stage.INTENDED: "leaving", Stage.AWAY: "away", Stage.RETURNING: "returning"}


class ControlRoom:
    """Routes over control/steering.py; on the page's socket the entrance asks for a session."""

    def __init__(
        self,
        steering: Steering,
        carry_out: CarryOut,
        schedules: Schedules,
        families: Families,
        intake: ReadingIntake,
        account: Account,
        outbox: Outbox,
        clock: Clock,
    ) -> None:
        self._steering = steering
        self._carry_out = carry_out
        self._schedules = schedules
        self._families = families
        self._intake = intake
        self._account = account
        self._outbox = outbox
        self._clock = clock

    def routes(self) -> list[web.Route]:
        return [
            web.get("/control", self._show),
            web.get("/control/history", self._history),
            web.get("/control/plan/{device:.+}", self._plan),
            web.post("/control/hand", self._hand),
            web.post("/control/curtail", self._curtail),
            web.post("/control/give-back", self._give_back),
            web.put("/control/device", self._allow),
            web.put("/control/lease", self._lease),
            web.put("/control/schedules", self._trigger),
            web.delete("/control/schedules", self._no_trigger),
        ]

    async def status(self) -> ControlStatus:
        """What `edge status` shows."""
        return ControlStatus(
            devices=[self._steered(each) for each in self._steering.steered()],
            flexmeasures_silent_s=self._steering.silent_for().total_seconds(),
            lease_s=self._steering.lease.total_seconds(),
            notes=list(self._schedules.notes.values()),
            switched=await self._switched(),
        )

    async def _show(self, _: web.Request) -> web.Response:
        steered = {each.device.device_key: each for each in self._steering.steered()}
        known = {d.key: d for d in self._families.devices() if d.is_switch}
        silent_s = self._steering.silent_for().total_seconds()
        return answer(
            ControlView(
                devices=[
                    self._controlled(key, known.get(key), steered.get(key))
                    for key in sorted(known.keys() | steered.keys(), key=self._name)
                ],
                schedule_age_s=silent_s if steered and self._account.paired else None,
                lease_min=int(self._steering.lease / _MINUTE),
                notes=[n for key, n in self._schedules.notes.items() if key not in steered],
                triggers=_triggers(self._schedules.wish),
            )
        )

    async def _history(self, _: web.Request) -> web.Response:
        try:
            commands = await self._carry_out.history(_HISTORY_SHOWN)
        except NotKept as problem:
            raise Refused(str(problem)) from problem
        return answer(ControlHistory(commands=[self._command(command) for command in commands]))

    async def _plan(self, request: web.Request) -> web.Response:
        """From local midnight to a day ahead: planned beside measured, in kW."""
        key = self._key(request.values["device"])
        now = self._clock.wall_now()
        start = now.astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
        starts = list(_steps(start.astimezone(now.tzinfo), now + _PLAN_AHEAD))
        plans = self._steering.remembered(key)
        measured = await self._measured(key, starts[0], now)
        return answer(
            PlanSeries(
                start=starts[0],
                resolution_s=int(_PLAN_STEP.total_seconds()),
                unit="kW",
                planned=[_planned_kw(plans, moment) for moment in starts],
                measured=[measured.get(moment) for moment in starts],
            )
        )

    async def _hand(self, request: web.Request) -> web.Response:
        wanted = await asked(request, HandRequest)
        key = self._key(wanted.device)
        if wanted.minutes:
            await self._steering.take_hand(key, wanted.minutes * _MINUTE, away=wanted.away)
        else:
            await self._steering.give_back(key)
        return answer(Done(text=self._name(key)))

    async def _curtail(self, request: web.Request) -> web.Response:
        wanted = await asked(request, CurtailRequest)
        key = self._key(wanted.device)
        until = await self._steering.take_hand(key, wanted.minutes * _MINUTE, away=wanted.away)
        return answer(CurtailAnswer(device=key, name=self._name(key), until=until))

    async def _give_back(self, request: web.Request) -> web.Response:
        key = self._key((await asked(request, DeviceRequest)).device)
        await self._steering.give_back(key)
        return answer(Done(text=f"{self._name(key)} follows limit and schedule again"))

    async def _allow(self, request: web.Request) -> web.Response:
        wanted = await asked(request, ControlRequest)
        key = self._key(wanted.device)
        if wanted.is_used:
            await self._steering.allow(_controllable(key, wanted))
            self._schedules.look_again()
        else:
            await self._steering.forbid(key)
        return answer(Done(text=self._name(key)))

    async def _lease(self, request: web.Request) -> web.Response:
        minutes = (await asked(request, LeaseRequest)).minutes
        await self._steering.keep_lease(minutes * _MINUTE)
        return answer(Done(text=f"plans count for {minutes} minutes after FlexMeasures was heard"))

    async def _trigger(self, request: web.Request) -> web.Response:
        wanted = await asked(request, TriggerRequest)
        await self._schedules.trigger_by_itself(
            OwnTriggers(
                every=wanted.every_minutes * _MINUTE,
                horizon=timedelta(hours=wanted.horizon_hours),
                price_sensor_id=wanted.price_sensor_id,
                worth_per_kwh=wanted.worth_per_kwh,
            )
        )
        return answer(Done(text="the box asks for schedules itself"))

    async def _no_trigger(self, _: web.Request) -> web.Response:
        await self._schedules.trigger_by_itself(None)
        return answer(Done(text="the box asks for no schedules"))

    async def _switched(self) -> list[SwitchedStatus]:
        try:
            commands = await self._carry_out.history(_SWITCHED_SHOWN)
        except NotKept:
            return []  # `alarms` says that the card takes nothing
        return [
            SwitchedStatus(
                key=command.device_key,
                name=self._name(command.device_key),
                by=command.origin,
                at=command.issued_at,
                until=command.closed_at or command.away_until,
                outcome=_outcome(command),
            )
            for command in commands
        ]

    # --- inside -----------------------------------------------------------------------------------

    def _key(self, wanted: str) -> str:
        """The device of that key or, where there is only one, of that name. Raises Refused."""
        keys = {device.key for device in self._families.devices()} | set(self._steering.devices())
        if wanted in keys:
            return wanted
        devices, wished = self._families.devices(), wanted.lower()
        shown = [key for key, name in display_names(devices).items() if name.lower() == wished]
        named = shown or [device.key for device in devices if device.name.lower() == wished]
        if len(named) == 1:
            return named[0]
        if named:
            names = ", ".join(self._name(key) for key in named)
            raise Refused(f"{len(named)} devices are called {wanted}: say which of {names}")
        raise Refused(f"there is no device {wanted}; `edge status` lists them")

    def _name(self, key: str) -> str:
        return display_names(self._families.devices()).get(key, key)

    def _controlled(self, key: str, found: Device | None, each: Steered | None) -> ControlledDevice:
        status = self._steered(each) if each else None
        device = each.device if each else Controllable(key, _UNUSED_NOMINAL_W)
        if each is None and found is not None and found.own_timers:
            device = Controllable(key, _UNUSED_NOMINAL_W, own_timers=found.own_timers)
        return ControlledDevice(
            key=key,
            name=self._name(key),
            is_used=each is not None,
            is_on=found.is_on if found else None,
            power_w=self._power_w(key),
            is_away=status is not None and status.state != "normal",
            origin=(status.by or "") if status else "",
            why=status.why if status else "",
            until=(status.until or status.hand_until) if status else None,
            next_at=status.next_at if status else None,
            next_off=_next_off(status) if status else None,
            trouble=status.trouble if status else "",
            is_box_timed=device.is_box_timed,
            consent=device.consent,
            nominal_power_w=device.nominal_power_w,
            away_longest_min=int(device.away_longest / _MINUTE),
            rest_shortest_min=int(device.rest_shortest / _MINUTE),
            left_alone=[
                Stretch(start=f"{begin:%H:%M}", end=f"{end:%H:%M}")
                for begin, end in device.left_alone
            ],
            normal_on=device.normal_on,
            off_power_w=device.off_power_w,
            hand_left_s=self._left_s(status.hand_until) if status else None,
            hand_at_device=status is not None and status.hand_at_device,
            note=self._schedules.notes.get(key, ""),
        )

    def _left_s(self, until: datetime | None) -> float | None:
        if until is None:
            return None
        return max(0.0, (until - self._clock.wall_now()).total_seconds())

    def _power_w(self, key: str) -> float | None:
        for channel in self._intake.channels().values():
            if channel.device_key == key and channel.quantity is Quantity.ACTIVE_POWER:
                latest = self._intake.latest(channel.key)
                return latest.value if latest else None
        return None

    async def _measured(
        self, key: str, start: datetime, end: datetime
    ) -> dict[datetime, float | None]:
        """By start of step; a sensor of another resolution fills the steps it covers."""
        sensor = power_sensor(key, self._account.sensors())
        if sensor is None:
            return {}
        factor = _KW[sensor.unit] * (sensor.terms[0].sign if sensor.terms else 1)
        slots = await self._outbox.history(sensor.sensor_id, start, end)
        return {
            moment: slot.value * factor
            for slot in slots
            for moment in _steps(slot.start, slot.start + slot.event_resolution)
        }

    def _steered(self, each: Steered) -> SteeredStatus:
        decision, command = each.decision, each.command
        changed_at, next_decision = each.next_change or (None, None)
        return SteeredStatus(
            key=each.device.device_key,
            name=self._name(each.device.device_key),
            state=_STATES[command.stage] if command else "normal",  # type: ignore[arg-type]
            normal_on=each.device.normal_on,
            by=command.origin if command else decision.origin,
            why=decision.why,
            why_text=WHY[decision.why].format(origin=f"the {decision.origin}"),
            until=command.away_until if command else None,
            next_at=changed_at,
            next_away=None if next_decision is None else next_decision.away_until is not None,
            next_by=None if next_decision is None else next_decision.origin,
            hand_until=each.hand.until if each.hand else None,
            hand_at_device=bool(each.hand and each.hand.at_device),
            is_box_timed=each.device.is_box_timed,
            away_longest_minutes=each.device.away_max / _MINUTE,
            trouble=each.trouble,
        )

    def _command(self, command: Command) -> CommandView:
        return CommandView(
            device=command.device_key,
            name=self._name(command.device_key),
            origin=command.origin,
            why="asked",
            at=command.issued_at,
            until=command.closed_at or command.away_until,
            outcome=command.outcome or str(command.stage),
        )


def _outcome(command: Command) -> str:
    said = command.outcome or str(command.stage)
    return WHY[said].format(origin=f"the {command.origin}") if said in WHY else said


def _next_off(status: SteeredStatus) -> bool | None:
    return None if status.next_away is None else status.next_away is status.normal_on


def _planned_kw(plans: dict[Origin, Plan], moment: datetime) -> float | None:
    """What is planned at that moment: the hand's, or the schedule's within the limit's."""
    found = {origin: plan.at(moment) for origin, plan in plans.items()}
    hand = found.get(Origin.HAND)
    if hand is not None:
        return hand.power_w / 1000
    asked = [i.power_w for i in (found.get(Origin.LIMIT), found.get(Origin.SCHEDULE)) if i]
    return min(asked) / 1000 if asked else None


def _steps(start: datetime, end: datetime) -> Iterator[datetime]:
    while start < end:
        yield start
        start += _PLAN_STEP


def _controllable(key: str, wanted: ControlRequest) -> Controllable:
    return Controllable(
        device_key=key,
        nominal_power_w=wanted.nominal_power_w,
        off_power_w=wanted.off_power_w,
        away_longest=wanted.away_longest_min * _MINUTE,
        rest_shortest=wanted.rest_shortest_min * _MINUTE,
        left_alone=tuple(
            (time.fromisoformat(each.start), time.fromisoformat(each.end))
            for each in wanted.left_alone
        ),
        timezone=wanted.timezone or own_zone(),
        normal_on=wanted.normal_on,
        consent=wanted.consent,
    )


def _triggers(wish: OwnTriggers | None) -> TriggerView | None:
    if wish is None:
        return None
    return TriggerView(
        price_sensor_id=wish.price_sensor_id,
        worth_per_kwh=wish.worth_per_kwh,
        every_minutes=wish.every / _MINUTE,
        horizon_hours=wish.horizon / timedelta(hours=1),
    )
