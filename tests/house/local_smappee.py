"""A Smappee monitor in the house, as LocalSmappee speaks to it: it says every refusal with 200.

Shapes from smappy's source; power is in mW. Not verified against hardware: the log-on answers.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

NOT_LOGGED_ON = {"error": "Error not authenticated. Use Logon first!"}


@dataclass
class LocalSmappeeMonitor:
    """Everything public may be changed while it runs."""

    password: str = "admin"
    logged_on: bool = False
    powers_mw: list[int] = field(default_factory=lambda: [63_292, 84_369, 12_000, 900_000])
    plugs: dict[str, str] = field(default_factory=lambda: {"1": "Boiler"})
    plug_on: dict[str, bool] = field(default_factory=dict)
    log: list[tuple[str, str]] = field(default_factory=list)

    @asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator[str]:
        """Listen on 127.0.0.1; yields host:port."""
        app = web.Application()
        app.add_routes([web.post("/gateway/apipublic/{name}", self._post)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            yield f"127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def _post(self, request: web.Request) -> web.Response:
        name, body = request.match_info["name"], await request.text()
        self.log.append((name, body))
        if name == "logon":
            self.logged_on = body == self.password
            said = {"success": "Logon successful!"} if self.logged_on else {"error": "Login failed"}
            return web.json_response(said)
        if not self.logged_on:
            return web.json_response(NOT_LOGGED_ON)
        match name, body.partition(",controlId=")[2] or body:
            case "instantaneous", _:
                told = [{"key": "meterReaderRestart", "value": "1"}]
                for phase, power_mw in enumerate(self.powers_mw):
                    told += [
                        {"key": f"phase{phase}ActivePower", "value": str(power_mw)},
                        {"key": f"phase{phase}Cosfi", "value": "49"},
                    ]
                return web.json_response(told)
            case "commandControlPublic", "load":
                return web.json_response([{"key": k, "value": v} for k, v in self.plugs.items()])
            case "commandControlPublic", command:
                on, _, plug = command.partition("|")
                self.plug_on[plug] = on == "1"
                return web.json_response({"ok": body})
            case _:
                return web.Response(status=404)
