"""The Smappee cloud as a family: reads windows of five-minute energy, switches actuators.

The cloud shows an interval minutes after it is over and may correct or complete it for days, so
every cycle reads a sliding window again and offers what is new or different. The cloud keeps 14
days: after an outage of the box or of the line the whole gap is read. What comes days late is
offered with the rest of its day, which the box may have let go.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from edge.clock import Clock
from edge.devices.smappee.cloud import Account, Login
from edge.devices.smappee.holds import OWN_TIMERS, SmappeeHold, exact_hold
from edge.devices.smappee.location import Location, list_locations
from edge.devices.smappee.news import News
from edge.devices.smappee.readings import (
    FAMILY,
    FIVE_MINUTES,
    KEPT_BY_CLOUD,
    Measured,
    actuator_devices,
    appliance_channel,
    event_readings,
    readings,
    start_of,
)
from edge.errors import EdgeError, Malformed, Refused
from edge.family import Answers, Choice, Field, Found, GetSecret, Notebook
from edge.model import Channel, Device, Intake, Reading

CLOUD = "https://app1pub.smappee.net/dev"
CYCLE = FIVE_MINUTES
TRUST_AGAIN_AFTER = timedelta(seconds=10)
CHUNK = timedelta(days=1)  # one question; 288 records
BETWEEN_CHUNKS = timedelta(seconds=1)  # while catching up: the cloud's rate limit is not published
INFO_EVERY = timedelta(hours=1)
NOTE_EVERY = timedelta(hours=1)  # how often "read until" is written to the card
# How far back is read again, and how often: records arrive late by minutes, or by days after the
# monitor itself was off line.
REREADS = (
    (timedelta(0), timedelta(hours=2)),
    (timedelta(hours=1), timedelta(hours=48)),
    (timedelta(days=1), KEPT_BY_CLOUD),
)
# The box keeps readings two days after their slots. What is older than this comes with its whole
# day (UTC, as FlexMeasures counts), so that a slot of any length up to a day is made again whole.
NEIGHBOURS_KEPT = timedelta(days=1)
_NOTE, _SINCE = "smappee.read-until", "smappee.since"


@dataclass(frozen=True, slots=True)
class CloudSettings:
    login: Login
    locations: tuple[int, ...]  # none: all of the account
    appliances: tuple[int, ...]  # whose events are wanted
    history: bool

    @classmethod
    def read(
        cls, fields: tuple[Field, ...], config: Mapping[str, Any], secret: GetSecret
    ) -> "CloudSettings":
        """From the configuration. `api` (v3, v2) and `cloud` are for those who know why."""
        answers = Answers(FAMILY, fields, config, secret)
        login = Login(
            f"{config.get('cloud', CLOUD)}/{config.get('api', 'v3')}/",
            answers.text("client_id"),
            answers.text("username"),
            answers.secret("client_secret"),
            answers.secret("password"),
        )
        settings = cls(
            login,
            answers.numbers("locations"),
            answers.numbers("appliances"),
            answers.text("history") == "all",
        )
        answers.settle()
        return settings


class CloudSmappee:
    """Meter and Switch over one Smappee account."""

    family = FAMILY

    def __init__(
        self, settings: CloudSettings, intake: Intake, clock: Clock, notebook: Notebook
    ) -> None:
        self._settings = settings
        self._intake = intake
        self._clock = clock
        self._notebook = notebook
        self._account = Account(settings.login, clock)
        self._locations: dict[int, Location] = {}
        self._news = News()
        self._announced: dict[str, Channel] = {}
        self._note_due_ms = 0
        spread = hashlib.sha256(f"{settings.login.username}{settings.locations}".encode()).digest()
        self._offset = CYCLE * (spread[0] / 256)  # boxes that start together do not ask together

    @staticmethod
    async def check(settings: CloudSettings, clock: Clock) -> Found:
        """Log in, list every service location and what it measures."""
        account = Account(settings.login, clock)
        channels, devices, choices = [], [], []
        for ident, name in (await list_locations(account)).items():
            place = Location(ident, name)
            await place.describe(account)
            now = clock.wall_now()
            told = await place.records(account, None, now - CHUNK / 8, now)
            said = {key for record in told for key in record}
            for sensor, measures in place.measures():
                channels += [m.channel for m in measures if sensor is not None or m.field in said]
            devices += place.devices(now)
            choices.append(Choice("locations", str(ident), name))
            choices += [
                Choice("appliances", str(a["id"]), str(a.get("name") or a["id"]), preselected=False)
                for a in place.info.get("appliances", ())
            ]
        return Found(tuple(channels), tuple(devices), tuple(choices))

    async def run(self) -> None:
        """Read cycle after cycle. One location's trouble does not hide another's readings."""
        while not self._clock.is_trusted():  # windows are asked for by wall time
            await self._clock.sleep(TRUST_AGAIN_AFTER)
        if not self._locations:
            await self._find_locations()
        while True:
            await self._cycle()
            await self._clock.sleep(self._until_next_cycle())

    def devices(self) -> list[Device]:
        now = self._clock.wall_now()
        return [device for place in self._locations.values() for device in place.devices(now)]

    async def offer_history(self, held_since: Mapping[str, datetime | None]) -> None:
        """Offer what the cloud has of these channels once more, at the next cycle."""
        if not self._settings.history:
            return
        for place in self._locations.values():
            own = {key for key in held_since if key.startswith(f"{FAMILY}/{place.device}/")}
            if own:
                place.read_until = None
            self._news.forget(own)

    # --- reading ---------------------------------------------------------------------------------

    async def _find_locations(self) -> None:
        known = await list_locations(self._account)
        wanted = self._settings.locations or tuple(known)
        if missing := [ident for ident in wanted if ident not in known]:
            raise Refused(
                f"Smappee no longer shows service location {', '.join(map(str, missing))} to this "
                "account: choose the service locations again"
            )
        noted = await self._notebook.get(_NOTE) or {}
        not_yet = [self._in_ms(every) for every, _ in REREADS]
        found = {
            ident: Location(
                ident, known[ident], _moment(noted.get(str(ident))), reread_due_ms=not_yet.copy()
            )
            for ident in wanted
        }
        if not self._settings.history:
            await self._begin_now(found.values())
        self._locations = found

    async def _begin_now(self, places: Iterable[Location]) -> None:
        """The person wants nothing from before: note when each of them began, once."""
        begun = dict(await self._notebook.get(_SINCE) or {})
        known = dict(begun)
        for place in places:
            place.since = _moment(begun.get(place.device))
            if place.since is None:
                place.since = (place.read_until or self._clock.wall_now()) - REREADS[0][1]
                begun[place.device] = place.since.isoformat()
        if begun != known:
            await self._notebook.put(_SINCE, begun)

    async def _cycle(self) -> None:
        problems: list[EdgeError] = []
        for place in self._locations.values():
            try:
                await self._read(place)
            except EdgeError as problem:
                place.malformed += isinstance(problem, Malformed)
                problems.append(problem)
        await self._note_marks()
        if problems:
            raise problems[0]

    async def _read(self, place: Location) -> None:
        now = self._clock.wall_now()
        if self._clock.boottime_ms() >= place.info_due_ms:
            await place.describe(self._account)
            place.info_due_ms = self._in_ms(INFO_EVERY)
        start, rereads = self._window(place, now)
        chunks = list(_chunks(start, now))
        catching_up = len(chunks) > REREADS[1][1] // CHUNK + 1
        for number, (chunk_start, chunk_end) in enumerate(chunks):
            if number:
                await self._clock.sleep(BETWEEN_CHUNKS)
            await self._read_chunk(place, chunk_start, chunk_end, now)
            place.history_done = (number + 1) / len(chunks) if catching_up else 1.0
        place.read_until = now
        for number in rereads:
            place.reread_due_ms[number] = self._in_ms(REREADS[number][0])

    def _window(self, place: Location, now: datetime) -> tuple[datetime, list[int]]:
        """From when to read now, and which of REREADS that fulfils."""
        oldest = now - KEPT_BY_CLOUD + FIVE_MINUTES
        oldest = max(oldest, place.since or oldest)
        if place.read_until is None:
            return oldest, list(range(len(REREADS)))
        due = [
            number
            for number, due_ms in enumerate(place.reread_due_ms)
            if self._clock.boottime_ms() >= due_ms
        ]
        start = min([place.read_until - REREADS[0][1], *(now - REREADS[n][1] for n in due)])
        if start < now - NEIGHBOURS_KEPT:
            start = _midnight(start)
        return max(start, oldest), due

    async def _read_chunk(
        self, place: Location, start: datetime, end: datetime, now: datetime
    ) -> None:
        told: list[tuple[Measured, Reading]] = []
        try:
            for sensor, measures in place.measures():
                if sensor is None or measures:
                    records = await place.records(self._account, sensor, start, end)
                    told += readings(records, measures, now)
                if sensor is None and told:
                    place.newest = max(place.newest or start, start_of(told[-1][1]) + FIVE_MINUTES)
        finally:  # one sensor's trouble does not hide the others
            for measured, reading in self._news.of(told, now - NEIGHBOURS_KEPT):
                self._offer(measured.channel, reading)
        for appliance in place.info.get("appliances", ()):
            if appliance["id"] in self._settings.appliances:
                events = await place.events(self._account, appliance["id"], start, end)
                channel = appliance_channel(place.device, appliance)
                for event in event_readings(events, channel):
                    if self._news.is_news(event, now):
                        self._offer(channel, event)

    def _offer(self, channel: Channel, reading: Reading) -> None:
        if self._announced.get(channel.key) != channel:
            self._announced[channel.key] = channel
            self._intake.announce([channel])
        self._intake.offer(reading)

    async def _note_marks(self) -> None:
        """Write down how far was read, so that a restart asks for no more than it missed."""
        if self._clock.boottime_ms() < self._note_due_ms:
            return
        marks = {
            place.device: place.read_until.isoformat()
            for place in self._locations.values()
            if place.read_until
        }
        await self._notebook.put(_NOTE, marks)
        self._note_due_ms = self._in_ms(NOTE_EVERY)

    def _until_next_cycle(self) -> timedelta:
        """To the next five minutes plus this box's own offset."""
        passed = (self._clock.wall_now() - datetime.fromtimestamp(0, UTC) - self._offset) % CYCLE
        return CYCLE - passed

    def _in_ms(self, wait: timedelta) -> int:
        return self._clock.boottime_ms() + wait // timedelta(milliseconds=1)

    # --- switching -------------------------------------------------------------------------------

    async def turn_off(self, device: str, hold: timedelta | None) -> None:
        location, actuator = self._actuator(device)
        duration: SmappeeHold | None = None
        if hold is not None:
            duration = exact_hold(hold)
            if duration is None:
                raise Refused(
                    f"Smappee has no timer of {hold}: off would be for ever. Its timers: "
                    f"{', '.join(str(timer) for timer in OWN_TIMERS)}"
                )
        seconds = None if duration is None else int(duration)
        await self._account.ask(lambda s: s.actuator_off(location, actuator, duration=seconds))

    async def turn_on(self, device: str) -> None:
        location, actuator = self._actuator(device)
        await self._account.ask(lambda s: s.actuator_on(location, actuator))

    async def is_on(self, device: str) -> bool | None:
        location, _ = self._actuator(device)
        place = self._locations[location]
        await place.describe(self._account)
        states = {key: is_on for key, _, is_on in actuator_devices(place.device, place.info)}
        if device not in states:
            raise Refused(f"Smappee no longer shows actuator {device}: was it removed?")
        return states[device]

    def _actuator(self, device: str) -> tuple[int, int]:
        location, _, actuator = device.partition(".")
        if not (location.isdecimal() and actuator.isdecimal()):
            raise Refused(f"Smappee device {device} is no actuator")
        if int(location) not in self._locations:
            raise Refused(f"Smappee service location {location} is not in use here (yet)")
        return int(location), int(actuator)


def _chunks(start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """[start, end) day by day, the newest first: what happens now does not wait."""
    pieces = []
    while start < end:
        first = max(start, _midnight(end - FIVE_MINUTES))
        pieces.append((first, end))
        end = first
    return pieces


def _midnight(moment: datetime) -> datetime:
    """The beginning of a moment's day in UTC."""
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo else None
