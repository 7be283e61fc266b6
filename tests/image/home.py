"""What stands around the emulated board: the house on its stick, time, FlexMeasures, a browser.

The stick is the house's simulated one: QEMU's USB serial adapter carries its port into the guest.
To the guest this machine is 10.0.2.2, a server in the home's own network.
"""

import asyncio
import random
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from tests.house import exact, household
from tests.house.flexmeasures import FlexMeasuresServer
from tests.house.flexmeasures.process import Account
from tests.house.replay import Replay
from tests.house.stick import Stick

THIS_MACHINE = "10.0.2.2"
NODES = 5  # stick, clamp meter, three plugs
SLOT = timedelta(minutes=1)
_NTP_PORT = 123  # the only one systemd-timesyncd asks
_NTP_EPOCH_S = 2_208_988_800


class HouseOnAStick:
    """The household, played in real time on a simulated stick, in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = folder / "zstick"
        self._ready = threading.Event()
        self._problem: BaseException | None = None

    def __enter__(self) -> "HouseOnAStick":
        self._thread = threading.Thread(target=self._live)
        self._thread.start()
        assert self._ready.wait(60), "the simulated stick did not start"
        if self._problem is not None:
            raise self._problem
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)

    def do[T](self, doing: Callable[[], Awaitable[T]]) -> T:
        """Run something on the house's loop and wait for it."""

        async def run() -> T:
            return await doing()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(60)

    def _live(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as problem:  # noqa: BLE001 # told in the test's own thread
            self._problem = problem
            self._ready.set()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with Stick(self.port, extra_plugs=NODES - 4) as self.stick, asyncio.TaskGroup() as on:
            replay = Replay(self.stick, household.load())
            await replay.show()
            playing = on.create_task(replay.run())
            self._ready.set()
            await self._stop.wait()
            playing.cancel()


class TimeServer:
    """This machine's time, by NTP; the guest finds it at THIS_MACHINE."""

    def __enter__(self) -> "TimeServer":
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", _NTP_PORT))
        self._socket.settimeout(0.5)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._answer)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()

    def _answer(self) -> None:
        while not self._over.is_set():
            try:
                asked, who = self._socket.recvfrom(256)
            except TimeoutError:
                continue
            now = _ntp_time(time.time())
            head = struct.pack(">BBbbII4s", 0x24, 1, 6, -20, 0, 1, b"GPS\0")
            self._socket.sendto(head + now + asked[40:48] + now + now, who)


def _ntp_time(unix_s: float) -> bytes:
    whole = int(unix_s)
    return struct.pack(">II", whole + _NTP_EPOCH_S, int((unix_s - whole) * 2**32))


def port_of_a_web_server() -> int:
    """A free port among those the box lets a FlexMeasures be served on."""
    for port in random.sample(range(5200, 6000), 50):  # two modules do not choose the same
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("of fifty ports between 5200 and 6000 none is free")


class Owner:
    """A person's account at FlexMeasures, looked into without code of the box."""

    def __init__(self, server: FlexMeasuresServer, account: Account) -> None:
        self._api = f"{server.url}/api/v3_0"
        self.account = account
        self._session = requests.Session()
        body = {"email": account.email, "password": account.password}
        token = self._session.post(f"{server.url}/api/requestAuthToken", json=body, timeout=30)
        self._session.headers["Authorization"] = token.json()["auth_token"]

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        answer = self._session.request(method, f"{self._api}/{path}", timeout=60, **more)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:300]}"
        return answer.json()

    def site_with_a_sensor(self) -> tuple[int, int]:
        """A building with a sensor of one minute, as one who has used FlexMeasures before has."""
        types = {each["name"]: each["id"] for each in self._ask("GET", "assets/types")}
        site = self._ask(
            "POST",
            "assets",
            json={
                "name": "Our house",
                "generic_asset_type_id": types["building"],
                "account_id": self.account.account_id,
            },
        )["id"]
        sensor = self._ask(
            "POST",
            "sensors",
            json={
                "name": "whole house",
                "unit": "kW",
                "event_resolution": "PT1M",
                "generic_asset_id": site,
                "attributes": '{"consumption_is_positive": true}',
            },
        )["id"]
        return site, sensor

    def slots(self, sensor: int, start: datetime, end: datetime) -> dict[datetime, float]:
        """What FlexMeasures holds, in watts, by start; [start, end) on whole minutes."""
        query = {
            "start": start.isoformat(),
            "duration": f"PT{(end - start) // SLOT}M",
            "unit": "kW",
            "resolution": "PT1M",
        }
        series = self._ask("GET", f"sensors/{sensor}/data", params=query)
        first = datetime.fromisoformat(series["start"]).astimezone(UTC)
        return {
            first + number * SLOT: 1000 * value
            for number, value in enumerate(series["values"])
            if value is not None
        }


def whole_minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def far_from_the_house(slots: dict[datetime, float]) -> dict[datetime, tuple[float, float]]:
    """Slots of the whole house that are not its mean, seen up to a few seconds late: what came and
    what was. A slow emulator needs that long from the meter to the agent."""
    lateness_s = [tenths / 10 for tenths in range(-10, 81)]

    def mean_w(start: datetime, late_s: float) -> float:
        moved = start - timedelta(seconds=late_s)
        return exact.mean_w(2, 0, moved, moved + SLOT)

    return {
        start: (came_w, mean_w(start, 0))
        for start, came_w in slots.items()
        if min(abs(came_w - mean_w(start, late_s)) for late_s in lateness_s) > 2
    }
