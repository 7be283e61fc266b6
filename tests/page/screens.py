"""Takes a picture of every screen for the README: `make screenshots`.

Before the stand's small house, so that the pictures are the same whenever nothing changed.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page

from edge.contract.control import TriggerView
from edge.contract.page import Standing
from edge.contract.setup import NetworkStep
from tests.page.browser import DESK, PHONE, browser
from tests.page.rooms import HEM, PLUG, House, day, for_pictures, task, updates
from tests.page.stand import PASSWORD, Stand

NEW = Standing(paired=False, meters=0, mapped=0, live=False, attention=0)
PAIRED = NEW.model_copy(update={"paired": True})
MEASURING = PAIRED.model_copy(update={"meters": 3})
MAPPED = MEASURING.model_copy(update={"mapped": 2})
LIVE = MAPPED.model_copy(update={"live": True})
ASKING = LIVE.model_copy(update={"attention": 3})

type Prepare = Callable[[House], None]


def nothing(_: House) -> None:
    """The house as it is."""


def logged_in(house: House) -> None:
    house.pairing = house.pairing.model_copy(update={"account": house.account})


def paired(house: House) -> None:
    house.pairing = house.pairing.model_copy(update={"status": house.status.flexmeasures})


def pressing(house: House) -> None:
    house.task = task(waits_for="button", left_s=212.0)


def pin(house: House) -> None:
    rest = "49772-64709-12345-33333-44444-55555-60666"
    steps = [NetworkStep(code=code) for code in ("started", "found", "granted")]
    house.task = task(waits_for="pin", asks=[rest], steps=steps)


def added(house: House) -> None:
    codes = ("started", "found", "granted", "pin_entered", "added", "interview")
    steps = [NetworkStep(code=code) for code in codes]
    steps.append(NetworkStep(code="ready", text="Aeotec ZW175"))
    house.task = task(is_over=True, went_well=True, outcome="ready", device=PLUG, steps=steps)


def waiting(house: House) -> None:
    """For the first reading to be accepted."""
    calm(house)
    house.live = house.live.model_copy(update={"last_accepted": None, "accepted": 0})


def calm(house: House) -> None:
    done = {"waiting": 0, "catching_up_percent": None, "done_by": None}
    house.live = house.live.model_copy(update=done)


def updating(house: House) -> None:
    house.updates = updates(busy="writing", coming="2026.04.02-0900", percent=41)


def scheduling(house: House) -> None:
    own = TriggerView(price_sensor_id=12, worth_per_kwh=0.28, every_minutes=60, horizon_hours=24)
    house.control = house.control.model_copy(update={"triggers": own})


SCREENS: list[tuple[str, str, Standing, Prepare]] = [
    ("2-flexmeasures", "/flexmeasures", NEW, nothing),
    ("2-site", "/flexmeasures", NEW, logged_in),
    ("2-paired", "/flexmeasures", LIVE, paired),
    ("3-meters", "/meters", PAIRED, nothing),
    ("3-family", "/meters/family/smappee", PAIRED, nothing),
    ("3-add", "/network/add", PAIRED, nothing),
    ("3-press", "/network", PAIRED, pressing),
    ("3-pin", "/network", PAIRED, pin),
    ("3-added", "/network", PAIRED, added),
    ("3-memory", "/network/memory", MEASURING, nothing),
    ("3-device", f"/device/{HEM}", MEASURING, nothing),
    ("4-map", "/map", MEASURING, nothing),
    ("5-waiting", "/live", MAPPED, waiting),
    ("5-live", "/live", MAPPED, calm),
    ("now", "/", LIVE, calm),
    ("now-catching-up", "/", LIVE, nothing),
    ("control", "/control", LIVE, nothing),
    ("control-device", f"/control/device/{PLUG}", LIVE, nothing),
    ("control-settings", "/control/settings", LIVE, scheduling),
    ("health", "/health", ASKING, nothing),
    ("events", "/events", LIVE, nothing),
    ("log", "/log", LIVE, nothing),
    ("box", "/box", LIVE, nothing),
    ("updates", "/updates", LIVE, nothing),
    ("updates-writing", "/updates", LIVE, updating),
    ("wifi", "/wifi", LIVE, nothing),
]
AT_THE_DESK = frozenset({"now", "4-map"})
BY_NIGHT = frozenset({"now"})
MOVES = frozenset({"5-waiting"})  # it turns: no two pictures of it are the same


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with _opened() as (stand, house, page):
        page.goto(f"{stand.url}/claim")
        _picture(page, folder / "1-claim.png")
        page.fill("#password", PASSWORD)
        page.locator("main form button[type=submit]").first.click()
        page.wait_for_url(f"{stand.url}/flexmeasures")
        for name, path, standing, prepare in SCREENS:
            if name in MOVES:
                continue
            for_pictures(house)
            prepare(house)
            stand.standing = standing
            page.set_viewport_size(PHONE)  # type: ignore[arg-type]
            page.goto(f"{stand.url}{path}")
            _picture(page, folder / f"{name}.png")
            if name in BY_NIGHT:
                page.emulate_media(color_scheme="dark")
                _picture(page, folder / f"{name}-dark.png")
                page.emulate_media(color_scheme="light")
            if name in AT_THE_DESK:
                page.set_viewport_size(DESK)  # type: ignore[arg-type]
                page.goto(f"{stand.url}{path}")
                _picture(page, folder / f"{name}-desk.png")
    print(f"{len(list(folder.glob('*.png')))} pictures in {folder}")


def _picture(page: Page, path: Path) -> None:
    page.wait_for_timeout(400)  # a chart draws itself after its first frame
    if path.stem not in ("now", "now-dark"):  # on a whole page the bar would lie in its middle
        page.evaluate(
            "document.querySelectorAll('.places').forEach((e) => e.style.position = 'static')"
        )
    page.screenshot(path=path, full_page=path.stem not in ("now", "now-dark"))


@contextmanager
def _opened() -> Iterator[tuple[Stand, House, Page]]:
    house = House()
    assert day().values
    with (
        tempfile.TemporaryDirectory() as profile,
        Stand(rooms=[house.routes()]) as stand,
        browser(Path(profile)) as context,
    ):
        page = context.new_page()
        page.emulate_media(color_scheme="light", reduced_motion="reduce")
        yield stand, house, page


if __name__ == "__main__":
    main(Path(sys.argv[1]))
