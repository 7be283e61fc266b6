"""From a new box to the first accepted reading, on a phone, before the whole house."""

import time
from urllib.parse import unquote

from playwright.sync_api import BrowserContext, expect

from tests.house import arrived
from tests.house.flexmeasures import FlexMeasuresServer
from tests.house.stick import PLUGS
from tests.page.browser import watched
from tests.page.settled import calm, go_on, looked_at, owner_of, pin_of
from tests.page.whole_house import WholeHouse

NEW_PLUG = 20
ACCEPTED_WITHIN_MS = 90_000
SEEN_WITHIN_MS = 60_000  # limits are asked for every half a minute


def test_from_a_new_box_to_the_first_accepted_reading(
    house: WholeHouse, server: FlexMeasuresServer, context: BrowserContext
) -> None:
    owner = owner_of(house, server)
    seen = watched(context)
    page = seen.page

    # Claim
    page.goto(house.url)
    expect(page).to_have_url(f"{house.url}/claim")
    looked_at(seen)
    page.fill("#password", house.password)
    go_on(page)
    expect(page).to_have_url(f"{house.url}/flexmeasures")

    # FlexMeasures: says what is wrong, where it is wrong
    looked_at(seen)
    for typed, field, said in (
        ((house.url, owner.email, owner.password), "url", "not FlexMeasures"),
        (("https://nothing.invalid", owner.email, owner.password), "url", "no server of that name"),
        (("http://192.168.1.9", owner.email, owner.password), "url", "private network"),
        ((server.url, "nobody@example.org", owner.password), "email", "no user with this e-mail"),
        ((server.url, owner.email, "CANARY-wrong"), "password", "refuses this password"),
    ):
        page.fill("#url", typed[0])
        page.fill("#email", typed[1])
        page.fill("#password", typed[2])
        go_on(page)
        expect(page.locator("#problem")).to_contain_text(said)
        expect(page.locator(f"#{field}")).to_have_attribute("aria-invalid", "true")
        assert "CANARY" not in page.content()
    looked_at(seen)
    page.fill("#password", owner.password)
    go_on(page)
    expect(page.locator("h1")).to_contain_text("Which site")

    # closing the browser loses nothing
    page.goto(house.url)
    expect(page.locator("h1")).to_contain_text("Which site")
    looked_at(seen)
    page.locator("input[name=site][value=new]").check()
    page.fill("#name", "Our house")
    go_on(page)
    expect(page.locator("h1")).to_contain_text("Your meters")

    # Meters: the stick was found by itself; add a plug with its PIN
    expect(page.locator("ul.devices li")).to_have_count(3)
    looked_at(seen)
    calm(house)
    house.do(lambda: house.stick.pend(NEW_PLUG, secure=True))
    page.get_by_role("button", name="Add a Z-Wave device").click()
    looked_at(seen)
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#pin")).to_be_visible(timeout=30_000)
    looked_at(seen)
    page.goto("about:blank")  # closed in the middle: the question is still there
    page.goto(house.url)
    expect(page.locator("#pin")).to_be_visible()
    page.fill("#pin", pin_of(house))
    page.get_by_role("button", name="Continue").click()
    expect(page.locator(".notice.good")).to_contain_text("ready", timeout=30_000)
    looked_at(seen)
    page.get_by_role("button", name="See the device").click()
    expect(page.locator("main")).to_contain_text("encrypted (S2)")
    looked_at(seen)

    # Map: everything is proposed; one row stays at home
    page.goto(f"{house.url}/map")
    rows = page.locator(".maprow")
    expect(rows).to_have_count(7)
    looked_at(seen)
    rows.nth(6).locator("[role=switch]").uncheck()
    page.get_by_role("button", name="Save").click()
    expect(page).to_have_url(f"{house.url}/live?said=map_kept")

    # Live: done when FlexMeasures said so
    expect(page.locator("#live .sent.good")).to_be_visible(timeout=ACCEPTED_WITHIN_MS)
    looked_at(seen)
    page.goto(house.url)
    expect(page).to_have_url(f"{house.url}/")
    expect(page.locator(".hero .big")).to_contain_text("W")
    expect(page.locator("#chart canvas")).to_be_visible()
    looked_at(seen)
    assert seen.complaints == []


def test_every_later_screen_is_sound(house: WholeHouse, context: BrowserContext) -> None:
    seen = watched(context)
    for path in ("/meters", "/map", "/control", "/health", "/events", "/log", "/box"):
        seen.page.goto(f"{house.url}{path}")
        assert seen.page.url == f"{house.url}{path}"
        looked_at(seen)
    seen.page.goto(f"{house.url}/flexmeasures")
    looked_at(seen)
    assert seen.complaints == []


def test_a_switch_is_tested_from_the_page(house: WholeHouse, context: BrowserContext) -> None:
    page = context.new_page()
    page.goto(f"{house.url}/meters")
    page.locator("ul.devices a", has_text="ZW175").first.click()
    page.get_by_role("button", name="Test: off and on again").click()
    expect(page.locator(".said")).to_contain_text("it works")


def plugs_become(house: WholeHouse, wanted: list[bool]) -> None:
    """Within a while the plugs of the house are so, in any order."""
    until = time.monotonic() + 20
    while True:
        found = [house.do(lambda n=n: house.stick.is_on(n)) for n in (*PLUGS, NEW_PLUG)]
        if sorted(found) == sorted(wanted):
            return
        assert time.monotonic() < until, found
        time.sleep(0.2)


def test_a_hand_switches_off_and_gives_back(house: WholeHouse, context: BrowserContext) -> None:
    page = context.new_page()
    page.goto(f"{house.url}/control")
    page.get_by_role("button", name="Allow switching").first.click()
    page.locator("input[name=is_used]").check()
    page.locator("input[name=consent]").check()
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="off for 5 minutes").first.click()
    expect(page.locator(".said")).to_contain_text("It comes back by itself")
    expect(page.locator(".control.away")).to_be_visible(timeout=15_000)
    plugs_become(house, [True, True, False])
    page.goto(f"{house.url}/control")
    page.get_by_role("button", name="Give it back now").click()
    expect(page.locator(".said")).to_contain_text("Given back")
    expect(page.locator(".control.away")).to_have_count(0, timeout=15_000)
    plugs_become(house, [True, True, True])


def test_a_hand_switches_on_again_what_a_limit_switched_off(
    house: WholeHouse, server: FlexMeasuresServer, context: BrowserContext
) -> None:
    page = context.new_page()
    page.goto(f"{house.url}/control")
    page.get_by_role("link", name="Plan, history and rules").first.click()
    page.locator("#rules summary").click()
    page.fill("#rest", "0")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".said")).to_be_visible()
    key = unquote(page.url.partition("/control/device/")[2].partition("?")[0])
    arrived.limit(server.url, owner_of(house, server), key, 0.0)
    page.goto(f"{house.url}/control")
    off = page.locator(".control.away")
    expect(off).to_contain_text("A limit: it is to be off", timeout=SEEN_WITHIN_MS)
    plugs_become(house, [True, True, False])
    off.get_by_role("button", name="on for 5 minutes").click()
    expect(page.locator(".said")).to_contain_text("neither limit nor schedule")
    plugs_become(house, [True, True, True])
    expect(page.get_by_role("button", name="Give it back now")).to_be_visible()
    page.goto(f"{house.url}/events")
    for origin in ("limit", "by hand"):  # in this test, and in the one before
        switched = page.locator("main li", has_text="Something was switched")
        expect(switched.filter(has_text=f"· {origin}")).to_have_count(1)


def test_a_device_is_removed_with_its_button(house: WholeHouse, context: BrowserContext) -> None:
    page = context.new_page()
    page.goto(f"{house.url}/meters")
    page.locator("summary", has_text="Remove a device").click()
    house.do(lambda: house.stick.exclude(NEW_PLUG))
    page.get_by_role("button", name="Remove any device").click()
    expect(page.locator(".notice.good")).to_contain_text("removed", timeout=30_000)


def test_nobody_answers_and_the_person_stops(house: WholeHouse, context: BrowserContext) -> None:
    page = context.new_page()
    page.goto(f"{house.url}/network/add")
    page.get_by_role("button", name="Start").click()
    expect(page.locator(".press")).to_be_visible(timeout=20_000)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".notice.bad")).to_contain_text("Stopped", timeout=20_000)
