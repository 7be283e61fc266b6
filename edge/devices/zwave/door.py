"""The only way to the zwave-server: one connection, its failures translated, nothing else.

zwave_js_server's listen() may return without an error, die of one event it cannot read, and cancel
whoever waits for an answer when the connection goes. Its commands have no time-out. All of that is
made whole here, so that the rest of this room sees EdgeErrors only.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
from zwave_js_server.client import Client
from zwave_js_server.const import MAX_SERVER_SCHEMA_VERSION, MIN_SERVER_SCHEMA_VERSION
from zwave_js_server.exceptions import (
    BaseZwaveJSServerError,
    CannotConnect,
    FailedZWaveCommand,
    InvalidServerVersion,
)
from zwave_js_server.model.driver import Driver

from edge.devices.zwave.slim import is_passed_over, slim
from edge.errors import EdgeError, Malformed, NotStarted, Refused, Unreachable

CONNECT_WITHIN_S = 10.0
SNAPSHOT_WITHIN_S = 60.0  # a driver that interviews hundreds of nodes answers late
_SAMPLE_CHARACTERS = 200

# Error codes of the driver (node-zwave-js, ZWaveErrorCodes) that pass by themselves: the stick or
# the node is silent, busy, jammed or restarting. The others need a person or a program to change.
_PASSING = frozenset({100, 101, 102, 103, 111, 112, *range(200, 207), 210, 215, 219, 1400, 1401})
STICK_SILENT = frozenset({100, 102, 103, 112, 200})

type Event = dict[str, Any]
"""An event of the server: at least "source", "event" and, for nodes, "nodeId"."""


class NodeSilent(Unreachable):
    """The stick works, the device does not answer."""


class StickSilent(Unreachable):
    """The driver gets no answer from the stick."""


class DriverClient(Client):
    """A client that hands every event on and survives those it cannot read.

    `on_driver` is called with the snapshot before the first event is handled, so that nothing can
    fall between the two. `on_event` gets each event after the model took it in; values the box
    never looks at are kept out of the model (slim.py). An event that it cannot take in goes to
    `on_unreadable`, which may raise to end the connection.
    """

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        *,
        on_driver: Callable[[Driver], None],
        on_event: Callable[[Event], None],
        on_unreadable: Callable[[Malformed], None],
    ) -> None:
        super().__init__(url, cast("aiohttp.ClientSession", _Uncompressed(session)))
        self._before_events: dict[str, Any] = {}
        self._on_driver = on_driver
        self._on_event = on_event
        self._on_unreadable = on_unreadable

    async def receive_until_closed(self) -> None:
        self._before_events.clear()  # the snapshot: listen() would hold it on beside the model
        if self.driver is not None:
            self._on_driver(self.driver)
        await super().receive_until_closed()

    async def _receive_json_or_raise(self) -> dict[str, Any]:
        message = slim(await super()._receive_json_or_raise())
        if self.driver is None:
            self._before_events = message
        return message

    def _handle_incoming_message(self, msg: dict[str, Any]) -> None:
        if msg.get("type") != "event":
            super()._handle_incoming_message(msg)
            return
        _mend(msg["event"])
        if is_passed_over(msg["event"]):
            self._on_event(msg["event"])
            return
        try:
            super()._handle_incoming_message(msg)
        except (KeyError, ValueError, TypeError, AttributeError, BaseZwaveJSServerError) as problem:
            sample = json.dumps(msg.get("event"), default=str)[:_SAMPLE_CHARACTERS]
            said = f"the Z-Wave driver sent an event that cannot be read: {problem!r}"
            self._on_unreadable(Malformed(said, sample))
        else:
            self._on_event(msg["event"])


class _Uncompressed:
    """A session that does not compress: between two processes of one box it only costs, 0.3 MB
    here and time on both sides."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    def ws_connect(self, url: str, **wishes: Any) -> Any:
        return self._session.ws_connect(url, **wishes | {"compress": 0})


def _mend(event: Event) -> None:
    """Make events readable that the server says otherwise than the client expects (0.73.1)."""
    found = event.get("node") if event.get("event") == "node found" else None
    # A device that takes another's place has told nothing of itself yet.
    if isinstance(found, dict) and found.get("deviceClass", True) is None:
        del found["deviceClass"]


async def connect(client: DriverClient) -> None:
    """Open the connection and agree on a schema. Raises Unreachable, Refused or Malformed."""
    try:
        async with asyncio.timeout(CONNECT_WITHIN_S):
            await client.connect()
    except TimeoutError as problem:
        said = "the Z-Wave driver does not answer; it may still be starting"
        raise Unreachable(said) from problem
    except InvalidServerVersion as problem:
        raise Refused(_schema_mismatch(client)) from problem
    except (CannotConnect, OSError) as problem:
        raise NotStarted(
            "the Z-Wave driver is not running; it starts once a Z-Wave stick is plugged in"
        ) from problem
    except (BaseZwaveJSServerError, KeyError, TypeError, ValueError) as problem:
        raise Malformed(f"what answers at {client.ws_server_url} is no zwave-server") from problem


def _schema_mismatch(client: Client) -> str:
    version = client.version
    spoken = (
        f"zwave-server {version.server_version} speaks schema "
        f"{version.min_schema_version} to {version.max_schema_version}"
        if version
        else "the zwave-server speaks another schema"
    )
    return (
        f"{spoken}, this box {MIN_SERVER_SCHEMA_VERSION} to {MAX_SERVER_SCHEMA_VERSION}; "
        "install the zwave-server that belongs to this release of the box"
    )


async def listen(client: DriverClient, ready: asyncio.Event) -> None:
    """Take the snapshot, then events, until the connection ends. Always raises an EdgeError."""
    try:
        await client.listen(ready)
    except EdgeError:
        raise
    except (BaseZwaveJSServerError, aiohttp.ClientError, OSError) as problem:
        raise Unreachable(f"the connection to the Z-Wave driver broke: {problem}") from problem
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise Malformed(f"the Z-Wave driver sent what cannot be read: {problem!r}") from problem
    raise Unreachable("the Z-Wave driver closed the connection; it is starting anew")


@asynccontextmanager
async def answered(what: str, within_s: float) -> AsyncIterator[None]:
    """Wait for the driver no longer than `within_s`; every failure becomes an EdgeError.

    Raises NodeSilent or StickSilent where the radio is to blame, Unreachable where the connection
    is, Refused where the driver says that it cannot be done, Malformed where it says something
    the client does not know.
    """
    try:
        async with asyncio.timeout(within_s):
            yield
    except TimeoutError as problem:
        said = f"{what}: no answer from the Z-Wave driver in {within_s:.0f} s"
        raise Unreachable(said) from problem
    except FailedZWaveCommand as problem:
        raise _said_no(what, problem) from problem
    except BaseZwaveJSServerError as problem:
        raise Unreachable(f"{what}: {problem or 'the Z-Wave driver is not connected'}") from problem
    except (KeyError, TypeError, ValueError, AssertionError) as problem:  # raised by the client
        raise Malformed(f"{what}: the answer cannot be read: {problem!r}") from problem
    except asyncio.CancelledError as problem:
        # The client cancels whoever waits when the connection ends; that is no cancellation of us.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise Unreachable(f"{what}: the connection to the Z-Wave driver was lost") from problem


def _said_no(what: str, problem: FailedZWaveCommand) -> EdgeError:
    said = f"{what}: {problem.zwave_error_message}"
    if problem.zwave_error_code in STICK_SILENT:
        return StickSilent(said)
    if problem.zwave_error_code in _PASSING:
        return NodeSilent(said)
    return Refused(said)
