"""Every kind of secret a box holds, searched for in every place that others may see.

The box is claimed, paired and has a Smappee, a Home Assistant and a stick; whatever can be typed
wrong is typed wrong, and servers answer with what they were sent. Then all that lies, is logged, is
shown or leaves the house is read, and none of it may be in there.
"""

import asyncio
import io
import json
import secrets as dice
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
import requests
from aiohttp import web
from playwright.sync_api import BrowserContext
from pydantic import SecretStr

from edge.cli.door import ask
from edge.contract import Done, Status
from edge.contract.setup import FamilyRequest
from tests.house import child, smappee_cloud
from tests.house.flexmeasures import Account, FlexMeasuresServer
from tests.house.spoken_home_assistant import SpokenHomeAssistant
from tests.page.settled import at_home, owner_of
from tests.page.whole_house import WholeHouse

CLOUD_SECRETS = (smappee_cloud.CLIENT_SECRET, smappee_cloud.PASSWORD)
TOKEN_BEGINS = 60  # characters that every token of one user has in common: version and user
KEPT = ("credentials.json", "credentials.last")  # the one room for secrets


@dataclass
class Others:
    """What the box speaks to beside FlexMeasures; all of it lives on the house's loop."""

    cloud: smappee_cloud.SmappeeCloud
    home_assistant: SpokenHomeAssistant
    echo_url: str = ""
    canaries: list[str] = field(default_factory=list)

    def canary(self, of: str) -> str:
        """A secret nobody has seen before."""
        self.canaries.append(f"CANARY-{of}-{dice.token_hex(6)}")
        return self.canaries[-1]


@pytest.fixture(scope="module")
def others(house: WholeHouse) -> Iterator[Others]:
    async def open_all() -> tuple[Others, AsyncExitStack]:
        stack = AsyncExitStack()
        found = Others(smappee_cloud.SmappeeCloud(lambda: datetime.now(UTC)), SpokenHomeAssistant())
        cloud_url = await stack.enter_async_context(found.cloud.serve())
        found.home_assistant.token = found.canary("home-assistant")
        address = await stack.enter_async_context(found.home_assistant.serve())
        found.echo_url = await stack.enter_async_context(echo())
        for family, values, kept in (
            (
                "smappee",
                {
                    "cloud": cloud_url,
                    "client_id": smappee_cloud.CLIENT_ID,
                    "username": smappee_cloud.USERNAME,
                    "history": "none",
                },
                dict(zip(("client_secret", "password"), CLOUD_SECRETS, strict=True)),
            ),
            (
                "homeassistant",
                {"address": address, "history": "none"},
                {"token": found.home_assistant.token},
            ),
        ):
            wanted = FamilyRequest(
                values=values, secrets={name: SecretStr(value) for name, value in kept.items()}
            )
            await asyncio.to_thread(
                ask, house.own_socket, "PUT", f"/families/{family}", Done, wanted
            )
        return found, stack

    found, stack = house.do(open_all)
    yield found
    person = somebody(house)
    for family in ("smappee", "homeassistant"):
        person.post(f"{house.url}/meters/family/{family}/leave", timeout=30).raise_for_status()
    house.do(stack.aclose)


def somebody(house: WholeHouse) -> requests.Session:
    """Logged in, which also forgives every wrong try before."""
    person = requests.Session()
    person.headers["origin"] = house.url
    person.post(f"{house.url}/log-in", {"password": house.password}, timeout=20).raise_for_status()
    return person


@asynccontextmanager
async def echo() -> AsyncIterator[str]:
    """A server that answers with all it was sent, as careless error pages do."""

    async def say(request: web.Request) -> web.Response:
        said = f"{request.path_qs} {dict(request.headers)} {await request.text()}"
        return web.Response(status=500, text=said)

    app = web.Application()
    app.router.add_route("*", "/{anything:.*}", say)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def test_no_secret_is_found_anywhere_but_in_its_room(
    house: WholeHouse, server: FlexMeasuresServer, context: BrowserContext, others: Others
) -> None:
    owner = owner_of(house, server)
    page = at_home(house, server, context).page
    person = somebody(house)
    house.until(lambda: bool(others.cloud.refresh_tokens), within_s=60)
    house.until(lambda: heard_smappee(house), within_s=60)

    told = mistype_everything(house, person, others)
    assert all(answer.status_code >= 400 or answer.is_redirect for answer in told), told
    passphrase = others.canary("backup-passphrase")
    sealed = person.post(f"{house.url}/box/backup", {"passphrase": passphrase}, timeout=60)
    assert json.loads(sealed.content)["secrets"]

    hidden = [
        *others.canaries,
        *CLOUD_SECRETS,
        *others.cloud.refresh_tokens,
        *others.cloud.tokens,
        *house.driver.keys.values(),
        *others.home_assistant.token.split(),
        *person.cookies.values(),
        house.password,
        owner.password,
        dsk_that_was_typed(others),
    ]
    token, shown_there = of_flexmeasures(server, owner)
    hidden.append(token[:TOKEN_BEGINS])
    seen = {**places(house, person, page.content().encode()), **shown_there}
    seen["a backup under a passphrase"] = sealed.content
    for number, answer in enumerate(told):
        seen[f"answer {number} ({answer.request.url})"] = answer.content
    assert {"agent.log", "state.db", "support bundle", "journal of the page"} <= set(seen)
    found = [
        (place, secret)
        for place, content in seen.items()
        for secret in hidden
        if secret.encode() in content
    ]
    assert found == []


def test_what_the_box_keeps_is_readable_by_itself_only(house: WholeHouse, others: Others) -> None:
    kept = [path for path in house.state.rglob("*") if path.is_file()]
    assert {path.name for path in kept} >= {*KEPT, "state.db", "buffer.db", "claimed"}
    own_logs = [path for path in kept if path.suffix != ".log"]
    assert {path.name: oct(path.stat().st_mode & 0o077) for path in own_logs} == {
        path.name: "0o0" for path in own_logs
    }
    room = (house.state / "credentials.json").read_bytes()  # this machine hands out no key
    assert others.home_assistant.token.encode() in room  # … so the search above could find it


def heard_smappee(house: WholeHouse) -> bool:
    status = ask(house.own_socket, "GET", "/status", Status)
    return any(channel.key.startswith("smappee/") for channel in status.channels)


def dsk_that_was_typed(others: Others) -> str:
    return next(each for each in others.canaries if each.count("-") == 7)


def mistype_everything(
    house: WholeHouse, person: requests.Session, others: Others
) -> list[requests.Response]:
    """Each form with a secret where it does not belong, is too long, or is answered by an echo."""
    others.canaries.append("-".join(f"{dice.randbelow(65536):05}" for _ in range(8)))
    dsk = others.canaries[-1]
    wrong, new = others.canary("wrong"), others.canary("new") * 100
    in_url = others.canary("url")
    forms: list[tuple[str, dict[str, str]]] = [
        ("/log-in", {"password": wrong}),
        ("/claim", {"password": wrong, "code": others.canary("claim-code")}),
        ("/box/password", {"current": wrong, "new": new}),
        ("/box/password", {"current": wrong, "new": wrong}),
        ("/box/reset", {"password": wrong}),
        ("/box/backup", {"passphrase": others.canary("long-passphrase") * 100}),
        ("/network/do", {"doing": "pin", "text": others.canary("pin")}),
        ("/network/do", {"doing": "add_code", "text": dsk + others.canary("code")}),
        ("/network/do", {"doing": "add_code", "text": dsk.replace("-", " ")[:-3]}),
        ("/network/do", {"doing": others.canary("doing"), "device": others.canary("device")}),
        ("/meters/family/homeassistant", {"secret.token": others.canary("token")}),
        ("/meters/family/homeassistant", {"secret.token": others.canary("t") * 300}),
        ("/meters/family/smappee", {"secret.password": others.canary("smappee")}),
        ("/meters/family/smappee", {"secret.client_secret": others.canary("client")}),
    ]
    for address in (
        others.echo_url,
        "http://127.0.0.1:9",
        f"https://me:{in_url}@flexmeasures.example",
        f"https://me:{in_url}@[flexmeasures.example",
        f"{others.echo_url}/?token={in_url}",
    ):
        form = {"url": address, "email": "me@example.org", "password": others.canary("account")}
        forms.append(("/flexmeasures", form))
    forms.append(("/wifi", {"network": "home", "password": others.canary("wifi")}))
    told = []
    for path, form in forms:
        others.cloud.faults.append(
            smappee_cloud.Fault(status=400, body=json.dumps({**form, "at": CLOUD_SECRETS[0]}))
        )
        told.append(person.post(f"{house.url}{path}", form, timeout=60, allow_redirects=False))
    others.cloud.faults.clear()
    as_json = {"password": {"password": others.canary("json")}}
    told.append(person.post(f"{house.url}/log-in", json=as_json, timeout=20))
    return told


def places(house: WholeHouse, person: requests.Session, shown: bytes) -> dict[str, bytes]:
    """All that lies, is logged or is shown, by a name."""
    found = {
        path.name: path.read_bytes()
        for path in [*house.state.rglob("*"), *house.folder.glob("*.log")]
        if path.is_file() and path.name not in KEPT
    }
    found["journal of the page"] = found.pop("setup-page.log")
    for path in ("/", "/events", "/log", "/health", "/box", "/meters", "/flexmeasures", "/map"):
        found[f"page {path}"] = person.get(f"{house.url}{path}", timeout=30).content
    found["page of the browser"] = shown
    found["a backup"] = person.post(f"{house.url}/box/backup", {"passphrase": ""}).content
    bundle = person.post(f"{house.url}/box/bundle", timeout=60).content
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        found["support bundle"] = b"\n".join(archive.read(name) for name in archive.namelist())
    for arguments in (["status"], ["status", "--json"]):
        settings = str(house.folder / "agent.toml")
        found[" ".join(arguments)] = subprocess.run(
            [sys.executable, "-m", "edge", "--config", settings, *arguments],
            cwd=child.ROOT,
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
    return found


def of_flexmeasures(server: FlexMeasuresServer, owner: Account) -> tuple[str, dict[str, bytes]]:
    """A token of this user, and what others of the account see: every asset and sensor."""
    session = requests.Session()
    body = {"email": owner.email, "password": owner.password}
    token = session.post(f"{server.url}/api/requestAuthToken", json=body, timeout=30).json()
    session.headers["Authorization"] = token["auth_token"]
    found = {}
    for kind in ("assets", "sensors"):
        for each in session.get(f"{server.url}/api/v3_0/{kind}", timeout=30).json():
            url = f"{server.url}/api/v3_0/{kind}/{each['id']}"
            found[f"{kind} {each['id']}"] = session.get(url, timeout=30).content
    return token["auth_token"], found
