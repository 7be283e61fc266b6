"""Smappee and Home Assistant through the page, before the whole house: refused, joined, chosen
from; and a meter that is seen by two paths."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from pydantic import SecretStr

from edge.cli.door import ask
from edge.contract import Done, Status
from edge.contract.setup import FamilyRequest
from tests.house import smappee_cloud
from tests.house.flexmeasures import FlexMeasuresServer
from tests.house.spoken_home_assistant import TOKEN, SpokenHomeAssistant
from tests.page.settled import at_home
from tests.page.whole_house import WholeHouse

CLAMP = "zwave/7e570001-2/1/active_power/import"
BOTTLES = "smappee/123/sensor-5-2/pulses/import"
TRIED_WITHIN_MS = 30_000


@pytest.fixture
def page(house: WholeHouse, server: FlexMeasuresServer, context: BrowserContext) -> Page:
    return at_home(house, server, context).page


@pytest.fixture
def spoken(house: WholeHouse) -> Iterator[SpokenHomeAssistant]:
    """A Home Assistant that shows the house's own clamp too."""
    found = SpokenHomeAssistant()
    [entry] = [
        entry
        for entry in found.answers["config/entity_registry/list"]
        if entry["entity_id"] == "sensor.grid_power"
    ]
    entry |= {"platform": "zwave_js", "unique_id": f"{0x7E570001}.2-50-1-value-66049"}
    serving = found.serve()
    house.do(serving.__aenter__)
    yield found
    house.do(lambda: serving.__aexit__(None, None, None))


@pytest.fixture
def cloud(house: WholeHouse) -> Iterator[smappee_cloud.SmappeeCloud]:
    """A Smappee cloud that no longer knows the account the box has."""
    found = smappee_cloud.SmappeeCloud(lambda: datetime.now(UTC))
    found.has_input_module = True
    serving = found.serve()
    url = house.do(serving.__aenter__)
    nobody = SecretStr("nobody's")
    wanted = FamilyRequest(
        values={"cloud": url, "client_id": "nobody", "username": "nobody", "history": "none"},
        secrets={"client_secret": nobody, "password": nobody},
    )
    ask(house.own_socket, "PUT", "/families/smappee", Done, wanted)
    yield found
    house.do(lambda: serving.__aexit__(None, None, None))


def test_smappee_that_refuses_is_paired_again(
    house: WholeHouse, page: Page, cloud: smappee_cloud.SmappeeCloud
) -> None:
    def type_in(password: str) -> None:
        page.fill("#f-client_id", smappee_cloud.CLIENT_ID)
        page.fill("#f-client_secret", smappee_cloud.CLIENT_SECRET)
        page.fill("#f-username", smappee_cloud.USERNAME)
        page.fill("#f-password", password)

    until_it_says(house, page, "Smappee refuses the user name, password")
    page.goto(f"{house.url}/meters/family/smappee")
    type_in("CANARY not the one")
    page.get_by_role("button", name="Try it").click()
    expect(page.locator("main .problem")).to_contain_text("refuses", timeout=TRIED_WITHIN_MS)
    type_in(smappee_cloud.PASSWORD)
    page.get_by_role("button", name="Try it").click()
    expect(page.get_by_label("Home", exact=True)).to_be_checked(timeout=TRIED_WITHIN_MS)
    expect(page.get_by_label("Coffeemaker")).not_to_be_checked()
    type_in(smappee_cloud.PASSWORD)
    page.get_by_role("button", name="Use it").click()
    page.wait_for_url("**said=family_kept")
    house.until(lambda: "smappee/123" in devices(house), within_s=60)
    page.goto(f"{house.url}/meters")
    assert "refuses" not in page.locator("main").inner_text()

    house.until(lambda: BOTTLES in {c.key for c in status(house).channels}, within_s=60)
    sum_of(house, page, "Empty bottles", BOTTLES)
    page.wait_for_url("**said=map_kept**")
    house.until(lambda: fed_by(house, BOTTLES) is not None, within_s=30)
    unmap(house, page, "Bottles")
    leave(house, page, "smappee")


def test_home_assistant_is_chosen_from_and_chosen_from_anew(
    house: WholeHouse, page: Page, spoken: SpokenHomeAssistant
) -> None:
    try_home_assistant(house, page, spoken, "")
    expect(page.locator("main > .problem")).to_contain_text("still missing")
    expect(page.locator("main [aria-invalid=true]")).to_have_id("f-token")
    try_home_assistant(house, page, spoken, "CANARY not the token")
    expect(page.locator("main .problem")).to_contain_text("long-lived", timeout=TRIED_WITHIN_MS)
    try_home_assistant(house, page, spoken)
    boiler = page.get_by_label("Boiler (switch.boiler)")
    power = page.get_by_label("Grid power (sensor.grid_power)")
    imported = page.get_by_label("Grid import (sensor.grid_import)")
    expect(imported).to_be_checked(timeout=TRIED_WITHIN_MS)  # as on the energy dashboard
    expect(boiler).not_to_be_checked()
    expect(power).not_to_be_checked()
    boiler.check()
    power.check()
    imported.uncheck()
    use_it(page)
    house.until(lambda: "Boiler" in names(house), within_s=60)

    try_home_assistant(house, page, spoken)
    expect(power).to_be_checked(timeout=TRIED_WITHIN_MS)  # what was chosen, not the dashboard
    expect(imported).not_to_be_checked()
    boiler.uncheck()
    use_it(page)
    house.until(lambda: "Boiler" not in names(house), within_s=60)


def test_meter_by_two_paths_is_offered_once_and_sent_twice_by_who_insists(
    house: WholeHouse, page: Page, spoken: SpokenHomeAssistant
) -> None:
    try_home_assistant(house, page, spoken)
    page.get_by_label("Grid power (sensor.grid_power)").check(timeout=TRIED_WITHIN_MS)
    use_it(page)
    house.until(lambda: repeated(house) is not None, within_s=60)
    second = repeated(house)

    page.goto(f"{house.url}/map")
    assert CLAMP in page.content()
    proposed = page.locator(".maprow .made")
    assert not [row for row in proposed.all_inner_texts() if "Grid power" in row]

    sum_of(house, page, "The clamp once more", second)
    expect(page.locator("main .problem")).to_contain_text("counted twice")
    assert fed_by(house, second) is None
    page.get_by_label("Send both all the same").check()
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**said=map_kept**")
    house.until(lambda: fed_by(house, second) is not None, within_s=30)
    assert fed_by(house, CLAMP) not in (None, fed_by(house, second))
    unmap(house, page, "Grid power")
    house.until(lambda: fed_by(house, second) is None, within_s=30)
    leave(house, page, "homeassistant")


def try_home_assistant(
    house: WholeHouse, page: Page, spoken: SpokenHomeAssistant, token: str = TOKEN
) -> None:
    page.goto(f"{house.url}/meters/family/homeassistant")
    page.fill("#f-address", spoken.url)
    page.fill("#f-token", token)
    page.locator("input[name=history][value=none]").check()
    page.get_by_role("button", name="Try it").click()


def use_it(page: Page) -> None:
    page.fill("#f-token", TOKEN)
    page.get_by_role("button", name="Use it").click()
    page.wait_for_url("**said=family_kept")


def sum_of(house: WholeHouse, page: Page, name: str, key: str | None) -> None:
    """A sensor of its own for one channel."""
    page.goto(f"{house.url}/map")
    page.locator("details", has=page.locator("#new-name")).locator("summary").click()
    page.fill("#new-name", name)
    page.locator(f"select[name='new.term.{key}']").select_option("+")
    page.get_by_role("button", name="Save").click()


def unmap(house: WholeHouse, page: Page, made_of: str) -> None:
    page.goto(f"{house.url}/map")
    row = page.locator(".maprow", has=page.locator(".made", has_text=made_of))
    row.locator("[role=switch]").uncheck()
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**said=map_kept**")


def leave(house: WholeHouse, page: Page, family: str) -> None:
    page.goto(f"{house.url}/meters/family/{family}")
    page.locator("summary", has_text="Stop using it").click()
    page.get_by_role("button", name="Stop using it").click()
    page.wait_for_url("**said=family_left")


def until_it_says(house: WholeHouse, page: Page, words: str) -> None:
    def says() -> bool:
        page.goto(f"{house.url}/meters")
        return words in page.locator("main").inner_text()

    house.until(says, within_s=60)


def status(house: WholeHouse) -> Status:
    return ask(house.own_socket, "GET", "/status", Status)


def devices(house: WholeHouse) -> set[str]:
    return {device.key for device in status(house).devices}


def names(house: WholeHouse) -> set[str]:
    return {device.name for device in status(house).devices}


def repeated(house: WholeHouse) -> str | None:
    """The clamp as Home Assistant shows it."""
    keys = [channel.key for channel in status(house).channels]
    power = "/active_power/import"
    return next((k for k in keys if k.startswith("homeassistant/") and k.endswith(power)), None)


def fed_by(house: WholeHouse, key: str | None) -> int | None:
    found = [channel.sensor_id for channel in status(house).channels if channel.key == key]
    return found[0] if found else None
