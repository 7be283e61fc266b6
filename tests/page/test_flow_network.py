"""Adding, mending, replacing and removing Z-Wave devices from the page: real driver, mock stick."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.house.flexmeasures import FlexMeasuresServer
from tests.house.stick import METER, PLUGS, Value, W
from tests.page.browser import Watched
from tests.page.old_sensor import OldSensor, fed, of_devices
from tests.page.settled import (
    HOME,
    at_home,
    calm,
    everything_reports,
    looked_at,
    open_device,
    pin_of,
)
from tests.page.test_browser import LABEL, LABEL_DIGITS
from tests.page.whole_house import WholeHouse

JOINS_WITHIN_MS = 45_000  # each takes five seconds where the machine has nothing else to do
OLD_PLUG = PLUGS[1]  # the one that breaks
WRONG_PIN, CANCELLED, WITH_PHOTO, WITH_TYPED_CODE, LOST = 30, 31, 32, 33, 34
LEFT, CAME_BACK = 35, 36  # one plug, before and after somebody included it anew


@pytest.fixture(scope="module")
def seen(
    house: WholeHouse, server: FlexMeasuresServer, context: BrowserContext
) -> Iterator[Watched]:
    """The one page all of it happens on; nothing it ever complains of is let pass."""
    opened = at_home(house, server, context)
    yield opened
    assert opened.complaints == []


@pytest.fixture
def page(seen: Watched) -> Page:
    return seen.page


def shown_soon(page: Page, words: str, where: str = "dl.facts") -> Locator:
    """What is known of the device, once it says so: a report is on its way for a moment, and the
    driver tells of its routes a bit later."""
    facts = page.locator(where).first
    for _ in range(20):
        if words in " ".join(page.locator(where).all_inner_texts()):
            return facts
        time.sleep(0.5)
        page.reload()
    raise AssertionError(page.locator("main").inner_text())


def start_adding(house: WholeHouse, page: Page) -> None:
    page.goto(f"{house.url}/network/add")
    page.get_by_role("button", name="Start").click()


def joins(house: WholeHouse, page: Page, node: int) -> None:
    house.do(lambda: house.stick.pend(node))
    start_adding(house, page)
    ends_well(page, "ready")


def rename(house: WholeHouse, page: Page, node: int, name: str) -> None:
    open_device(house, page, node)
    page.fill("#rename", name)
    page.locator("form", has=page.locator("#rename")).get_by_role("button").click()
    expect(page.locator("h1")).to_have_text(name)


def ends_well(page: Page, words: str) -> None:
    expect(page.locator(".notice.good")).to_contain_text(words, timeout=JOINS_WITHIN_MS)


def ends_badly(page: Page, words: str, advice: str) -> None:
    expect(page.locator(".notice.bad")).to_contain_text(words, timeout=JOINS_WITHIN_MS)
    expect(page.locator(".notice.bad")).to_contain_text(advice)


def remove_with_button(house: WholeHouse, page: Page, node: int) -> None:
    page.goto(f"{house.url}/meters")
    page.locator("summary", has_text="Remove a device").click()
    house.do(lambda: house.stick.exclude(node))
    page.get_by_role("button", name="Remove any device").click()
    ends_well(page, "removed")


def dies(house: WholeHouse, page: Page, node: int) -> None:
    """Out of reach, and called in vain."""
    house.do(lambda: house.stick.offline(node))
    open_device(house, page, node)
    page.get_by_role("button", name="Ping").click()
    expect(page.locator("main")).to_contain_text("does not answer", timeout=30_000)
    open_device(house, page, node)
    expect(page.locator(".notice.ask")).to_contain_text("This device is silent")


# --- what FlexMeasures holds --------------------------------------------------------------------


@dataclass
class Replaced:
    """Where what the new plug measures must arrive, and since when it measures."""

    sensor: OldSensor
    at: datetime | None = None


@pytest.fixture(scope="module")
def replaced(house: WholeHouse, server: FlexMeasuresServer, seen: Watched) -> Replaced:
    return Replaced(OldSensor.make(house, server, "boiler of old"))


@pytest.fixture(scope="module")
def cellar(house: WholeHouse, server: FlexMeasuresServer, seen: Watched) -> OldSensor:
    return OldSensor.make(house, server, "cellar of old")


# --- looking after what is there ------------------------------------------------------------------


def test_a_device_tells_its_route_its_signal_and_when_it_was_heard(
    house: WholeHouse, seen: Watched, replaced: Replaced, cellar: OldSensor
) -> None:
    page = seen.page
    house.do(lambda: house.stick.radio(PLUGS[0], -91, [OLD_PLUG]))
    open_device(house, page, PLUGS[0])
    page.get_by_role("button", name="Ping").click()
    expect(page.locator(".said")).to_contain_text("The device answered")
    facts = shown_soon(page, "−91")
    expect(facts).to_contain_text("ZW175")  # the plug between, by its name
    expect(facts.locator("time")).to_have_count(1)
    expect(page.locator(".notice")).to_contain_text("mains-powered Z-Wave device")
    looked_at(seen)
    house.do(lambda: house.stick.radio(PLUGS[0], -60))
    page.get_by_role("button", name="Ping").click()
    shown_soon(page, "direct")


def test_a_device_is_called_as_its_person_calls_it(house: WholeHouse, page: Page) -> None:
    rename(house, page, OLD_PLUG, "<b>Boiler</b> & co")
    page.goto(f"{house.url}/meters")
    expect(page.locator("main")).to_contain_text("<b>Boiler</b> & co")


def test_a_device_is_asked_again_what_it_can_do(house: WholeHouse, page: Page) -> None:
    open_device(house, page, METER)
    page.get_by_role("button", name="Ask it again").click()
    ends_well(page, "ready")
    expect(page.locator("ol.happened")).to_contain_text("asks it what it can do")


def test_routes_are_found_anew(house: WholeHouse, page: Page) -> None:
    """Often too quickly here to see how far it is: test_forms.py shows that."""
    page.goto(f"{house.url}/meters")
    page.locator("summary", has_text="Remove a device").click()
    page.get_by_role("button", name="Find better routes").click()
    ends_well(page, "new routes")


# --- joining --------------------------------------------------------------------------------------


def test_a_new_plug_takes_the_place_of_the_broken_one(
    house: WholeHouse, server: FlexMeasuresServer, seen: Watched, replaced: Replaced
) -> None:
    """Under the same name, and heard on the same channel. It feeds a sensor that was there
    before the box, chosen on the map."""
    page = seen.page
    replaced.sensor.choose(house, page, OLD_PLUG)
    feeds = fed(house)
    sensors = of_devices(house, server)
    dies(house, page, OLD_PLUG)
    looked_at(seen)
    name = page.locator("h1").inner_text()
    house.do(lambda: house.stick.replacement(OLD_PLUG))
    page.locator("summary", has_text="Replace or remove").click()
    page.get_by_role("button", name="Replace it").click()
    ends_well(page, "Replaced")
    page.get_by_role("button", name="See the device").click()
    expect(page.locator("h1")).to_have_text(name)
    replaced.at = datetime.now(UTC)
    house.do(lambda: house.stick.report(Value(OLD_PLUG, 0, W, 1500.0)))
    open_device(house, page, OLD_PLUG)
    shown_soon(page, "1.5", ".big")
    assert fed(house) == feeds
    assert of_devices(house, server) == sensors  # and none was made beside it


def test_a_photo_of_the_label_brings_the_device_in(house: WholeHouse, seen: Watched) -> None:
    page = seen.page
    calm(house)
    house.do(lambda: house.stick.smartstart(WITH_PHOTO, labelled=True))
    page.goto(f"{house.url}/network/add")
    page.set_input_files("#photo", LABEL)
    expect(page.locator("#code")).to_have_value(LABEL_DIGITS)
    page.get_by_role("button", name="Add with this code").click()
    expect(page.locator(".press")).to_contain_text("Give the device power")
    looked_at(seen)
    everything_reports(house)
    house.do(house.stick.announce)
    ends_well(page, "ready")
    page.get_by_role("button", name="See the device").click()
    expect(page.locator("main")).to_contain_text("encrypted (S2)")


def test_a_typed_code_brings_the_device_in(house: WholeHouse, page: Page) -> None:
    calm(house)
    dsk = house.do(lambda: house.stick.smartstart(WITH_TYPED_CODE))
    page.goto(f"{house.url}/network/add")
    page.fill("#code", in_groups(qr_code(dsk).replace(dsk[:5], "00000", 1)))  # one group misread
    page.get_by_role("button", name="Add with this code").click()
    expect(page.locator("main .problem[role=alert]")).to_contain_text("digits is wrong")
    page.fill("#code", in_groups(qr_code(dsk)))
    page.get_by_role("button", name="Add with this code").click()
    expect(page.locator("ol.happened")).to_contain_text("Aeotec Ltd. ZW175")
    everything_reports(house)
    house.do(house.stick.announce)
    ends_well(page, "ready")


def qr_code(dsk: str) -> str:
    """The text of a SmartStart label: version, keys S2, DSK, device class, manufacturer."""
    classes, product = "00100409701792", f"0220{0x371:05d}{3:05d}{0xAF:05d}{0x203:05d}"
    body = f"131{dsk.replace('-', '')}{classes}{product}"
    checksum = int.from_bytes(hashlib.sha1(body.encode()).digest()[:2])
    return f"9001{checksum:05d}{body}"


def in_groups(digits: str) -> str:
    return " ".join(digits[at : at + 5] for at in range(0, len(digits), 5))


def test_nobody_pressed_a_button_is_told_with_what_to_do(house: WholeHouse, seen: Watched) -> None:
    """The stick stops listening by itself: here because somebody else tells the driver to."""
    start_adding(house, seen.page)
    expect(seen.page.locator(".press")).to_be_visible(timeout=JOINS_WITHIN_MS)
    house.do(lambda: time_is_up(house))
    ends_badly(seen.page, "No device answered", "Remove any device")
    looked_at(seen)


async def time_is_up(house: WholeHouse) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(house.driver.url) as socket:
        await socket.receive_json()
        await socket.send_json({"command": "controller.stop_inclusion", "messageId": "1"})
        while (await socket.receive_json()).get("messageId") != "1":
            pass


def test_a_known_meter_reports_as_often_as_its_person_wants(house: WholeHouse, page: Page) -> None:
    house.write_settings(presets=True)
    page.goto("about:blank")
    house.restart_agent()
    open_device(house, page, METER)
    page.select_option("#interval", "10")
    page.locator("form", has=page.locator("#interval")).get_by_role("button").click()
    expect(page.locator(".said")).to_be_visible()
    house.until(
        lambda: house.do(lambda: house.stick.parameters(111))[METER] == {111: 10}, within_s=90
    )
    page.goto("about:blank")
    house.write_settings(presets=False)
    house.restart_agent()


# --- leaving --------------------------------------------------------------------------------------


def test_a_device_that_is_gone_is_forgotten(house: WholeHouse, page: Page) -> None:
    joins(house, page, LOST)
    open_device(house, page, LOST)
    page.locator("summary", has_text="Replace or remove").click()
    expect(page.get_by_role("button", name="Forget it")).to_have_count(0)  # it answers
    dies(house, page, LOST)
    page.locator("summary", has_text="Replace or remove").click()
    page.get_by_role("button", name="Forget it").click()
    ends_well(page, "removed")
    page.goto(f"{house.url}/device/zwave/{HOME}-{LOST}")
    expect(page.locator("main")).to_contain_text("no such page")


def test_a_plug_included_anew_goes_on_as_the_one_that_is_gone(
    house: WholeHouse, server: FlexMeasuresServer, seen: Watched, cellar: OldSensor
) -> None:
    page = seen.page
    joins(house, page, LEFT)
    rename(house, page, LEFT, "Cellar")
    cellar.choose(house, page, LEFT)
    sensors = of_devices(house, server)
    remove_with_button(house, page, LEFT)
    joins(house, page, CAME_BACK)
    open_device(house, page, CAME_BACK)
    page.locator("summary", has_text="Replace or remove").click()
    page.locator("#gone").select_option(f"zwave/{HOME}-{LEFT}")
    looked_at(seen)
    page.get_by_role("button", name="Take its place").click()
    expect(page.locator(".said")).to_contain_text("it is the other one")
    expect(page.locator("h1")).to_have_text("Cellar")
    house.do(lambda: house.stick.report(Value(CAME_BACK, 0, W, 700.0)))
    open_device(house, page, LEFT)
    shown_soon(page, "700", ".big")
    feeds = fed(house)
    assert feeds[f"zwave/{HOME}-{LEFT}/0/active_power/import"] == cellar.ident
    assert not any(f"-{CAME_BACK}/" in key for key in feeds)
    assert of_devices(house, server) == sensors
    remove_with_button(house, page, CAME_BACK)


# --- what goes wrong; last, since after it the mock lets no SmartStart device join ---------------


def test_a_wrong_pin_is_told_with_what_to_do(house: WholeHouse, seen: Watched) -> None:
    page = seen.page
    calm(house)
    house.do(lambda: house.stick.pend(WRONG_PIN, secure=True))
    start_adding(house, page)
    expect(page.locator("#pin")).to_be_visible(timeout=JOINS_WITHIN_MS)
    page.fill("#pin", f"{(int(pin_of(house)) + 1) % 65536:05}")
    page.get_by_role("button", name="Continue").click()
    ends_badly(page, "The five digits were wrong", "add it again with the right digits")
    looked_at(seen)
    house.do(lambda: house.stick.exclude(WRONG_PIN))
    page.get_by_role("button", name="Remove any device").click()  # as it was advised, right there
    ends_well(page, "removed")


def test_a_device_that_joined_without_its_key_is_told_with_what_to_do(
    house: WholeHouse, seen: Watched
) -> None:
    """The person stops while the PIN is asked for: the device is in, but in the open."""
    page = seen.page
    calm(house)
    house.do(lambda: house.stick.pend(CANCELLED, secure=True))
    start_adding(house, page)
    expect(page.locator("#pin")).to_be_visible(timeout=JOINS_WITHIN_MS)
    page.get_by_role("button", name="Stop").click()
    ends_badly(page, "without encryption", "bring the stick closer and add it again")
    looked_at(seen)
    remove_with_button(house, page, CANCELLED)


def test_what_the_new_plug_measures_arrived_in_the_old_sensor(
    house: WholeHouse, replaced: Replaced
) -> None:
    """The last, since a slot must be over before it is sent."""
    assert replaced.at is not None
    replaced.sensor.wait_for(house, 1.5, replaced.at)
