"""The page's room for the box's Wi-Fi: what is in reach, joining one, forgetting it.

NetworkManager does it behind the door of privileged acts. A password goes through to it and is kept
nowhere else.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from edge.agent_api import web
from edge.agent_api.door import answer, asked
from edge.agent_api.refusals import NotAllowed
from edge.contract.appliance import WifiNetwork, WifiRequest, WifiView
from edge.errors import EdgeError, Refused
from edge.privileged import Privileged

INTERFACES = Path("/sys/class/net")
NETWORKS_MAX = 60  # a block of flats
PASSWORD_CHARACTERS_MIN = 8  # WPA's own rule

type Note = Callable[[str, str, dict[str, str]], Awaitable[None]]


class WifiRoom:
    """Routes over the door's Wi-Fi acts."""

    def __init__(self, privileged: Privileged, note: Note, interfaces: Path = INTERFACES) -> None:
        self._privileged = privileged
        self._note = note
        self._interfaces = interfaces

    def routes(self) -> list[web.Route]:
        return [
            web.get("/wifi", self._show),
            web.get("/wifi/there", self._is_there),
            web.post("/wifi", self._join),
            web.delete("/wifi", self._forget),
        ]

    async def _is_there(self, _: web.Request) -> web.Response:
        """Whether there is any Wi-Fi; asks nobody."""
        return answer(WifiView(there=await self._there(), networks=[], kept=False))

    async def _show(self, _: web.Request) -> web.Response:
        if not await self._there():
            return answer(WifiView(there=False, networks=[], kept=False))
        try:
            found = await self._privileged.act("wifi-list")
        except EdgeError:
            return answer(WifiView(there=True, networks=[], kept=False, why="no_list"))
        networks = [_network(each) for each in found.get("networks", [])[:NETWORKS_MAX]]
        networks.sort(key=lambda each: (not each.is_joined, -each.signal_percent))
        return answer(WifiView(there=True, networks=networks, kept=bool(found.get("kept"))))

    async def _join(self, request: web.Request) -> web.Response:
        wanted = await asked(request, WifiRequest)
        await self._need_wifi()
        password = wanted.password.get_secret_value()
        if 0 < len(password) < PASSWORD_CHARACTERS_MIN:
            raise NotAllowed("wifi_password_short", 422)
        try:
            await self._privileged.act(
                "wifi-join",
                network=wanted.network,
                password=password,
                hidden=wanted.hidden,
            )
        except Refused as problem:
            raise NotAllowed(_reason(str(problem)), 409, str(problem)) from None
        await self._note("wifi", "a Wi-Fi network was joined", {"network": wanted.network})
        return web.Response(status=204)

    async def _forget(self, _: web.Request) -> web.Response:
        await self._need_wifi()
        await self._privileged.act("wifi-forget")
        await self._note("wifi", "the Wi-Fi network was forgotten", {})
        return web.Response(status=204)

    async def _there(self) -> bool:
        return self._privileged.is_there() and await asyncio.to_thread(_has_wifi, self._interfaces)

    async def _need_wifi(self) -> None:
        if not await self._there():
            raise NotAllowed("wifi_none", 409)


def _has_wifi(interfaces: Path) -> bool:
    return any((each / "phy80211").exists() for each in interfaces.glob("*"))


def _network(found: dict[str, Any]) -> WifiNetwork:
    return WifiNetwork(
        network=str(found["network"])[:32],
        signal_percent=int(found["signal"]),
        is_open=bool(found["open"]),
        is_joined=bool(found.get("joined")),
    )


# What nmcli says when joining fails (NetworkManager 1.52, LANG=C), and the page's word for it.
_REASONS = (
    ("ecrets were required", "wifi_password"),
    ("802-11-wireless-security", "wifi_password"),
    ("psk", "wifi_password"),
    ("No network with SSID", "wifi_not_found"),
    ("network could not be found", "wifi_not_found"),
    ("IP configuration", "wifi_no_address"),
    ("imeout", "wifi_silent"),
    ("No Wi-Fi device", "wifi_none"),
)


def _reason(said: str) -> str:
    return next((code for sign, code in _REASONS if sign in said), "wifi_failed")
