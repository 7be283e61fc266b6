"""A person at a box that is claimed, paired and mapped: what most tests in the house begin with."""

import time
from datetime import UTC, datetime

from playwright.sync_api import BrowserContext, Page, expect

from tests.house.flexmeasures import Account, FlexMeasuresServer
from tests.house.stick import KWH, METER, A, V, Value, W
from tests.page.browser import DESK, PHONE, Watched, watched
from tests.page.whole_house import WholeHouse

HOME = "7e570001"
VERIFIED_WITHIN_S = 6  # the driver makes sure of what was set after 5 s


def owner_of(house: WholeHouse, server: FlexMeasuresServer) -> Account:
    """Whose FlexMeasures account this house feeds."""
    if house.owner is None:
        house.owner = server.make_account("The whole house")
    return house.owner


def at_home(house: WholeHouse, server: FlexMeasuresServer, context: BrowserContext) -> Watched:
    """A page of a settled box, with somebody logged in."""
    seen = watched(context)
    page = seen.page
    page.goto(house.url)
    if page.url.endswith(("/claim", "/log-in")):
        page.fill("#password", house.password)
        go_on(page)
        page.wait_for_url(lambda url: not url.endswith(("/claim", "/log-in")))
    page.goto(house.url)
    if page.url.endswith("/flexmeasures"):
        pair(page, server, owner_of(house, server))
    page.goto(house.url)
    if page.url.endswith(("/meters", "/map")):
        expect_meters(house, page)
        page.goto(f"{house.url}/map")
        page.get_by_role("button", name="Save").click()
        page.wait_for_url("**said=map_kept**")
    return seen


def pair(page: Page, server: FlexMeasuresServer, owner: Account) -> None:
    """Fill the form of FlexMeasures, and choose or make the site."""
    page.fill("#url", server.url)
    page.fill("#email", owner.email)
    page.fill("#password", owner.password)
    go_on(page)
    expect(page.locator("h1")).to_contain_text("Which site")
    if not page.locator("input[name=site]:checked").count():
        page.locator("input[name=site]").first.check()
    if page.locator("#name").is_visible():
        page.fill("#name", "Our house")
    go_on(page)
    page.wait_for_url("**/meters**")


def expect_meters(house: WholeHouse, page: Page, within_s: float = 60) -> None:
    """Wait until the stick's three devices are there."""
    until_s = time.monotonic() + within_s
    while True:
        page.goto(f"{house.url}/meters")
        if page.locator("ul.devices li").count() >= 3:
            return
        assert time.monotonic() < until_s, page.locator("main").inner_text()
        time.sleep(0.5)


def go_on(page: Page) -> None:
    page.locator("main form button[type=submit]").first.click()


def looked_at(seen: Watched) -> None:
    """A screen is sound on a phone and on a desk, by day and by night."""
    page = seen.page
    for size in (DESK, PHONE):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        assert not seen.overflows(), f"{page.url} is too wide at {size['width']}"
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        assert seen.axe() == []


def open_device(house: WholeHouse, page: Page, node: int) -> None:
    page.goto(f"{house.url}/device/zwave/{HOME}-{node}")


def pin_of(house: WholeHouse) -> str:
    """What stands on the label of the device that joins."""
    joining = [e for e in house.do(house.stick.witness) if e["event"] == "joining"]
    return str(joining[-1]["dsk"])[:5]


def calm(house: WholeHouse) -> None:
    """Wait until nothing will be asked for a while: a question in the middle of a secure bootstrap
    leaves the mock stick waiting for ever. The driver makes sure of what was set, and the box asks
    meters that are silent."""

    def is_calm() -> bool:
        entries = house.do(house.stick.witness)
        told = [each["at"] for each in entries if str(each.get("name", "")).endswith("Set")]
        quiet_s = 0.0 if told else VERIFIED_WITHIN_S
        if told:
            quiet_s = (datetime.now(UTC) - datetime.fromisoformat(told[-1])).total_seconds()
        return quiet_s >= VERIFIED_WITHIN_S

    house.until(is_calm, within_s=4 * VERIFIED_WITHIN_S)
    everything_reports(house)


def everything_reports(house: WholeHouse) -> None:
    """The meter says all it can, so that the box does not ask it for a quarter of a minute."""
    shown = {KWH: 100.0, W: 500.0, V: 230.0, A: 2.2}
    values = [
        Value(METER, endpoint, scale, value)
        for endpoint in range(4)
        for scale, value in shown.items()
    ]
    house.do(lambda: house.stick.report(*values))
