"""The box in a home: its stick driven, claimed and paired by a person, its readings accounted for.

One box carries the whole story: its stick found by udev, interviewed, claimed and paired in a real
browser with a real FlexMeasures, cut off from it and back, weighed, kept from an update by a plug
that is off, its card searched for secrets.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.house.flexmeasures import FlexMeasuresServer
from tests.image import watcher
from tests.image.conftest import Built
from tests.image.home import (
    NODES,
    SLOT,
    THIS_MACHINE,
    HouseOnAStick,
    Owner,
    TimeServer,
    far_from_the_house,
    port_of_a_web_server,
    whole_minute,
)
from tests.image.machine import Machine, Moment
from tests.image.maker import Maker
from tests.image.shelf import put, shelf_server, trust
from tests.image.weight import told, used_mib
from tests.page.browser import browser, watched

PASSWORD = "CANARY-box-password"
PLACES = 6  # the whole house, its three clamps, two plugs
PATIENCE_S = 900.0
NOT_YET = datetime(2100, 1, 1, tzinfo=UTC)
PLUG = 3  # its node
OTHER_SYSTEM = 3  # the partition of the one that does not run
NIGHTLY = "edge-update-check.service"
CLICK_PATIENCE_MS = 240_000  # a page of an emulated board on a busy machine
USED_MIB_MAX = 220
# In the field slots leave once in five minutes; nobody wants to watch that here.
SOONER = "[flexmeasures]\nupload_every_s = 15\nbackfill_spread_s = 0\n"


@dataclass
class Home:
    house: HouseOnAStick
    box: Machine
    server: FlexMeasuresServer
    site: int = 0
    sensor: int = 0
    plug: str = ""  # the box's key of node PLUG
    since: datetime = NOT_YET  # whole minutes from here on are surely measured
    owner: Owner | None = None

    @property
    def url(self) -> str:
        return f"http://flexbox.local:{self.box.http_port}"

    def slots(self, until: datetime) -> dict[datetime, float]:
        assert self.owner is not None
        return self.owner.slots(self.sensor, self.since, until)

    def wait_for_slots(self, until: datetime) -> dict[datetime, float]:
        """Every minute from `since` to `until`, once FlexMeasures holds them all."""
        wanted = (until - self.since) // SLOT
        end = time.monotonic() + PATIENCE_S
        while len(found := self.slots(until)) < wanted:
            assert time.monotonic() < end, f"{len(found)} of {wanted} slots since {self.since}"
            time.sleep(5)
        return found


@pytest.fixture(scope="module")
def home(started: Moment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("home")
    with (
        TimeServer(),
        FlexMeasuresServer(port=port_of_a_web_server()) as server,
        HouseOnAStick(folder) as house,
        Machine.at(started, folder) as box,
    ):
        yield Home(house, box, server)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    profile = tmp_path_factory.mktemp("profile")
    with browser(profile, "--host-resolver-rules=MAP flexbox.local 127.0.0.1") as opened:
        opened.set_default_timeout(CLICK_PATIENCE_MS)
        expect.set_options(timeout=CLICK_PATIENCE_MS)
        yield opened
        expect.set_options(timeout=5_000)


def test_a_person_claims_it_in_a_browser(home: Home, context: BrowserContext) -> None:
    seen = watched(context)
    page = seen.page
    page.goto(home.url)
    expect(page).to_have_url(f"{home.url}/claim")
    page.fill("#password", PASSWORD)
    go_on(page)
    expect(page).to_have_url(f"{home.url}/flexmeasures")
    assert seen.complaints == []
    page.close()


def test_the_stick_is_found_driven_and_metered(home: Home) -> None:
    home.box.give_a_stick(home.house.port)
    came_s = time.monotonic()
    # What a home's router does: the time by NTP.
    home.box.add_settings(SOONER)
    home.box.run(
        "mkdir -p /run/systemd/timesyncd.conf.d && "
        f"printf '[Time]\\nNTP={THIS_MACHINE}\\n' >/run/systemd/timesyncd.conf.d/home.conf && "
        "systemctl restart systemd-timesyncd.service edge-agent.service"
    )
    watcher.begin(home.box)
    home.box.wait_until("systemctl is-active zwave-js-server.service", PATIENCE_S)
    listening = home.box.wait_until("ss -Hlnt sport = :3000 | grep .", PATIENCE_S)
    assert {line.split()[3] for line in listening.splitlines()} == {"127.0.0.1:3000"}
    end = time.monotonic() + PATIENCE_S
    while True:
        status = watcher.status(home.box)
        alive = [device for device in status["devices"] if device["state"] == "alive"]
        power = [channel for channel in status["channels"] if channel["unit"] == "W"]
        metered = [channel for channel in power if channel["value"] is not None]
        if len(alive) == NODES - 1 and len(metered) >= PLACES:
            break
        assert time.monotonic() < end, status
        time.sleep(5)
    seconds = time.monotonic() - came_s
    print(f"\n  {len(alive)} meters interviewed and metered {seconds:.0f} s after the stick came")
    home.since = whole_minute(datetime.now(UTC)) + SLOT
    switches = [device["key"] for device in alive if device["is_switch"]]
    home.plug = next(key for key in switches if key.endswith(f"-{PLUG}"))


def test_a_person_pairs_it_in_the_browser(home: Home, context: BrowserContext) -> None:
    home.owner = Owner(home.server, home.server.make_account())
    home.site, home.sensor = home.owner.site_with_a_sensor()
    home.box.wait_until("test -e /run/systemd/timesync/synchronized", PATIENCE_S)
    seen = watched(context)
    page = seen.page
    page.goto(home.url)
    expect(page).to_have_url(f"{home.url}/flexmeasures")
    page.fill("#url", f"http://{THIS_MACHINE}:{home.server.port}")
    page.fill("#email", home.owner.account.email)
    page.fill("#password", home.owner.account.password)
    page.locator("input[name=allow_private]").check()
    go_on(page)
    expect(page.locator("input[name=site], [role=alert]").first).to_be_visible()
    assert page.locator("[role=alert]").all_inner_texts() == []
    expect(page.locator("h1")).to_contain_text("Which site")
    page.locator(f"input[name=site][value='{home.site}']").check()
    go_on(page)
    expect(page.locator("ul.devices li")).to_have_count(NODES - 1)
    page.goto(f"{home.url}/map")
    whole_house = page.locator(".maprow:has([name*='-2/0/active_power/import'])").first
    whole_house.locator("summary").click()
    whole_house.locator("select[name$='.sensor']").select_option(str(home.sensor))
    page.get_by_role("button", name="Save").click()
    expect(page).to_have_url(f"{home.url}/live?said=map_kept")
    expect(page.locator("#live .sent.good").first).to_be_visible()
    assert seen.complaints == []
    page.close()


def test_readings_arrive_and_are_the_houses(home: Home) -> None:
    until = max(whole_minute(datetime.now(UTC)), home.since + 2 * SLOT)
    found = home.wait_for_slots(until)
    assert far_from_the_house(found) == {}
    print(f"\n  {len(found)} minutes of the whole house arrived as they were")


def test_without_network_nothing_is_lost(home: Home) -> None:
    """Away while two minutes end; the second was measured without network from start to end."""
    home.box.unplug_network()
    cut = datetime.now(UTC)
    back = whole_minute(cut) + 2 * SLOT
    time.sleep((back - cut).total_seconds() + 5)
    silent = home.slots(back)
    assert max(silent) < whole_minute(cut), "the network was not away"
    home.box.plug_network()
    found = home.wait_for_slots(back)
    assert far_from_the_house(found) == {}
    gap = [start for start in found if start >= whole_minute(cut)]
    assert len(gap) == 2
    print(f"\n  {len(gap)} minutes without network arrived afterwards")
    assert watcher.status(home.box)["flexmeasures"]["slots_rejected"] == 0


def test_the_lamp_says_how_it_is(home: Home) -> None:
    home.box.wait_until("grep -qx healthy /run/edge/lamp", PATIENCE_S)


def test_the_whole_box_needs_little_memory(home: Home) -> None:
    """Stick, five nodes, paired, nobody looking: MemTotal less MemAvailable, as `free` has it."""
    watcher.end(home.box)
    home.box.run("systemctl stop edge-setup.service")  # as it does by itself when idle
    time.sleep(20)
    print("\n" + told(home.box))
    assert used_mib(home.box) <= USED_MIB_MAX


def test_an_update_waits_for_a_plug_that_is_off_and_is_tried_once_it_is_back(
    home: Home, built: Built, tmp_path: Path
) -> None:
    """A hand at the page switches a plug off, by radio. What is asked for at night is not even
    looked for; what is handed in waits, and is taken when the plug is seen on again."""
    box = home.box
    maker = Maker(built, tmp_path)
    newer, shelf = maker.small("newer", 1), tmp_path / "shelf"
    shelf.mkdir()
    asked: list[str] = []
    assert box.post("/log-in", password=PASSWORD)[0] == 303
    rules = {"nominal_power_w": "1000", "off_power_w": "0"}
    rules |= {"away_longest_min": "60", "rest_shortest_min": "0"}
    allowed = box.post(f"/control/device/{home.plug}", is_used="yes", consent="yes", **rules)
    assert allowed[0] == 303, allowed
    with shelf_server(shelf, tmp_path / "shelf.pem", asked) as address:
        trust(box, tmp_path / "shelf.pem", NIGHTLY)
        put(box, address, "/usr/lib/edge/release-address")
        (shelf / "latest.json").write_text("{}")
        box.run(f"systemctl start {NIGHTLY}", 300)
        assert asked == ["/latest.json"], "it looks while nothing is off"
        assert box.post("/control/hand", device=home.plug, minutes="60")[0] == 303
        box.wait_until("test -s /run/edge/curtailing")
        wait_until_told(home, [False])
        entry = {"version": maker.release["version"] + 1, "release": "newer"}
        entry |= {"bundle": newer.name, "size": newer.stat().st_size}
        newer.rename(shelf / newer.name)
        (shelf / "latest.json").write_text(json.dumps({maker.release["board"]: entry}))
        box.run(f"systemctl start {NIGHTLY}", 300)
        assert asked == ["/latest.json"], "it looks for an update while a plug is off"
    status, said = box.upload("/updates/bundle", shelf / newer.name)
    assert status == 204, said
    progress = "/run/edge-update/progress.json"
    waiting = json.loads(box.wait_until(f"grep waiting {progress}"))
    assert waiting["text"] == "a device is being curtailed; the update goes on when it is free"
    assert "The update waits: a device is switched off" in box.get("/updates")[1]
    wait_until_told(home, [False])
    with box.card.path.open("rb") as card:
        card.seek(box.card.start_of(OTHER_SYSTEM))
        assert not any(card.read(1024 * 1024)), "nothing is written meanwhile"
    assert box.post("/control/hand", device=home.plug, minutes="0")[0] == 303
    began = time.monotonic()
    assert box.wait_ended() == "trial"
    print(f"\n  on trial {time.monotonic() - began:.0f} s after the plug was given back")
    wait_until_told(home, [False, True])
    assert {"vmlinuz", "release.json"} <= box.card.names(OTHER_SYSTEM)


def wait_until_told(home: Home, wanted: list[bool]) -> None:
    """What reached the plug by radio, said twice or once, and its relay as the last one said."""
    end = time.monotonic() + PATIENCE_S
    stick = home.house.stick
    while True:
        told = [on for on, _ in groupby(home.house.do(lambda: stick.switched(PLUG)))]
        if told == wanted and home.house.do(lambda: stick.is_on(PLUG)) is wanted[-1]:
            return
        assert time.monotonic() < end, f"the plug was told {told}, not {wanted}"
        time.sleep(0.5)


def test_no_secret_is_on_the_card_in_the_open(home: Home, tmp_path: Path) -> None:
    """Searched on the whole disk, free blocks included, as somebody with a card reader would."""
    assert home.owner is not None
    home.box.power_off()
    secrets = [PASSWORD.encode(), home.owner.account.password.encode()]
    with home.box.card.path.open("rb") as card:
        tail = b""
        while chunk := card.read(8 * 1024 * 1024):
            if chunk.count(0) == len(chunk):
                tail = b""
                continue
            for secret in secrets:
                assert secret not in tail + chunk
            tail = chunk[-64:]


def go_on(page: Page) -> None:
    page.locator("main form button[type=submit]").first.click()
