"""A sensor that FlexMeasures had before the box, with slots of a minute: a plug is made to feed it
on the map, and what arrived in it is asked for without code of the box."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import requests
from playwright.sync_api import Page

from edge.cli.door import ask
from edge.contract import Status
from tests.house import arrived
from tests.house.flexmeasures import FlexMeasuresServer
from tests.page.settled import HOME, owner_of
from tests.page.whole_house import WholeHouse

ARRIVES_WITHIN_S = 180  # the rest of a minute, a whole one, what must settle, an upload
SHOWN_WITHIN_S = 90  # the box asks for the sensors of a site once a minute


@dataclass
class OldSensor:
    """`OldSensor.make(house, server, name)` makes it below the house's site."""

    server: FlexMeasuresServer
    session: requests.Session
    ident: int

    @classmethod
    def make(
        cls, house: WholeHouse, server: FlexMeasuresServer, name: str, unit: str = "kW"
    ) -> "OldSensor":
        session, owner = requests.Session(), owner_of(house, server)
        body = {"email": owner.email, "password": owner.password}
        token = session.post(f"{server.url}/api/requestAuthToken", json=body, timeout=30).json()
        session.headers["Authorization"] = token["auth_token"]
        assets = session.get(f"{server.url}/api/v3_0/assets", timeout=30).json()
        wanted = {
            "name": name,
            "unit": unit,
            "event_resolution": "PT1M",
            "generic_asset_id": next(each["id"] for each in assets if each["name"] == "Our house"),
        }
        made = session.post(f"{server.url}/api/v3_0/sensors", json=wanted, timeout=30).json()
        return cls(server, session, made["id"])

    def choose(self, house: WholeHouse, page: Page, node: int) -> None:
        """Let the power of this plug feed it, also where its row stayed at home so far."""
        feeds = f"select[name*='{HOME}-{node}/0/active_power']"
        row = page.locator(".maprow", has=page.locator(feeds)).first
        chosen = row.locator("select").first

        def is_offered() -> bool:
            page.goto(f"{house.url}/map")
            return bool(chosen.locator(f"option[value='{self.ident}']").count())

        house.until(is_offered, SHOWN_WITHIN_S, every_s=2)
        row.get_by_role("switch").check()
        row.locator("summary").click()
        chosen.select_option(str(self.ident))
        page.get_by_role("button", name="Save").click()
        page.wait_for_url("**said=map_kept**")
        assert self.ident in fed(house).values()

    def holds(self, kilowatts: float, since: datetime) -> bool:
        """Whether it holds this, whatever its sign, in a slot that began after `since`."""
        begins = since.astimezone(UTC).replace(second=0, microsecond=0)  # else it answers nothing
        query = {
            "start": (begins + timedelta(minutes=1)).isoformat(),
            "duration": "PT15M",
            "unit": "kW",
        }
        url = f"{self.server.url}/api/v3_0/sensors/{self.ident}/data"
        series = self.session.get(url, params=query, timeout=30).json().get("values", [])
        return kilowatts in {round(abs(value), 3) for value in series if value is not None}

    def wait_for(self, house: WholeHouse, kilowatts: float, since: datetime) -> None:
        """Until it holds this. Asks seldom: an account's requests are counted, and the box needs
        its share."""
        house.until(lambda: self.holds(kilowatts, since), ARRIVES_WITHIN_S, every_s=3)


def of_devices(house: WholeHouse, server: FlexMeasuresServer) -> list[arrived.Sensor]:
    """Every sensor of the account but those that tell how a box is: each box makes its own, with
    its first upload."""
    found = arrived.sensors(server.url, owner_of(house, server))
    return [sensor for sensor in found if sensor[0] != "box"]


def fed(house: WholeHouse) -> dict[str, int | None]:
    """Which channel feeds which sensor."""
    status = ask(house.own_socket, "GET", "/status", Status)
    return {channel.key: channel.sensor_id for channel in status.channels}
