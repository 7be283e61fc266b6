"""Password, backup, reset and restore, and a new stick: a year later, before the whole house."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from playwright.sync_api import BrowserContext, Page, expect

from edge.cli.door import ask
from edge.contract import Status
from edge.errors import EdgeError
from tests.house import arrived
from tests.house.flexmeasures import Account, FlexMeasuresServer
from tests.house.stick import PLUGS, Value, W
from tests.page.old_sensor import ARRIVES_WITHIN_S, OldSensor, fed
from tests.page.settled import (
    at_home,
    go_on,
    looked_at,
    open_device,
    owner_of,
)
from tests.page.whole_house import WholeHouse

PASSPHRASE = "CANARY Sätze mit Umlauten"
KETTLE = PLUGS[0]
BACK_WITHIN_MS = 60_000
BOX_SENSORS = 4  # heartbeat and three more


@pytest.fixture
def page(house: WholeHouse, server: FlexMeasuresServer, context: BrowserContext) -> Page:
    return at_home(house, server, context).page


def status(house: WholeHouse) -> Status:
    return ask(house.own_socket, "GET", "/status", Status)


def test_a_changed_password_logs_everybody_else_out(house: WholeHouse, page: Page) -> None:
    laptop = requests.Session()
    laptop.headers["origin"] = house.url
    laptop.post(f"{house.url}/log-in", {"password": house.password}, timeout=20)
    assert laptop.get(f"{house.url}/events", allow_redirects=False, timeout=20).status_code == 200

    page.goto(f"{house.url}/box")
    page.fill("#current", "CANARY not the one")
    page.fill("#new", "CANARY-another-password")
    page.get_by_role("button", name="Change").click()
    expect(page.locator("main .problem")).to_contain_text("not the password of the box")
    page.fill("#current", house.password)
    page.fill("#new", "CANARY-another-password")
    page.get_by_role("button", name="Change").click()
    expect(page.locator(".said")).to_contain_text("Everybody else was logged out")
    page.goto(f"{house.url}/events")
    expect(page.locator("main")).to_contain_text("The password was changed")  # and we are still in

    answer = laptop.get(f"{house.url}/events", allow_redirects=False, timeout=20)
    assert answer.status_code == 401
    refused = laptop.post(f"{house.url}/log-in", {"password": house.password}, timeout=20)
    assert refused.status_code == 403
    house.password = "CANARY-another-password"


def test_a_file_that_is_no_whole_backup_is_refused_in_words(
    house: WholeHouse, page: Page, tmp_path: Path
) -> None:
    whole = save_backup(house, page, "")
    foreign = {"homeassistant": {"version": "2026.1"}}
    altered = json.loads(whole) | {"memories": {"7e570001-20260301T120000.nvm": "no base64!"}}
    for content, said in (
        (whole[: len(whole) // 2], "not a backup"),
        (json.dumps(foreign).encode(), "not a backup"),
        (json.dumps(altered).encode(), "not a backup"),
        (b"PK\x03\x04 a zip", "not a backup"),
        (b"", "not a backup"),
        (b" " * (9 * 1024 * 1024), "too large"),
    ):
        path = tmp_path / "backup.json"
        path.write_bytes(content)
        bring_back(house, page, path, "")
        expect(page.locator("body")).to_contain_text(said, ignore_case=True)
    assert status(house).flexmeasures.paired


def test_a_new_box_goes_on_as_the_old_one(
    house: WholeHouse,
    server: FlexMeasuresServer,
    context: BrowserContext,
    page: Page,
    tmp_path: Path,
) -> None:
    """Backup, factory reset, a fresh claim, and everything back: pairing, mapping, names, copies
    of the stick's memory; FlexMeasures sees the same box, and the first slot it takes from it goes
    where those before went."""
    owner = owner_of(house, server)
    sensor = OldSensor.make(house, server, "kettle of old")
    sensor.choose(house, page, KETTLE)
    open_device(house, page, KETTLE)
    page.fill("#rename", "Kettle")
    page.locator("form", has=page.locator("#rename")).get_by_role("button").click()
    copy_the_stick(house, page)
    feeds = fed(house)
    assert any(feeds.values())
    house.until(lambda: tells_how_it_is(server, owner), within_s=60, every_s=3)
    known = arrived.sensors(server.url, owner)
    assert len(known) == len(set(known))
    content = save_backup(house, page, PASSPHRASE)
    assert b"CANARY" not in content
    assert owner.password.encode() not in content
    assert json.loads(content)["memories"]

    reset(house, page)
    forget_the_drivers_cache(house)
    assert not any(house.state.rglob("*.nvm"))
    assert not status(house).flexmeasures.paired
    assert owner.password.encode() not in (house.state / "state.db").read_bytes()

    house.password = "CANARY-of-the-new-box"
    page.goto(house.url)
    page.fill("#password", house.password)
    go_on(page)
    page.wait_for_url("**/flexmeasures")
    path = tmp_path / "backup.json"
    path.write_bytes(content)
    bring_back(house, page, path, "not the passphrase")
    expect(page.locator("main .problem")).to_contain_text("not the passphrase of this backup")
    bring_back(house, page, path, PASSPHRASE)
    expect(page.locator(".said")).to_contain_text("with its passwords and keys", timeout=60_000)

    house.agent_answers()
    expect(page.locator("#backup")).to_be_visible(timeout=60_000)  # its own reload is over
    page.goto(f"{house.url}/map")  # FlexMeasures is asked, with the password of the backup
    assert page.locator(".maprow select").first.locator("option").count() > len(feeds.values()) / 4
    assert status(house).flexmeasures.paired_as == owner.email
    assert fed(house) == feeds
    assert arrived.sensors(server.url, owner) == known
    open_device(house, page, KETTLE)
    expect(page.locator("h1")).to_have_text("Kettle")
    page.goto(f"{house.url}/network/memory")
    expect(page.locator("input[name=text]").first).to_be_visible()
    page.goto(house.url)
    expect(page).to_have_url(f"{house.url}/live")  # nothing is left to do but wait for a slot
    expect(page.locator("#live .sent:not(.good)")).to_be_visible()
    since = datetime.now(UTC)
    house.do(lambda: house.stick.report(Value(KETTLE, 0, W, 900.0)))
    expect(page.locator("#live .sent.good")).to_be_visible(timeout=ARRIVES_WITHIN_S * 1000)
    sensor.wait_for(house, 0.9, since)
    assert arrived.sensors(server.url, owner) == known
    page.goto(house.url)
    expect(page).to_have_url(f"{house.url}/")


def test_a_new_stick_gets_the_memory_of_the_old_one(
    house: WholeHouse, server: FlexMeasuresServer, context: BrowserContext
) -> None:
    seen = at_home(house, server, context)
    page = seen.page
    copy_the_stick(house, page)
    old = house.do(house.stick.memory)
    house.do(house.stick.forget_memory)
    assert house.do(house.stick.memory) != old
    page.goto(f"{house.url}/meters")
    page.locator("summary", has_text="Remove a device").click()
    page.get_by_role("link", name="A new stick").click()
    looked_at(seen)
    page.locator("input[name=text]").first.check()
    page.get_by_role("button", name="Write it into the stick").click()
    expect(page.locator(".notice.good")).to_contain_text("memory of the old one", timeout=90_000)
    looked_at(seen)
    assert house.do(house.stick.memory) == old
    house.agent_answers()
    open_device(house, page, KETTLE)
    expect(page.locator("h1")).to_have_text("Kettle")
    assert seen.complaints == []


def tells_how_it_is(server: FlexMeasuresServer, owner: Account) -> bool:
    """Whether the box has made the sensors of its own health, with its first upload."""
    return sum(of == "box" for of, _ in arrived.sensors(server.url, owner)) >= BOX_SENSORS


def save_backup(house: WholeHouse, page: Page, passphrase: str) -> bytes:
    page.goto(f"{house.url}/box")
    page.fill("#passphrase", passphrase)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save a backup").click()
    return Path(download.value.path()).read_bytes()


def bring_back(house: WholeHouse, page: Page, path: Path, passphrase: str) -> None:
    page.goto(f"{house.url}/box")
    page.locator("summary", has_text="Bring a backup back").click()
    page.set_input_files("#file", path)
    page.fill("#restore-passphrase", passphrase)
    page.get_by_role("button", name="Bring it back").click()


def copy_the_stick(house: WholeHouse, page: Page) -> None:
    """Its memory is copied before each adding; nobody joins this time."""
    page.goto(f"{house.url}/network/add")
    page.get_by_role("button", name="Start").click()
    expect(page.locator(".press")).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".notice.bad")).to_contain_text("Stopped", timeout=20_000)


def reset(house: WholeHouse, page: Page) -> None:
    page.goto(f"{house.url}/box")
    page.locator("summary", has_text="Factory reset").click()
    page.fill("#reset-password", "CANARY not the one")
    page.get_by_role("button", name="Forget everything").click()
    expect(page.locator("main .problem")).to_contain_text("not the password of the box")
    page.fill("#reset-password", house.password)
    page.get_by_role("button", name="Forget everything").click()
    house.until(lambda: not (house.state / "claimed").exists())
    expect(page.locator("#password")).to_be_visible(timeout=BACK_WITHIN_MS)
    expect(page).to_have_url(f"{house.url}/claim")


def forget_the_drivers_cache(house: WholeHouse) -> None:
    """On a new box the driver knows of no device and no name either."""

    async def anew() -> None:
        await house.driver.stop()
        shutil.rmtree(house.folder / "driver" / "cache")
        (house.folder / "driver" / "cache").mkdir()

    house.do(anew)  # it is started again at once
    house.until(lambda: hears_all(house), within_s=90)


def hears_all(house: WholeHouse) -> bool:
    try:
        return sum(device.state == "alive" for device in status(house).devices) >= 3
    except EdgeError:
        return False
