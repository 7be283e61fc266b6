"""A new box at the account of one that died, in a house of its own; and at one whose box lives.

The whole way from the claim to the first accepted reading is gone by keyboard alone.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from edge.cli.door import ask
from edge.contract import Status
from edge.model import Channel, Device, DeviceState, Kind, Quantity, Sensor, Slot
from edge.store.outbox import OutboxSlot, SlotState
from edge.uplink.address import Reach, parse_address
from edge.uplink.flexmeasures import FlexMeasures
from edge.uplink.mapping import default_mapping
from edge.uplink.pairing import SiteWish, pair
from tests.house import arrived
from tests.house.fake_clock import FakeClock
from tests.house.flexmeasures import Account, FlexMeasuresServer
from tests.house.local_smappee import LocalSmappeeMonitor
from tests.house.p1_meter import P1Meter
from tests.house.spoken_home_assistant import SpokenHomeAssistant
from tests.house.stick import METER, PLUGS, Value, W
from tests.page.browser import watched
from tests.page.old_sensor import OldSensor, of_devices
from tests.page.settled import HOME, calm, expect_meters, go_on, looked_at, pin_of
from tests.page.whole_house import WholeHouse

TABS_MAX = 80  # the map has some forty places to stop at
JOINS_WITHIN_MS, ACCEPTED_WITHIN_MS = 45_000, 90_000
NEW_PLUG = 20
FAMILIES = ("zwave", "smappee", "homeassistant", "p1")
NODES = (METER, *PLUGS)
OLD_KW = 7.5  # nothing in the house takes as much


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeHouse]:
    with WholeHouse(tmp_path_factory.mktemp("h")) as started:
        yield started


class Keyboard:
    """Hands that never leave it."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def go_to(self, wanted: str) -> None:
        """Tab until what has the focus is that."""
        for _ in range(TABS_MAX):
            if self._page.evaluate("(it) => document.activeElement.matches(it)", wanted):
                return
            self._page.keyboard.press("Tab")
        raise AssertionError(f"no tab leads to {wanted} on {self._page.url}")

    def fill(self, field: str, text: str) -> None:
        self.go_to(field)
        self._page.keyboard.type(text)

    def press(self, wanted: str, key: str = "Enter") -> None:
        self.go_to(wanted)
        self._page.keyboard.press(key)

    def press_enter(self) -> None:
        self._page.keyboard.press("Enter")


async def a_box_was_here(
    url: str, owner: Account, box: str, last_at: datetime
) -> tuple[Sensor, ...]:
    """Another box paired here, mapped the same devices, and sent once; its sensors."""
    names = [f"{HOME}-{node}" for node in NODES]
    devices = [Device("zwave", name, "", "a meter", DeviceState.ALIVE) for name in names]
    channels = {
        channel.key: channel
        for name, endpoints in zip(names, ("0123", "0", "0"), strict=True)
        for channel in (
            Channel("zwave", name, end, Quantity.ACTIVE_POWER, Kind.INSTANTANEOUS)
            for end in endpoints
        )
    }
    feeds, clock = default_mapping(channels.values()), FakeClock(datetime.now(UTC))
    async with client_of(url, owner) as client:
        wish = SiteWish(name="Our house")
        made = await pair(client, box, wish, devices, feeds, channels, clock)
    await it_sends(url, owner, made.sensors, last_at)
    return made.sensors


async def it_sends(url: str, owner: Account, sensors: Sequence[Sensor], at: datetime) -> None:
    """That box sends a value for each of its sensors."""
    async with client_of(url, owner) as client:
        for sensor in sensors:
            slot = Slot(sensor.sensor_id, at, sensor.event_resolution, OLD_KW)
            sent = OutboxSlot(1, slot, None, SlotState.WAITING, 0, None, None, None)
            await client.post_slots(sensor, [sent])


def client_of(url: str, owner: Account) -> FlexMeasures:
    address = parse_address(url, Reach(loopback=True))
    return FlexMeasures(address, owner.email, lambda: owner.password, FakeClock(datetime.now(UTC)))


def test_a_new_box_inherits_what_a_dead_one_left_by_keyboard_alone(
    house: WholeHouse, server: FlexMeasuresServer, context: BrowserContext
) -> None:
    owner = house.owner = server.make_account()
    now = arrived.on_the_grid(datetime.now(UTC))
    died = now - timedelta(hours=6)
    house.do(lambda: a_box_was_here(server.url, owner, "dead00000000beef", died))
    left = of_devices(house, server)
    seen = watched(context)
    page = seen.page
    keys = Keyboard(page)
    house.agent_answers()

    # Claim: the field has the focus
    page.goto(house.url)
    page.keyboard.type(house.password)
    keys.press_enter()
    page.wait_for_url("**/flexmeasures")

    # FlexMeasures: what the dead box left is offered, and chosen already
    keys.fill("#url", server.url)
    keys.fill("#email", owner.email)
    keys.fill("#password", owner.password)
    keys.press_enter()
    expect(page.locator("h1")).to_contain_text("Which site")
    expect(page.locator("label.choice:has(:checked)")).to_contain_text("has gone silent")
    expect(page.get_by_label("This box takes its place")).to_be_checked()
    looked_at(seen)
    keys.press("input[name=adopt]")
    page.wait_for_url("**/meters?said=paired")

    # Meters: one more, with the digits of its label
    expect(page.locator("ul.devices li")).to_have_count(len(NODES))
    calm(house)
    house.do(lambda: house.stick.pend(NEW_PLUG, secure=True))
    keys.press("a[href='/network/add']")
    page.wait_for_url("**/network/add")
    keys.press("main form button")
    expect(page.locator("#pin")).to_be_visible(timeout=JOINS_WITHIN_MS)
    keys.fill("#pin", pin_of(house))
    keys.press_enter()
    expect(page.locator(".notice.good")).to_contain_text("ready", timeout=JOINS_WITHIN_MS)
    keys.press(".task a[href='/meters']")
    page.wait_for_url("**/meters")
    keys.press("a[href='/map']")
    page.wait_for_url("**/map")

    # Map: the new plug stays at home
    keys.press(f"[role=switch][name*='{HOME}-{NEW_PLUG}']", "Space")
    keys.press("main form button[type=submit]")
    page.wait_for_url("**/live?said=map_kept")

    # Live: accepted, in the sensors that were there, behind what they held
    expect(page.locator("#live .sent.good")).to_be_visible(timeout=ACCEPTED_WITHIN_MS)
    assert of_devices(house, server) == left
    plug = (str(PLUGS[0]), "electricity-power")

    def has_arrived() -> bool:
        held = arrived.held(server.url, owner, died, now)[plug]
        assert held[died] == OLD_KW
        return any(at > died for at in held)

    house.until(has_arrived, within_s=60, every_s=3)
    assert seen.complaints == []


def test_a_box_that_lives_keeps_its_own_unless_somebody_says_otherwise(
    house: WholeHouse, server: FlexMeasuresServer, context: BrowserContext
) -> None:
    owner = house.owner = server.make_account()
    now = arrived.on_the_grid(datetime.now(UTC))
    was_off, lately = now - timedelta(hours=6), now - timedelta(minutes=10)
    sensors = house.do(lambda: a_box_was_here(server.url, owner, "11fe00000000beef", was_off))
    left = of_devices(house, server)
    seen = watched(context)
    page = seen.page

    # It begins to send again after somebody looked: said beside the tick, and nothing is taken
    look_again(house, server, page, owner)
    choice = page.locator("label.choice", has_text="Our house")
    adopt = page.get_by_label("This box takes its place")
    expect(adopt).to_be_checked()
    house.do(lambda: it_sends(server.url, owner, sensors, lately))
    go_on(page)
    beside = page.locator(".within:visible")
    expect(beside.get_by_role("alert")).to_contain_text("Another box sends to this site now")
    expect(beside).to_contain_text("two boxes must not fill the same")
    expect(page.get_by_role("alert")).to_have_count(1)
    expect(choice).to_contain_text("Another box sends here now")
    expect(choice.locator("input")).to_be_checked()
    expect(adopt).not_to_be_checked()
    expect(adopt).to_have_attribute("aria-invalid", "true")
    looked_at(seen)
    assert whose(house, server, owner) == {"11fe00000000beef"}

    # Who looks now is told so at once, and stands beside it
    look_again(house, server, page, owner)
    expect(choice).to_contain_text("Another box sends here now")
    expect(choice.locator("input")).not_to_be_checked()
    choice.locator("input").check()
    expect(adopt).not_to_be_checked()
    go_on(page)
    page.wait_for_url("**/meters?said=paired")
    assert whose(house, server, owner) == {"11fe00000000beef"}

    look_again(house, server, page, owner)
    choice.locator("input").check()
    adopt.check()
    go_on(page)
    page.wait_for_url("**/meters?said=paired")
    expect_meters(house, page)
    assert "11fe00000000beef" not in whose(house, server, owner)
    page.goto(f"{house.url}/map")
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**said=map_kept**")
    assert of_devices(house, server) == left
    assert seen.complaints == []


def test_a_sum_of_clamps_is_sent_and_a_sensor_of_another_unit_is_refused(
    house: WholeHouse, server: FlexMeasuresServer, context: BrowserContext
) -> None:
    assert house.owner is not None
    warmth = OldSensor.make(house, server, "living room", "°C")
    before = of_devices(house, server)
    seen = watched(context)
    page = seen.page
    house.restart_agent()  # it asks for the sensors of a site once a minute
    page.goto(f"{house.url}/map")
    offered = page.locator(".maprow select").first.locator(f"option[value='{warmth.ident}']")
    expect(offered).to_be_disabled()
    expect(offered).to_contain_text("its unit does not fit")
    page.locator("summary", has_text="Make a sum").click()
    page.fill("#new-name", "Phases less the kettle")
    signs = {f"{METER}/1": "+", f"{METER}/2": "+", f"{METER}/3": "+", f"{PLUGS[0]}/0": "-"}
    for clamp, sign in signs.items():
        page.select_option(f"[name='new.term.zwave/{HOME}-{clamp}/active_power/import']", sign)
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**said=map_kept**")
    added = (str(METER), "Phases less the kettle")
    assert of_devices(house, server) == sorted([*before, added])
    shown = [Value(METER, clamp, W, 100.0 * clamp) for clamp in (1, 2, 3)]
    house.do(lambda: house.stick.report(*shown, Value(PLUGS[0], 0, W, 50.0)))
    row = page.locator(".maprow", has=page.locator(".rowname", has_text="Phases less the kettle"))
    expect(row.locator(".number")).to_contain_text("550", timeout=15_000)
    page.goto(house.url)
    expect(page.locator("#live")).to_contain_text("Phases less the kettle")
    assert seen.complaints == []


def test_every_family_is_connected_from_the_page_and_stands_in_one_frame(
    house: WholeHouse, context: BrowserContext
) -> None:
    seen = watched(context)
    page = seen.page
    monitor, assistant, meter = LocalSmappeeMonitor(), SpokenHomeAssistant(), P1Meter()

    async def open_both() -> tuple[str, str, AsyncExitStack]:
        stack = AsyncExitStack()
        local = await stack.enter_async_context(monitor.serve())
        return local, await stack.enter_async_context(assistant.serve()), stack

    local, address, stack = house.do(open_both)
    over = threading.Event()
    talk = threading.Thread(target=lambda: [meter.say() for _ in iter(lambda: over.wait(1), True)])
    talk.start()
    try:
        page.goto(f"{house.url}/meters/family/smappee")
        page.locator("input[name=way][value=local]").check()
        page.fill("#f-address", local)
        connect(page, "local_password", "admin")
        page.goto(f"{house.url}/meters/family/homeassistant")
        page.fill("#f-address", address)
        page.fill("#f-token", "CANARY-not-the-token")
        page.get_by_role("button", name="Try it").click()
        expect(page.locator("main [role=alert]")).to_be_visible()
        assert "CANARY" not in page.content()
        connect(page, "token", assistant.token)
        page.goto(f"{house.url}/meters/family/p1")
        page.fill("#f-port", meter.path)
        connect(page)
        shown = page.locator("ul.devices li")

        def all_there() -> bool:
            page.goto(f"{house.url}/meters")
            links = [str(a.get_attribute("href")) for a in shown.locator("a").all()]
            return {link.split("/")[2] for link in links} == set(FAMILIES)

        house.until(all_there, within_s=60, every_s=1)
        looked_at(seen)
        for family in ("smappee", "homeassistant", "p1"):
            page.goto(f"{house.url}/meters/family/{family}")
            page.locator("summary").last.click()
            page.locator("form[action$='/leave'] button").click()
            page.wait_for_url("**/meters?said=family_left")
        house.until(lambda: not all_there(), every_s=1)
    finally:
        over.set()
        talk.join()
        house.do(stack.aclose)
        meter.unplug()
    assert seen.complaints == []


def connect(page: Page, secret: str = "", value: str = "") -> None:
    """Try what was filled in, and use what was found; a secret is typed once more for that."""
    if secret:
        page.fill(f"#f-{secret}", value)
    page.get_by_role("button", name="Try it").click()
    expect(page.locator(".notice.good")).to_contain_text("Found", timeout=60_000)
    if secret:
        page.fill(f"#f-{secret}", value)
    page.get_by_role("button", name="Use it").click()
    page.wait_for_url("**/meters?said=family_kept")


def test_an_account_is_left_with_its_password_and_its_map(
    house: WholeHouse, server: FlexMeasuresServer, context: BrowserContext
) -> None:
    assert house.owner is not None
    page = context.new_page()
    page.goto(f"{house.url}/flexmeasures")
    expect(page.locator("main")).to_contain_text(house.owner.email)
    page.locator("form[action='/flexmeasures/leave']").locator("xpath=..").locator(
        "summary"
    ).click()
    page.locator("form[action='/flexmeasures/leave'] button").click()
    page.wait_for_url("**/flexmeasures?said=left")
    expect(page.locator("#url")).to_be_visible()
    status = ask(house.own_socket, "GET", "/status", Status)
    assert not status.flexmeasures.paired
    assert not any(channel.sensor_id for channel in status.channels)
    assert of_devices(house, server)  # what was sent stays there


def look_again(house: WholeHouse, server: FlexMeasuresServer, page: Page, owner: Account) -> None:
    page.goto(f"{house.url}/flexmeasures?again=true")
    page.fill("#url", server.url)
    page.fill("#email", owner.email)
    page.fill("#password", owner.password)
    go_on(page)
    expect(page.locator("h1")).to_contain_text("Which site")


def whose(house: WholeHouse, server: FlexMeasuresServer, owner: Account) -> set[str]:
    """The boxes that the devices' assets of this account belong to."""

    async def ask() -> set[str]:
        async with client_of(server.url, owner) as asked:
            ids = [(asset.external_id or "").split(":") for asset in await asked.assets()]
        return {parts[1] for parts in ids if len(parts) == 3 and parts[2].startswith("zwave/")}

    return house.do(ask)
