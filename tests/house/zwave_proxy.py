"""Between the box and the zwave-server: passes everything on, and says what the server would not.

async with ZwaveProxy(server.url) as proxy:
    ZWave(proxy.url, …)
    await proxy.inject('{"type": "event", …}')
"""

import asyncio
import json
from typing import Any, Self

import aiohttp
from aiohttp import web


class ZwaveProxy:
    """`version` replaces fields of the server's first message."""

    def __init__(self, target_url: str, version: dict[str, Any] | None = None) -> None:
        self._target_url = target_url
        self._version = version or {}
        self._clients: set[web.WebSocketResponse] = set()
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes([web.get("/", self._serve)])
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"ws://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """The line is cut; nobody answers here any more."""
        assert self._runner is not None
        for client in list(self._clients):
            await client.close()
        await self._runner.cleanup()

    async def inject(self, text: str) -> None:
        """Say `text` to every client, as if the server had."""
        for client in list(self._clients):
            await client.send_str(text)

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        client = web.WebSocketResponse(max_msg_size=0)
        await client.prepare(request)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(self._target_url, max_msg_size=0) as server,
        ):
            first = json.loads(await server.receive_str())
            await client.send_json(first | self._version)
            self._clients.add(client)
            try:
                await _first_to_end(_copy(server, client), _copy(client, server))
            finally:
                self._clients.discard(client)
        return client


type _Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _copy(source: _Socket, target: _Socket) -> None:
    async for message in source:
        if message.type == aiohttp.WSMsgType.TEXT:
            await target.send_str(message.data)
    await target.close()


async def _first_to_end(*jobs: Any) -> None:
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
