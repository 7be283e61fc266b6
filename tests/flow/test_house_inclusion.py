"""Devices that join and leave the simulated network: what the setup page drives later."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from zwave_js_server.client import Client
from zwave_js_server.const import InclusionStrategy, SecurityClass
from zwave_js_server.model.controller import Controller
from zwave_js_server.model.utils import async_parse_qr_code_string

from tests.house.stick import PLUGS, Stick
from tests.house.zwave_server import ZwaveServer

pytestmark = pytest.mark.asyncio(loop_scope="module")
SOON_S = 40.0  # each takes two seconds where the machine has nothing else to do
NEW = 20


class Installer:
    """A client that adds and removes devices as a person with the page would."""

    def __init__(self, stick: Stick, client: Client) -> None:
        assert client.driver is not None
        self.stick = stick
        self.client = client
        self.controller: Controller = client.driver.controller
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for name in ("grant security classes", "validate dsk and enter pin", "node added"):
            self.controller.on(name, self.events.put_nowait)
        self.controller.on("node removed", self.events.put_nowait)

    async def event(self, name: str) -> dict[str, Any]:
        async with asyncio.timeout(SOON_S):
            while (event := await self.events.get())["event"] != name:
                pass
        return event

    async def ready(self, node: int) -> None:
        await until(lambda: node in self.controller.nodes and self.controller.nodes[node].ready)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not true():  # noqa: ASYNC110 — the client tells of some changes by no event
            await asyncio.sleep(0.02)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def installer(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installer]:
    folder: Path = tmp_path_factory.mktemp("house")
    server = ZwaveServer(folder / "stick", folder / "driver")
    async with (
        Stick(folder / "stick", server.keys) as stick,
        server,
        aiohttp.ClientSession() as session,
    ):
        client = Client(server.url, session)
        await client.connect()
        ready = asyncio.Event()
        listening = asyncio.create_task(client.listen(ready))
        await ready.wait()
        person = Installer(stick, client)
        for node in PLUGS:
            await person.ready(node)
        yield person
        await client.disconnect()
        await listening


async def test_plug_joins_without_security_and_leaves_again(installer: Installer) -> None:
    await installer.stick.pend(NEW)
    await installer.controller.async_begin_inclusion(InclusionStrategy.INSECURE)
    await installer.event("node added")
    await installer.ready(NEW)
    await installer.stick.exclude(NEW)
    await installer.controller.async_begin_exclusion()
    await installer.event("node removed")
    assert NEW not in await installer.stick.nodes()


async def test_plug_with_the_pin_on_its_label_joins_securely(installer: Installer) -> None:
    node = NEW + 1
    added = await include_with_pin(installer, node, lambda pin: pin)
    assert added["result"]["lowSecurity"] is False
    await installer.ready(node)
    joined = installer.controller.nodes[node]
    assert joined.highest_security_class is SecurityClass.S2_AUTHENTICATED
    await joined.async_set_value(f"{node}-37-0-targetValue", False)
    assert await installer.stick.switched(node) == [False]


async def test_smartstart_plug_joins_when_it_is_powered_up(installer: Installer) -> None:
    node = NEW + 5
    dsk = await installer.stick.smartstart(node)
    entry = await async_parse_qr_code_string(installer.client, qr_code(dsk))
    await installer.controller.async_provision_smart_start_node(entry)
    await installer.stick.announce()
    await installer.event("node added")
    await installer.ready(node)
    security = installer.controller.nodes[node].highest_security_class
    assert security is SecurityClass.S2_AUTHENTICATED


async def test_failed_device_can_be_removed(installer: Installer) -> None:
    gone = installer.controller.nodes[PLUGS[1]]
    await installer.stick.offline(gone.node_id)
    assert not await gone.async_ping()
    await installer.controller.async_remove_failed_node(gone)
    await installer.event("node removed")
    assert gone.node_id not in await installer.stick.nodes()


async def test_wrong_pin_joins_without_security(installer: Installer) -> None:
    added = await include_with_pin(installer, NEW + 2, lambda pin: f"{(int(pin) + 1) % 65536:05d}")
    assert added["result"]["lowSecurity"] is True


async def include_with_pin(
    installer: Installer, node: int, typed: Callable[[str], str]
) -> dict[str, Any]:
    """The "node added" event of an S2 inclusion; `typed` makes what is typed of what is printed."""
    await installer.stick.pend(node, secure=True)
    await installer.controller.async_begin_inclusion(InclusionStrategy.SECURITY_S2)
    asked = await installer.event("grant security classes")
    await installer.controller.async_grant_security_classes(asked["requested_grant"])
    await installer.event("validate dsk and enter pin")
    label = [e for e in await installer.stick.witness() if e["event"] == "joining"][-1]
    assert label["node"] == node
    await installer.controller.async_validate_dsk_and_enter_pin(typed(label["pin"]))
    return await installer.event("node added")


def qr_code(dsk: str) -> str:
    """The text of a SmartStart label: version, keys S2, DSK, device class, manufacturer."""
    classes, product = "00100409701792", f"0220{0x371:05d}{3:05d}{0xAF:05d}{0x203:05d}"
    body = f"131{dsk.replace('-', '')}{classes}{product}"
    checksum = int.from_bytes(hashlib.sha1(body.encode()).digest()[:2])
    return f"9001{checksum:05d}{body}"
