"""What a person fills in is what the agent is asked; what it answers stands where it belongs."""

import json
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from edge.contract.setup import StickView
from edge.devices.stick import Absent, Bootloader, Busy, Deaf, NoPermission
from edge.setup_page.languages import FOLDER
from edge.stick_watch import StickWatch
from tests.house.fake_clock import FakeClock
from tests.page.at_the_stand import SETTLED, settled
from tests.page.browser import watched
from tests.page.rooms import HEM, PLUG, House, controlled, device, task
from tests.page.screens import MAPPED, PAIRED, logged_in, pin
from tests.page.stand import Stand
from tests.page.visitor import Visitor

STICK = Path("/dev/serial/by-id/usb-0658_0200-if00")

# What can be wrong with an account, and the field it is said beside; empty: above the form.
TROUBLES = {
    "fm_no_host": "url",
    "fm_bad_address": "url",
    "fm_unreachable": "url",
    "fm_not_flexmeasures": "url",
    "fm_unsupported_version": "url",
    "fm_private_address": "url",
    "fm_refused_address": "url",
    "fm_certificate": "url",
    "fm_unknown_user": "email",
    "fm_no_rights": "email",
    "fm_wrong_password": "password",
    "fm_clock": "",
}


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def box(house: House, context: BrowserContext) -> Iterator[Stand]:
    with settled(house, context) as stand:
        yield stand


def test_what_is_wrong_with_an_account_is_said_beside_its_field(house: House) -> None:
    with Stand(rooms=[house.routes()]) as stand:
        visitor = Visitor(stand)
        visitor.claim()
        said = set()
        typed = {"url": "https://x.example", "email": "a@x.example", "password": "CANARY"}
        for code, field in TROUBLES.items():
            house.refusal = (code, 409)
            answer = visitor.post("/flexmeasures", typed)
            assert answer.status == 422, code
            problem = answer.text.split('role="alert">')[1].split("<")[0]
            said.add(problem)
            before = answer.text.split('role="alert">')[0]
            assert before.count(f'name="{field}"') == bool(field), code
            wrong = [tag for tag in answer.text.split("<") if 'aria-invalid="true"' in tag]
            names = [tag.split('name="')[1].split('"')[0] for tag in wrong]
            assert names == [field] * bool(field)
            assert "CANARY" not in answer.text
        assert len(said) == len(TROUBLES)  # each in words of its own
        assert not any("fm_" in each for each in said)


@pytest.mark.parametrize("language", ["en", "nl", "de"])
def test_a_user_of_its_own_is_advised_where_the_account_is_asked_for(
    house: House, language: str
) -> None:
    """Beside the form; and once more where the user that came could do more than a box needs."""
    words = json.loads((FOLDER / f"{language}.json").read_text("utf-8"))
    with Stand(rooms=[house.routes()]) as stand:
        visitor = Visitor(stand)
        visitor.claim()
        form = unescape(visitor.get("/flexmeasures", accept_language=language).text)
        assert 'name="password"' in form
        for said in (words["fm.own.title"], words["fm.own.text"]):
            assert said in form
        for does_more in (True, False):
            house.account = house.account.model_copy(update={"may_do_more": does_more})
            logged_in(house)
            site = unescape(visitor.get("/flexmeasures", accept_language=language).text)
            assert 'name="site"' in site
            assert (words["site.more.text"] in site) is does_more


def test_a_tick_refused_is_shown_beside_its_site_with_what_was_chosen(house: House) -> None:
    """Another box began to send after the person looked."""
    with Stand(rooms=[house.routes()]) as stand:
        visitor = Visitor(stand)
        visitor.claim()
        logged_in(house)
        house.refusal = ("fm_box_lives", 409)
        refused = visitor.post("/flexmeasures/site", {"site": "9", "adopt": "9"})
        assert refused.status == 422
        before, said, after = refused.text.partition('role="alert">')
        assert said
        assert after.startswith("Another box sends to this site now")
        assert before.rpartition('data-only-if="')[2].startswith("site=9")
        chosen = [
            tag for tag in refused.text.split("<") if 'name="site"' in tag and " checked" in tag
        ]
        assert ['value="9"' in tag for tag in chosen] == [True]
        tick = next(tag for tag in after.split("<") if 'name="adopt"' in tag)
        assert 'aria-invalid="true"' in tick

        superscript = visitor.post("/flexmeasures/site", {"site": "²"})  # a digit, but no number
        assert superscript.status == 422

        house.refusal = ("fm_no_rights", 409)
        refused = visitor.post("/flexmeasures/site", {"site": "new", "name": "Our barn"})
        assert 'value="Our barn"' in refused.text
        assert refused.text.index('role="alert"') < refused.text.index("<form")


def test_whoever_comes_back_in_the_middle_of_adding_a_device_finds_the_way(house: House) -> None:
    """A closed browser, or another phone: what the network asks for is not lost on the way."""
    with Stand(rooms=[house.routes()]) as stand:
        visitor = Visitor(stand)
        visitor.claim()
        stand.standing = PAIRED
        assert visitor.get("/").headers["location"] == "/meters"
        assert 'href="/network"' not in visitor.get("/meters").text
        assert visitor.get("/network/add").status == 200
        pin(house)
        assert visitor.get("/").headers["location"] == "/network"
        assert 'id="pin"' in visitor.get("/network").text
        for standing in (PAIRED, SETTLED):
            stand.standing = standing
            meters = visitor.get("/meters").text
            assert "Adding a device" in meters
            assert 'href="/network"' in meters
            assert visitor.get("/network/add").headers["location"] == "/network"
        assert visitor.get("/").status == 200  # a box that is live shows what is live
        house.task = task(doing="add_code", waits_for="power")  # it asks nobody anything
        stand.standing = PAIRED
        assert visitor.get("/").headers["location"] == "/meters"


@pytest.mark.parametrize("language", ["en", "nl", "de"])
def test_why_there_is_no_stick_is_said_in_words(house: House, language: str) -> None:
    """Each way a stick can be missing; nothing is wrong with a box that needs none."""
    outcomes = (
        *(None, Absent(), Busy(STICK), Deaf(STICK), NoPermission(STICK)),
        *(Bootloader(STICK), Absent(STICK)),
    )
    watch = StickWatch(FakeClock(), lambda: False, None)
    said = set()
    with Stand(rooms=[house.routes()]) as stand:
        visitor = Visitor(stand)
        visitor.claim()
        stand.standing = SETTLED
        for watch.outcome in outcomes:
            house.meters = house.meters.model_copy(
                update={"stick": StickView(code=watch.code, text=watch.sentence)}
            )
            page = unescape(visitor.get("/meters", accept_language=language).text)
            words = page.split('<p class="aside">')[1].split("</p>")[0]
            assert len(words) > 10
            assert "<q" not in words  # what has no translation is shown as a quotation
            said.add(words)
            assert "network/add" not in page
    assert len(said) == len(outcomes) - 1  # there is none, and the chosen one is not there


def test_the_last_step_says_when_it_is_done_and_where_to_go_on(
    context: BrowserContext, box: Stand, house: House
) -> None:
    """While it is looked at; nothing needs to be loaded again."""
    accepted = house.live.last_accepted
    house.live = house.live.model_copy(update={"last_accepted": None})
    box.standing = MAPPED
    page = context.new_page()
    page.goto(box.url)
    title = page.locator("h1:visible")
    expect(title).to_have_text("Nearly there")
    expect(page.locator(".mood")).to_have_count(0)  # nobody needs to be told during the set-up
    house.live = house.live.model_copy(update={"last_accepted": accepted})
    box.standing = SETTLED
    expect(title).to_contain_text("Done", timeout=10_000)
    page.get_by_role("button", name="See your house").click()
    expect(page).to_have_url(f"{box.url}/")
    expect(page.locator(".mood")).to_have_text("All is well")
    page.close()


def test_catching_up_says_how_far_it_is(house: House) -> None:
    with Stand(rooms=[house.routes()]) as stand:
        visitor = Visitor(stand)
        visitor.claim()
        stand.standing = SETTLED
        now = visitor.get("/").text
    assert '<progress max="100" value="73"' in now
    assert "Catching up: 73 %, 640 values still wait" in now


def test_a_year_later_the_page_says_what_is_wrong_and_whose_the_box_is(house: House) -> None:
    with Stand(rooms=[house.routes()]) as stand:
        visitor = Visitor(stand)
        visitor.claim()
        stand.standing = SETTLED
        health, box, log = (visitor.get(path).text for path in ("/health", "/box", "/log"))
    assert "640" in health  # slots wait
    for wrong in ("Grid", "beyond its range", "beyond the rating of the main fuse"):
        assert wrong in health
    assert "91.0 kW" in health  # what was refused
    assert "91.00 kW" in health.split('id="set-aside"')[1]  # and what was not believed
    assert "127.0.0.1" in box  # from where it was claimed
    assert "2031-12-31" in box  # supported until
    assert "&lt;b&gt;bold" in log


def test_what_was_switched_stands_among_what_happened(house: House) -> None:
    with Stand(rooms=[house.routes()]) as stand:
        visitor = Visitor(stand)
        visitor.claim()
        text = " ".join(visitor.get("/events").text.split())
    switched = text.split("Something was switched")
    assert len(switched) > 3  # by limit, schedule and hand
    for origin in ("limit", "schedule", "by hand"):
        assert f"Boiler · {origin}" in text


def test_a_sum_of_three_phases_less_the_sun_is_one_row(
    context: BrowserContext, box: Stand, house: House
) -> None:
    page = context.new_page()
    page.goto(f"{box.url}/map")
    page.locator("summary", has_text="sum").click()
    page.fill("#new-name", "What the house takes")
    signs = {f"{HEM}/1": "+", f"{HEM}/2": "+", f"{HEM}/3": "+", f"{PLUG}/0": "-"}
    for key, sign in signs.items():
        page.select_option(f"select[name='new.term.{key}']", sign)
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**said=map_kept")
    path, said = house.asked[-1]
    assert path == "PUT /map"
    added = json.loads(said)["rows"][-1]
    assert (added["name"], added["send"]) == ("What the house takes", True)
    found = {term["channel_key"]: term["sign"] for term in added["terms"]}
    assert found == {key: 1 if sign == "+" else -1 for key, sign in signs.items()}
    page.close()


def test_a_sensor_that_does_not_fit_is_shown_with_the_reason(
    context: BrowserContext, box: Stand
) -> None:
    page = context.new_page()
    page.goto(f"{box.url}/map")
    offered = page.locator(".maprow select").first
    expect(offered.locator("option[value='12']")).to_be_disabled()
    expect(offered.locator("option[value='12']")).to_contain_text("EUR/MWh")
    expect(offered.locator("option[value='12']")).to_contain_text("unit")
    expect(offered.locator("option[value='11']")).to_be_enabled()
    page.close()


def test_a_row_that_stays_at_home_says_so_beside_its_sensor(
    context: BrowserContext, box: Stand
) -> None:
    page = context.new_page()
    page.goto(f"{box.url}/map")
    row = page.locator(".maprow").nth(1)
    row.locator("summary").click()
    expect(row.locator(".stays")).to_be_hidden()
    row.get_by_role("switch").uncheck()
    expect(row.locator(".stays")).to_contain_text("stays at home")
    page.close()


def test_history_that_is_fetched_shows_how_far_it_is(
    context: BrowserContext, box: Stand, house: House
) -> None:
    """As a Smappee or a Home Assistant tells it; nothing is left of it once all is there."""
    seen = watched(context)
    monitor = device("smappee/123", "Smappee", "Infinity", details={"history_percent": 40.0})
    for percent, shown in ((0.0, 1), (40.0, 1), (100.0, 0), (None, 0)):
        fetched = monitor.model_copy(update={"details": {"history_percent": percent}})
        house.meters = house.meters.model_copy(update={"devices": [fetched]})
        seen.page.goto(f"{box.url}/device/smappee/123")
        bar = seen.page.get_by_role("progressbar", name="Earlier readings are fetched")
        expect(bar).to_have_count(shown)
        if shown:
            expect(bar).to_have_attribute("value", f"{percent:.0f}")
            expect(seen.page.locator("main")).to_contain_text(f"{percent:.0f} %")
            assert seen.axe() == []
    assert seen.complaints == []
    seen.page.close()


def test_new_routes_show_how_far_they_are(
    context: BrowserContext, box: Stand, house: House
) -> None:
    page = context.new_page()
    house.task = task(doing="rebuild", percent=40.0)
    page.goto(f"{box.url}/network")
    expect(page.locator("progress")).to_have_attribute("value", "40")
    house.task = task(doing="rebuild", revision=2, is_over=True, went_well=True, outcome="rebuilt")
    expect(page.locator(".notice.good")).to_contain_text("new routes")
    expect(page.locator("progress")).to_have_count(0)
    page.close()


def test_a_wifi_network_is_joined_by_keyboard(
    context: BrowserContext, box: Stand, house: House
) -> None:
    page = context.new_page()
    page.goto(f"{box.url}/wifi")
    page.locator("input[name=network]").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")  # Bakery
    page.keyboard.press("Tab")
    page.keyboard.type("a long secret")
    page.keyboard.press("Enter")
    page.wait_for_url("**/wifi?said=wifi_joined")
    assert json.loads(house.asked[-1][1]) == {
        "network": "Bakery",
        "password": "a long secret",
        "hidden": False,
    }
    house.refusal = ("wifi_password", 409)
    page.fill("#password", "a wrong secret")
    page.keyboard.press("Enter")
    expect(page.locator("[role=alert]")).to_contain_text("refuses this password")
    page.close()


def test_every_rule_of_a_switch_is_kept(context: BrowserContext, box: Stand, house: House) -> None:
    page = context.new_page()
    page.goto(f"{box.url}/control/device/{PLUG}")
    page.locator("#rules summary").click()
    page.fill("#nominal", "1850.5")
    page.fill("#off-power", "2")
    page.fill("#longest", "45")
    page.fill("#rest", "20")
    page.get_by_label("Normally off").check()
    page.fill("#from1", "22:00")
    page.fill("#to1", "06:30")
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**said=control_kept")
    path, said = house.asked[-1]
    assert path == "PUT /control/device"
    assert json.loads(said) == {
        "device": PLUG,
        "is_used": True,
        "consent": True,
        "nominal_power_w": 1850.5,
        "off_power_w": 2.0,
        "away_longest_min": 45,
        "rest_shortest_min": 20,
        "normal_on": False,
        "left_alone": [{"start": "18:00", "end": "20:00"}, {"start": "22:00", "end": "06:30"}],
        "timezone": "",
    }
    page.close()


def test_a_hand_does_the_opposite_of_what_is(
    context: BrowserContext, box: Stand, house: House
) -> None:
    """What a limit switched off a hand keeps on; what runs a hand switches off."""
    limited, running = house.control.devices[0], controlled(HEM, "Pump")
    house.control = house.control.model_copy(update={"devices": [limited, running]})
    page = context.new_page()
    for name, doing, away, said in (
        ("Boiler", "on", False, "neither limit nor schedule"),
        ("Pump", "off", True, "comes back by itself"),
    ):
        page.goto(f"{box.url}/control")
        page.get_by_role("button", name=f"Switch {name} {doing} for 30 minutes").click()
        expect(page.locator(".said")).to_contain_text(said)
        wanted = json.loads(house.asked[-1][1])
        assert wanted["minutes"] == 30
        assert wanted["away"] is away
    page.close()


def test_schedules_of_its_own_are_off_until_somebody_chooses_prices(
    context: BrowserContext, box: Stand, house: House
) -> None:
    page = context.new_page()
    page.goto(f"{box.url}/control/settings")
    expect(page.locator("#price")).to_be_hidden()
    page.get_by_label("The box asks FlexMeasures").check()
    page.select_option("#price", "31")
    page.fill("#worth", "0.31")
    page.select_option("#every", "30")
    page.locator("form[action='/control/schedules'] button").click()
    page.wait_for_url("**said=schedules_on")
    assert json.loads(house.asked[-1][1]) == {
        "price_sensor_id": 31,
        "worth_per_kwh": 0.31,
        "every_minutes": 30.0,
        "horizon_hours": 24.0,
    }
    page.select_option("#lease", "240")
    page.locator("form[action='/control/lease'] button").click()
    page.wait_for_url("**said=control_kept")
    assert house.asked[-1] == ("PUT /control/lease", '{"minutes":240}')
    page.select_option("#zone", "Europe/Berlin")
    page.locator("form[action='/control/timezone'] button").click()
    page.wait_for_url("**said=control_kept")
    assert json.loads(house.asked[-1][1])["timezone"] == "Europe/Berlin"
    page.close()
