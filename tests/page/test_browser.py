"""The page in a real browser before the stand: weight, keyboard, foreign sites, names, tongues."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.page.at_the_stand import settled
from tests.page.browser import DESK, PHONE, browser, watched
from tests.page.rooms import House, for_pictures
from tests.page.screens import SCREENS
from tests.page.stand import PASSWORD, Stand

LABEL = Path(__file__).with_name("smartstart.png")
LABEL_DIGITS = (
    "900158770131019553193205152378324693356347043282782800100409701792022000881000030017500515"
)
FIRST_LOAD_BYTES_MAX = 60_000
FIRST_LOAD_REQUESTS_MAX = 10


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    rules = "--host-resolver-rules=MAP edge.local 127.0.0.1, MAP evil.example 127.0.0.1"
    with browser(tmp_path_factory.mktemp("profile"), rules) as opened:
        yield opened


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def box(house: House, context: BrowserContext) -> Iterator[Stand]:
    with settled(house, context) as stand:
        yield stand


def speak(context: BrowserContext, box: Stand, language: str) -> None:
    context.add_cookies([{"name": "language", "value": language, "url": box.url}])


def weight(context: BrowserContext, url: str) -> tuple[int, int]:
    """Requests, and bytes on the wire with their headers, of the first load of `url`."""
    page = context.new_page()
    network = context.new_cdp_session(page)
    asked: set[str] = set()
    sent_bytes: list[float] = []

    def note(event: dict[str, Any]) -> None:
        if not event["request"]["url"].startswith("data:"):
            asked.add(event["requestId"])

    network.on("Network.requestWillBeSent", note)
    network.on("Network.loadingFinished", lambda e: sent_bytes.append(e["encodedDataLength"]))
    network.send("Network.enable")
    network.send("Network.clearBrowserCache")
    page.goto(url, wait_until="load")
    page.wait_for_timeout(700)  # a chart fetches its values
    page.close()
    return len(asked), int(sum(sent_bytes))


def test_the_first_load_is_light(context: BrowserContext, box: Stand) -> None:
    for path in ("/", "/meters", "/control"):
        requests, sent_bytes = weight(context, f"{box.url}{path}")
        assert requests <= FIRST_LOAD_REQUESTS_MAX, path
        assert sent_bytes <= FIRST_LOAD_BYTES_MAX, path


def test_a_new_box_is_claimed_by_keyboard_alone(context: BrowserContext) -> None:
    house = House()
    with Stand(rooms=[house.routes()]) as stand:
        context.clear_cookies()
        page = context.new_page()
        keys = page.keyboard
        page.goto(f"{stand.url}/claim")
        keys.type(PASSWORD)  # the field has the focus
        keys.press("Enter")
        page.wait_for_url(f"{stand.url}/flexmeasures")
        for typed in ("https://demo.flexmeasures.io", "box@example.org", "a password"):
            while page.evaluate("document.activeElement.matches('main input')") is False:
                keys.press("Tab")
            keys.type(typed)
            keys.press("Tab")
        keys.press("Shift+Tab")
        keys.press("Enter")
        expect(page.locator("h1")).to_contain_text("Which site")
        while page.evaluate("document.activeElement.name") != "site":
            keys.press("Tab")
        keys.press("ArrowUp")
        keys.press("ArrowUp")
        keys.press("Enter")
        page.wait_for_url(f"{stand.url}/meters?said=paired")
        assert "POST /flexmeasures/site" in [path for path, _ in house.asked]
        focus = page.evaluate("document.querySelector('.skip').className")
        assert focus == "skip"
        keys.press("Tab")
        keys.press("Enter")  # skip to the content
        assert page.evaluate("document.activeElement.id") == "main"
        page.close()


def test_a_foreign_name_that_points_here_shows_nothing(context: BrowserContext, box: Stand) -> None:
    page = context.new_page()
    answer = page.goto(f"http://evil.example:{box.port}/log-in")
    assert answer is not None
    assert answer.status == 421
    assert page.locator("form").count() == 0
    page.close()


def test_a_form_on_a_foreign_site_changes_nothing(
    context: BrowserContext, box: Stand, house: House
) -> None:
    """The visitor is logged in and opens a page that posts to the box by itself."""
    attack = f"""<form id=f method=post action="{box.url}/flexmeasures/leave"></form>
    <script>document.getElementById("f").submit()</script>""".encode()

    class Evil(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library's name
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(attack)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Evil) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = context.new_page()
        with page.expect_response(f"{box.url}/flexmeasures/leave") as answered:
            page.goto(f"http://evil.example:{server.server_address[1]}/", wait_until="commit")
        assert answered.value.status == 403
        server.shutdown()
        page.close()
    assert "DELETE /flexmeasures" not in [path for path, _ in house.asked]


def test_no_foreign_site_can_frame_the_page(context: BrowserContext, box: Stand) -> None:
    seen = watched(context)
    seen.page.goto(f"{box.url}/log-in")
    framed = (
        "const f = document.createElement('iframe'); f.src = '/log-in'; document.body.append(f)"
    )
    seen.page.evaluate(framed)
    seen.page.wait_for_timeout(500)
    assert any("frame" in each.lower() for each in seen.complaints)
    seen.page.close()


def test_names_from_the_radio_are_text_everywhere(context: BrowserContext, box: Stand) -> None:
    seen = watched(context)
    dialogs: list[str] = []
    seen.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    for path in ("/", "/meters", "/map", "/health", "/control", "/device/zwave/7e570001-4"):
        seen.page.goto(f"{box.url}{path}")
        expect(seen.page.locator("main")).to_contain_text("<script>alert(1)</script>")
    assert dialogs == []
    assert seen.complaints == []
    seen.page.close()


def test_a_photo_of_the_label_becomes_its_code(
    context: BrowserContext, box: Stand, house: House
) -> None:
    seen = watched(context)
    seen.page.goto(f"http://edge.local:{box.port}/log-in")  # no secure context, as in a household
    seen.page.fill("#password", PASSWORD)
    seen.page.keyboard.press("Enter")
    seen.page.wait_for_url("**/")
    seen.page.goto(f"http://edge.local:{box.port}/network/add")
    seen.page.set_input_files("#photo", LABEL)
    expect(seen.page.locator("#code")).to_have_value(LABEL_DIGITS, timeout=10_000)
    seen.page.get_by_role("button", name="Add with this code").click()
    seen.page.wait_for_url("**/network")
    assert LABEL_DIGITS in house.asked[-1][1]
    assert seen.complaints == []
    seen.page.close()


def test_a_photo_without_a_code_says_so(
    context: BrowserContext, box: Stand, tmp_path: Path
) -> None:
    page = context.new_page()
    page.goto(f"{box.url}/network/add")
    page.screenshot(path=tmp_path / "nothing.png")
    page.set_input_files("#photo", tmp_path / "nothing.png")
    expect(page.locator("#photo-said")).to_contain_text("No code was found", timeout=10_000)
    page.close()


DRESSES = [("en", PHONE, "light"), ("nl", PHONE, "dark"), ("de", DESK, "light")]


def test_every_screen_is_sound_in_every_dress(
    context: BrowserContext, box: Stand, house: House
) -> None:
    """Phone and desk, light and dark, three languages: no complaint, nothing too wide, and nothing
    that axe finds."""
    seen = watched(context)
    for language, size, scheme in DRESSES:
        speak(context, box, language)
        seen.page.set_viewport_size(size)  # type: ignore[arg-type]
        seen.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        for name, path, standing, prepare in SCREENS:
            for_pictures(house)
            prepare(house)
            box.standing = standing
            answer = seen.page.goto(f"{box.url}{path}")
            assert answer is not None
            assert answer.status == 200, (name, language)
            assert not seen.overflows(), (name, language)
            assert seen.axe() == [], (name, language)
    assert seen.complaints == []
    seen.page.close()


def test_what_the_box_says_itself_is_said_in_the_visitors_language(
    context: BrowserContext, box: Stand
) -> None:
    page = context.new_page()
    speak(context, box, "nl")
    page.goto(f"{box.url}/control")
    expect(page.locator("main")).to_contain_text("FlexMeasures maakt geen schema")
    expect(page.locator("main q")).to_have_count(0)
    page.close()


def test_an_update_is_sent_with_its_progress(
    context: BrowserContext, box: Stand, house: House, tmp_path: Path
) -> None:
    bundle = tmp_path / "new.update"
    bundle.write_bytes(b"manifest.json\0" + bytes(20_000_000))
    seen = watched(context)
    seen.page.goto(f"{box.url}/updates")
    seen.page.set_input_files("#bundle", bundle)
    seen.page.get_by_role("button", name="Send and install").click()
    seen.page.wait_for_url("**/updates?said=update_taken")
    assert ("POST /updates/bundle", str(bundle.stat().st_size)) in house.asked
    house.refusal = ("update_busy", 409)
    seen.page.set_input_files("#bundle", bundle)
    seen.page.get_by_role("button", name="Send and install").click()
    expect(seen.page.locator("[data-said]")).to_contain_text("being installed already")
    assert seen.complaints == []
    seen.page.close()


@pytest.mark.parametrize(
    ("chosen", "said"), [("nl", "Uw meters"), ("de", "Ihre Zähler"), ("en", "Your meters")]
)
def test_the_page_speaks_three_languages(
    context: BrowserContext, box: Stand, chosen: str, said: str
) -> None:
    page = context.new_page()
    page.set_viewport_size(DESK)  # type: ignore[arg-type]
    page.goto(f"{box.url}/meters")
    page.locator(f"footer button[value={chosen}]").click()
    expect(page.locator("h1")).to_have_text(said)
    assert page.evaluate("document.documentElement.lang") == chosen
    assert urlsplit(page.url).path == "/meters"
    page.close()
