"""The simulated Z-stick: the mock of the devices, and the port it is plugged into.

Speaks the real Serial API, so a real zwave-server (or the box's own probe) can open `path`.
Commands to the household go over the mock's loopback control port; see README.md for all of them.
"""

import asyncio
import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp

from tests.house import child
from tests.house.stick.wire import Wire

METER = 2  # node ids
PLUGS = (3, 4)
WHOLE_HOUSE = 0  # endpoints of the meter: 0 is the sum, 1 to 3 the clamps
KWH, W, V, A = 0, 2, 4, 5  # scales of the Meter command class

START_PATIENCE_S = 20.0
CONTROL_PATIENCE = aiohttp.ClientTimeout(total=15)
NODE_FLAGS = ("--max-old-space-size=96", "--max-semi-space-size=1", "--optimize-for-size")


@dataclass(frozen=True, slots=True)
class Value:
    """What one meter shows: `scale` is KWH, W, V or A; `rate` 2 is export.

    `exact` reports the value even from a plug that is off (a device that lies).
    """

    node: int
    endpoint: int
    scale: int
    value: float
    rate: int = 1
    exact: bool = False

    def document(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


class Stick:
    """`async with Stick(path, keys) as stick`: plugged in, listening, one meter and two plugs.

    `keys` are the driver's own network keys in hex, by name: the devices' side of S2 needs them.
    """

    def __init__(
        self,
        path: Path,
        keys: Mapping[str, str] | None = None,
        *,
        extra_plugs: int = 0,
        plugged: bool = True,
    ) -> None:
        self.path = path
        self._options = {"keys": dict(keys or {}), "extraPlugs": extra_plugs}
        self._starts_plugged = plugged
        self._wire = Wire(path, self._to_mock)
        self._mock: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._http: aiohttp.ClientSession | None = None
        self.control_url = ""
        self.configured = 0  # configuration parameters that devices were given, at the last report

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        script = Path(__file__).with_name("mock_stick.mjs")
        self._mock = await asyncio.create_subprocess_exec(
            child.node_binary(),
            *NODE_FLAGS,
            script,
            json.dumps(self._options),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=child.die_with_parent,
        )
        assert self._mock.stdout is not None
        assert self._mock.stderr is not None
        async with asyncio.timeout(START_PATIENCE_S):
            said: list[str] = []
            async for heard in self._mock.stderr:
                said.append(heard.decode(errors="replace"))
                if said[-1].startswith("control "):
                    self.control_url = f"http://127.0.0.1:{int(said[-1].split()[1])}"
                    break
            else:
                raise RuntimeError(child.gist("".join(said)) or "it ended at once")
        self._http = aiohttp.ClientSession(timeout=CONTROL_PATIENCE)
        self._tasks = [
            asyncio.create_task(self._from_mock(self._mock.stdout)),
            asyncio.create_task(child.follow(self._mock.stderr, child.log_lines("stick"))),
        ]
        if self._starts_plugged:
            self._wire.plug()

    async def stop(self) -> None:
        self._wire.unplug()
        if self._http is not None:
            await self._http.close()
        if self._mock is not None:
            await child.stop(self._mock)
            assert self._mock.stdin is not None
            self._mock.stdin.close()
        for task in self._tasks:
            await task
        self._tasks = []

    # --- the stick itself -----------------------------------------------------------------------

    def unplug(self) -> None:
        """Pull it: the port and its path vanish."""
        self._wire.unplug()

    def replug(self) -> None:
        """Plug it in again: a new port under the same path."""
        self._wire.plug()

    def hang(self) -> None:
        """The stick stops answering; its port stays."""
        self._wire.deaf = True

    def wake(self) -> None:
        """It answers again; what came in between is lost."""
        self._wire.deaf = False

    # --- the household --------------------------------------------------------------------------

    async def report(self, *values: Value, shown: Iterable[Value] = ()) -> dict[int, bool]:
        """Each meter reports its value by radio; returns which plugs are on.

        Values in `shown` are not reported: it is what meters answer when they are asked.
        """
        given = {"values": [v.document() for v in values], "shown": [v.document() for v in shown]}
        answer = await self.ask("report", **given)
        self.configured = answer["configured"]
        return {int(node): on for node, on in answer["switches"].items()}

    async def show(self, *values: Value) -> dict[int, bool]:
        """Change what meters show when they are asked, without a report."""
        return await self.report(shown=values)

    async def offline(self, node: int) -> None:
        """Out of radio reach: hears nothing, reports nothing."""
        await self.ask("offline", node=node)

    async def online(self, node: int) -> None:
        await self.ask("online", node=node)

    async def jam(self, node: int, *, jammed: bool = True) -> None:
        """The plug confirms commands but does not obey them."""
        await self.ask("jam", node=node, jammed=jammed)

    async def press(self, node: int, *, on: bool) -> None:
        """Somebody presses the button on the plug; it reports its new state."""
        await self.ask("press", node=node, on=on)

    async def is_on(self, node: int) -> bool:
        """What the relay really does, whatever the driver believes."""
        on: bool = (await self.ask("state"))["switches"][str(node)]
        return on

    async def parameters(self, *numbers: int) -> dict[int, dict[int, int]]:
        """Configuration parameters as the devices hold them, by node and number."""
        nodes = (await self.ask("state", parameters=numbers))["parameters"]
        return {
            int(node): {int(number): value for number, value in held.items()}
            for node, held in nodes.items()
        }

    async def nodes(self) -> list[int]:
        nodes: list[int] = (await self.ask("state"))["nodes"]
        return nodes

    async def pend(self, node: int, *, secure: bool = False) -> None:
        """A new plug waits to be included. With `secure` by S2; its PIN is in the witness
        (event "joining") as soon as it joins."""
        await self.ask("pend", node=node, secure=secure)

    async def exclude(self, node: int) -> None:
        """Somebody presses the button on `node`: the next exclusion removes it."""
        await self.ask("exclude", node=node)

    async def replacement(self, node: int) -> None:
        """A new plug waits to take the place of `node`, which is dead."""
        await self.ask("replacement", node=node)

    async def smartstart(self, node: int, *, labelled: bool = False) -> str:
        """A SmartStart plug lies ready; returns the DSK on its label. With `labelled` it is the
        one on tests/page/smartstart.png."""
        dsk: str = (await self.ask("smartstart", node=node, labelled=labelled))["dsk"]
        return dsk

    async def announce(self) -> None:
        """The SmartStart plug is powered up and asks to be included."""
        await self.ask("announce")

    async def radio(self, node: int, rssi: int, repeaters: Sequence[int] = ()) -> None:
        """From now on what is sent to `node` takes this way, and its answer is heard so loud."""
        await self.ask("radio", node=node, rssi=rssi, repeaters=list(repeaters))

    async def memory(self) -> bytes:
        """What the stick remembers of its network."""
        return base64.b64decode((await self.ask("memory"))["content"])

    async def forget_memory(self) -> None:
        """As if a stick that was never used were plugged in instead."""
        await self.ask("memory", **{"as": "memory-new"})

    async def witness(self, after: int = 0) -> list[dict[str, Any]]:
        """Every command that reached a device by radio since entry `after`, with its time."""
        entries: list[dict[str, Any]] = (await self.ask("witness", after=after))["entries"]
        return entries

    async def switched(self, node: int) -> list[bool]:
        """Every on and off this plug was told by radio, in order."""
        return [
            entry["target"]
            for entry in await self.witness()
            if entry.get("name") == "BinarySwitchCCSet" and entry["node"] == node
        ]

    async def ask(self, command: str, **arguments: object) -> Any:
        """One request on the control port."""
        assert self._http is not None
        async with self._http.post(f"{self.control_url}/{command}", json=arguments) as answer:
            if answer.status != 200:
                raise ValueError(f"{command}: {await answer.text()}")
            return await answer.json()

    # --- bytes ----------------------------------------------------------------------------------

    def _to_mock(self, data: bytes) -> None:
        assert self._mock is not None
        assert self._mock.stdin is not None
        self._mock.stdin.write(data)

    async def _from_mock(self, stream: asyncio.StreamReader) -> None:
        while data := await stream.read(4096):
            self._wire.send(data)
