"""Writes down a Z-Wave device as the driver sees it: python -m tests.dumps.record NODE [URL].

What zwave-server answers when a client connects, of this one node: product, values, metadata. Left
out is what changes from day to day or tells of the household: statistics, when it was last seen,
the name and place it was given. Raise an issue with the file and the device can be a test.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp

FOLDER = Path(__file__).parent / "zwave"
LEFT_OUT = {"statistics", "lastSeen", "name", "location", "userIcon"}
LEFT_OUT_OF_CONFIG = {"paramInformation", "metadata"}  # the device database has them
ANSWER_WITHIN_S = 10
SCHEMA = 50


async def node_states(url: str) -> list[dict[str, Any]]:
    """Every node as zwave-server at `url` tells it to a client that connects."""
    async with (
        asyncio.timeout(ANSWER_WITHIN_S),
        aiohttp.ClientSession() as session,
        session.ws_connect(url, max_msg_size=0) as server,
    ):
        await server.receive_json()  # its versions
        await server.send_json({"messageId": "1", "command": "initialize", "schemaVersion": SCHEMA})
        await server.receive_json()
        await server.send_json({"messageId": "2", "command": "start_listening"})
        while True:
            message = await server.receive_json()
            if message.get("messageId") == "2":
                nodes: list[dict[str, Any]] = message["result"]["state"]["nodes"]
                return nodes


def record(node: dict[str, Any]) -> Path:
    """Write one node into this folder, named after its model."""
    config = node.get("deviceConfig") or {}
    label = config.get("label") or "{manufacturerId:04x}-{productType:04x}-{productId:04x}".format(
        **node
    )
    kept = {name: value for name, value in sorted(node.items()) if name not in LEFT_OUT}
    if config:
        kept["deviceConfig"] = {
            name: value for name, value in config.items() if name not in LEFT_OUT_OF_CONFIG
        } | {"filename": config["filename"].rpartition("/devices")[2]}
    path = FOLDER / f"{label.lower()}.json"
    rows = [f" {json.dumps(name)}: {_dumped(value)}" for name, value in kept.items()]
    path.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    return path


def _dumped(value: object) -> str:
    """Lists with one element a line: a change shows as the lines that changed."""
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(f"  {json.dumps(item)}" for item in value) + "\n ]"
    return json.dumps(value)


async def main(arguments: list[str]) -> int:
    if not arguments or not arguments[0].isdecimal():
        print("usage: make dump DEVICE=node-number [DRIVER=ws://127.0.0.1:3000]", file=sys.stderr)
        return 2
    url = arguments[1] if len(arguments) > 1 else "ws://127.0.0.1:3000"
    try:
        nodes = await node_states(url)
    except (OSError, aiohttp.ClientError, TimeoutError) as problem:
        print(f"no Z-Wave driver answers at {url}: {problem}", file=sys.stderr)
        return 1
    wanted = [node for node in nodes if node["nodeId"] == int(arguments[0])]
    if not wanted:
        known = ", ".join(str(node["nodeId"]) for node in nodes)
        print(f"there is no node {arguments[0]}; there are {known}", file=sys.stderr)
        return 1
    print(record(wanted[0]))
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
