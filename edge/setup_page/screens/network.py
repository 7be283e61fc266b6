"""The Z-Wave network: adding and removing devices with live steps, and everything about one device.

What goes on is kept by the agent, so a closed browser finds it again where it was.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from edge.contract import ChannelStatus, Status
from edge.contract.attention import DEVIATES_FROM_PERCENT
from edge.contract.setup import (
    DeviceView,
    MemoriesView,
    MetersView,
    NetworkRequest,
    NetworkTask,
)
from edge.errors import EdgeError, Unreachable
from edge.setup_page.agent_link import Caller, SaysNo
from edge.setup_page.screens import SignedIn, TheView
from edge.setup_page.screens.flow import step_while_new
from edge.setup_page.view import View, see_other

router = APIRouter()

LONG_POLL_S = 20.0
DEVICE_ANSWERS_WITHIN_S = 30.0  # three tries of a device at the edge of the network
_BREATH_S = 1.0
FAR_BELOW_DBM = -85.0  # 500 series radios lose frames from about here
_SHOWN_APART = frozenset(
    {"rssi_dbm", "security", "firmware", "battery_percent", "repeaters", "history_percent"}
)

type Key = Annotated[str, Form(max_length=200)]
type Text = Annotated[str, Form(max_length=500)]

_AT_ONCE = frozenset({"ping", "rename", "interval", "switch_test", "take_over"})


async def under_way(view: View, who: Caller) -> NetworkTask | None:
    """What the network is doing at this moment, for whoever comes back to it."""
    task = await view.link.get("/network?since=-1", NetworkTask, who)
    return None if task.is_over else task


@router.get("/network/add")
async def show_add(request: Request, view: TheView, who: SignedIn) -> Response:
    """By the device's button, or by the code on it; one device at a time."""
    if await under_way(view, who):
        return see_other("/network")
    return await view.page(
        request, "network_add.html", step=step_while_new(request, 3), problem=None
    )


@router.get("/network/memory")
async def show_memories(request: Request, view: TheView, who: SignedIn) -> Response:
    """The copies of a stick's memory, one of which a new stick may get."""
    found = await view.link.get("/network/memories", MemoriesView, who)
    return await view.page(
        request, "network_memory.html", memories=found.memories, step=step_while_new(request, 3)
    )


@router.post("/network/do")
async def act(
    request: Request,
    view: TheView,
    who: SignedIn,
    doing: Annotated[str, Form(max_length=20)],
    device: Key = "",
    text: Text = "",
    seconds: Annotated[int, Form(ge=0, le=86400)] = 0,
) -> Response:
    """Start something, or answer what the network asks."""
    wanted = NetworkRequest.model_validate(
        {"doing": doing, "device": device, "text": text.strip(), "seconds": seconds}
    )
    try:
        await view.link.do("POST", "/network", wanted, who, DEVICE_ANSWERS_WITHIN_S)
    except (SaysNo, Unreachable) as problem:
        if isinstance(problem, SaysNo) and problem.status == 401:
            raise
        if doing == "add_code":
            return await view.page(
                request,
                "network_add.html",
                422,
                step=step_while_new(request, 3),
                problem=problem,
            )
        raise
    if doing in _AT_ONCE and device:
        shown = text if doing == "take_over" else device  # it is the other one from now on
        return see_other(f"/device/{quote(shown)}", f"did_{doing}")
    return see_other("/network")


@router.get("/network")
async def show_task(request: Request, view: TheView, who: SignedIn) -> Response:
    """What the network is doing, live."""
    task = await view.link.get("/network?since=-1", NetworkTask, who)
    return await view.page(request, "network.html", task=task, step=step_while_new(request, 3))


@router.get("/network/events", response_class=EventSourceResponse)
async def follow(
    request: Request, view: TheView, who: SignedIn, since: int = -1
) -> AsyncIterator[ServerSentEvent]:
    """The task as it changes, one piece of page per change; ends with the task."""
    while not await request.is_disconnected():
        try:
            task = await view.link.get(
                f"/network?since={since}", NetworkTask, who, LONG_POLL_S + 10
            )
        except EdgeError:
            await asyncio.sleep(_BREATH_S)
            continue
        if task.revision != since or task.left_s is not None:
            since = task.revision
            piece = view.piece(request, "_task.html", task=task)
            yield ServerSentEvent(raw_data=piece)
        if task.is_over:
            yield ServerSentEvent(event="over", raw_data="over")
            return


@router.get("/device/{family}/{device:path}")
async def show_device(
    request: Request, view: TheView, who: SignedIn, family: str, device: str
) -> Response:
    """One device: how it is, and what can be done with it."""
    meters = await view.link.get("/meters", MetersView, who)
    found = _find(meters, f"{family}/{device}")
    status = await view.link.get("/status", Status, who)
    channels = [each for each in status.channels if each.key.startswith(f"{found.key}/")]
    return await view.page(
        request,
        "device.html",
        device=found,
        gone=meters.gone,
        main_channels=[each for each in channels if _matters(each)],
        rest_channels=[each for each in channels if not _matters(each)],
        deviates_from=DEVIATES_FROM_PERCENT,
        history=_number(found.details.get("history_percent")),
        hops=_hops(found, meters),
        more=_more(found),
        is_far=_is_far(found),
        step=step_while_new(request, 3),
    )


def _find(meters: MetersView, key: str) -> DeviceView:
    for device in meters.devices:
        if device.key == key:
            return device
    raise SaysNo(404, "not_found")


def _hops(device: DeviceView, meters: MetersView) -> list[str]:
    """The names of the devices that pass this one's messages on, nearest to the box first."""
    names = {_whole(each.details.get("node")): each.name for each in meters.devices}
    passed = str(device.details.get("repeaters") or "").split(",")
    return [names.get(each.strip(), each.strip()) for each in passed if each.strip()]


def _more(device: DeviceView) -> dict[str, str | float | bool]:
    """What only the curious want to know."""
    return {
        key: value
        for key, value in device.details.items()
        if value is not None and key not in _SHOWN_APART
    }


def _is_far(device: DeviceView) -> bool:
    signal = device.details.get("rssi_dbm")
    return isinstance(signal, float) and signal < FAR_BELOW_DBM


def _matters(channel: ChannelStatus) -> bool:
    """Whether a person looks for it: it leaves the house, or something is odd about it."""
    return (
        channel.sensor_id is not None
        or channel.set_aside > 0
        or channel.energy_deviation_percent is not None
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _whole(number: object) -> str:
    return f"{number:.0f}" if isinstance(number, float) else str(number)
