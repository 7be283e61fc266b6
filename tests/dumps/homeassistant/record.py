"""Records what a real Home Assistant says to the commands the box gives it.

python -m tests.dumps.homeassistant.record             # the installed release
HOMEASSISTANT=/path/to/hass python -m tests.dumps.homeassistant.record
"""

import asyncio
import json
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp

from tests.house.home_assistant import HomeAssistant

FOLDER = Path(__file__).parent
ENTITIES = ["sensor.grid_power", "sensor.grid_import", "switch.boiler"]


async def record() -> dict[str, Any]:
    """Every answer, by command; live events as they came."""
    with tempfile.TemporaryDirectory() as folder:
        async with HomeAssistant.started(Path(folder)) as house:
            await house.until_running()
            await house.show_on_dashboard()
            started = datetime.now(UTC)
            said: dict[str, Any] = {"answers": {}, "events": []}
            async with (
                aiohttp.ClientSession() as http,
                http.ws_connect(f"{house.url}/api/websocket", max_msg_size=0) as socket,
            ):
                said["greeting"] = await socket.receive_json()
                await socket.send_json({"type": "auth", "access_token": house.token})
                said["welcome"] = await socket.receive_json()
                for number, (kind, fields) in enumerate(_commands(started), 1):
                    await socket.send_json({"id": number, "type": kind, **fields})
                    answer = await socket.receive_json()
                    said["answers"][kind] = answer.get("result")
                await socket.send_json(
                    {"id": 99, "type": "subscribe_entities", "entity_ids": ENTITIES}
                )
                await house.set("grid_power", 812.5)
                await house.turn("switch.boiler", on=False)
                said["events"] = await _events(socket)
                headers = {"Authorization": f"Bearer {house.token}"}
                url = f"{house.url}/api/states/sensor.grid_power"
                async with http.get(url, headers=headers) as answer:
                    said["state over REST"] = await answer.json()
            return _only_ours(said)


def _commands(since: datetime) -> list[tuple[str, dict[str, Any]]]:
    return [
        ("get_config", {}),
        ("get_states", {}),
        ("config/entity_registry/list", {}),
        ("config/device_registry/list", {}),
        ("energy/get_prefs", {}),
        (
            "recorder/statistics_during_period",
            {
                "start_time": (since - timedelta(hours=1)).isoformat(),
                "statistic_ids": ENTITIES[:2],
                "period": "5minute",
            },
        ),
    ]


async def _events(socket: aiohttp.ClientWebSocketResponse) -> list[Any]:
    events = []
    try:
        while True:
            message = await socket.receive_json(timeout=2)
            events += [m["event"] for m in [message] if m.get("type") == "event"]
    except TimeoutError:
        return events


def _only_ours(said: dict[str, Any]) -> dict[str, Any]:
    """Without what this Home Assistant has besides the house, and without its place and paths."""
    answers = said["answers"]
    ours = ("sensor.grid", "sensor.solar_power", "sensor.gas", "switch.")
    for kind in ("get_states", "config/entity_registry/list"):
        answers[kind] = [e for e in answers[kind] if e["entity_id"].startswith(ours)]
    answers["config/device_registry/list"] = []
    config = answers["get_config"]
    answers["get_config"] = {k: config[k] for k in ("state", "version", "unit_system")}
    return said


if __name__ == "__main__":
    recorded = asyncio.run(record())
    target = FOLDER / f"{recorded['welcome']['ha_version']}.json"
    target.write_text(json.dumps(recorded, indent=1, ensure_ascii=False) + "\n", "utf-8")
    sys.stdout.write(f"{target}\n")
