"""Home Assistant's words without Home Assistant: answers with what a real one said (tests/dumps).

For what a real one can't be made to do at will: broken words, silence, another release.
"""

import asyncio
import contextlib
import copy
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

DUMPS = Path(__file__).parents[1] / "dumps/homeassistant"
RELEASES = ("2025.4.4", "2026.11.0")
TOKEN = "house-token"


class SpokenHomeAssistant:
    """Everything public may be changed while it runs."""

    def __init__(self, release: str = RELEASES[0]) -> None:
        said = json.loads((DUMPS / f"{release}.json").read_text(encoding="utf-8"))
        self.greeting: Any = said["greeting"]
        self.welcome: Any = said["welcome"]
        self.answers: dict[str, Any] = said["answers"]  # or a function of what is asked
        self.states = {s["entity_id"]: s for s in copy.deepcopy(self.answers["get_states"])}
        self.token = TOKEN
        self.reported_ago = timedelta(0)
        self.deaf = False  # takes every service call and does nothing
        self.mute = False  # answers nothing any more
        self.as_list = False  # several messages at once, as coalesced
        self.asked: list[dict[str, Any]] = []
        self._sockets: dict[web.WebSocketResponse, int | None] = {}
        self.url = ""

    @asynccontextmanager
    async def serve(self, certificate: ssl.SSLContext | None = None) -> AsyncIterator[str]:
        """Listen on 127.0.0.1; yields the address. With a certificate: by https."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/api/websocket", self._talk),
                web.get("/api/states/{entity}", self._state),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificate).start()
        self.url = f"http{'s' * bool(certificate)}://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self.url
        finally:
            await self.hang_up()
            await runner.cleanup()

    async def set(self, entity: str, state: str) -> None:
        """A new state, and the event that tells it."""
        self.states[entity]["state"] = state
        await self.tell({"c": {entity: {"+": {"s": state, "lc": 0.0}}}})

    async def tell(self, event: object) -> None:
        """An event of subscribe_entities to everyone who listens."""
        for socket, number in list(self._sockets.items()):
            if number is not None:
                await self._send(socket, {"id": number, "type": "event", "event": event})

    async def say(self, words: str) -> None:
        """These very words to everyone."""
        for socket in list(self._sockets):
            await socket.send_str(words)

    async def hang_up(self) -> None:
        for socket in list(self._sockets):
            await socket.close()

    def calls(self) -> list[str]:
        """The services asked for, like switch.turn_off."""
        return [f"{m['domain']}.{m['service']}" for m in self.asked if m["type"] == "call_service"]

    async def _send(self, socket: web.WebSocketResponse, message: object) -> None:
        with contextlib.suppress(ConnectionError):
            await socket.send_json([message] if self.as_list else message)

    async def _talk(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json(self.greeting)
        said = await socket.receive_json()
        if said.get("access_token") != self.token:
            await socket.send_json({"type": "auth_invalid", "message": "Invalid access token"})
            await socket.close()
            return socket
        await socket.send_json(self.welcome)
        self._sockets[socket] = None
        try:
            async for frame in socket:
                await self._answer(socket, json.loads(frame.data))
        finally:
            del self._sockets[socket]
        return socket

    async def _answer(self, socket: web.WebSocketResponse, asked: dict[str, Any]) -> None:
        self.asked.append(asked)
        if self.mute:
            return
        result = {"id": asked["id"], "type": "result", "success": True, "result": None}
        match asked["type"]:
            case "subscribe_entities":
                self._sockets[socket] = asked["id"]
                await self._send(socket, result)
                known = [self.states[e] for e in asked["entity_ids"] if e in self.states]
                told = {s["entity_id"]: {"s": s["state"], "a": s["attributes"]} for s in known}
                await self.tell({"a": told})
            case "call_service":
                entity, on = asked["target"]["entity_id"], asked["service"] == "turn_on"
                await self._send(socket, result)
                if not self.deaf and entity in self.states:
                    await asyncio.sleep(0)
                    await self.set(entity, "on" if on else "off")
            case "get_states":
                await self._send(socket, result | {"result": list(self.states.values())})
            case "subscribe_events" | "unsubscribe_events":
                await self._send(socket, result)
            case kind if kind in self.answers:
                told = self.answers[kind]
                told = told(asked) if callable(told) else told
                await self._send(socket, result | {"result": told})
            case _:
                fault = {"code": "unknown_command", "message": "Unknown command."}
                await self._send(socket, result | {"success": False, "error": fault})

    async def _state(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=401)
        state = self.states.get(request.match_info["entity"])
        if state is None:
            return web.Response(status=404)
        reported = datetime.now(UTC) - self.reported_ago
        return web.json_response(state | {"last_reported": reported.isoformat()})
