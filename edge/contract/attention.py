"""What a Status means to a household: a few lines, each with a level and a key of the page's texts.

Pure; used by the agent to count what needs a person and by the page to say it in their language.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from edge.contract import PartStatus, Status

FULL_FROM = 0.9  # of the buffer: soon the oldest readings are dropped
DEVIATES_FROM_PERCENT = 20.0  # a clamp the wrong way round deviates by 200
SETTLES_WITHIN_S = 120.0  # parts may wait this long after a start before it is worth a line


class Level(StrEnum):
    GOOD = "good"
    INFO = "info"
    ASK = "ask"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Line:
    """`code` is health.<code> in the catalogue; `text` is what the box itself says of it, and
    `advice` what to do."""

    code: str
    level: Level
    values: dict[str, str | int | float] = field(default_factory=dict)
    text: str = ""
    advice: str = ""
    link: str = ""


def lines(status: Status) -> list[Line]:
    """The worst first; at least one."""
    found = [
        *_clock(status),
        *_flexmeasures(status),
        *_parts(status),
        *_devices(status),
        *_store(status),
        *_doubts(status),
        *(Line("alarm", Level.ASK, text=text) for text in status.alarms.values()),
    ]
    order = [Level.BAD, Level.ASK, Level.INFO, Level.GOOD]
    return sorted(found, key=lambda line: order.index(line.level))


def attention(status: Status) -> int:
    """How many lines need a person."""
    return sum(line.level in (Level.ASK, Level.BAD) for line in lines(status))


def reason_of(state: str) -> str:
    """Why a part waits, or needs a person; empty where it runs."""
    for beginning in ("waiting: ", "needs a person: "):
        if state.startswith(beginning):
            return state.removeprefix(beginning)
    return ""


def channel_names(status: Status) -> dict[str, str]:
    """Each channel as a household calls it: its device, and the clamp where it has several."""
    devices = {device.key: device.name for device in status.devices}
    found = {}
    for channel in status.channels:
        device_key, endpoint, *_ = channel.key.rsplit("/", 3)
        device = devices.get(device_key, "")
        own = "" if device.startswith(channel.name) else channel.name
        clamp = "" if endpoint in ("", "0") else endpoint
        found[channel.key] = " ".join(filter(None, (device, own, clamp))) or channel.key
    return found


def _clock(status: Status) -> list[Line]:
    return [] if status.clock.trusted else [Line("clock", Level.ASK)]


def _flexmeasures(status: Status) -> list[Line]:
    server = status.flexmeasures
    if not server.paired:
        return [Line("unpaired", Level.ASK, link="/flexmeasures")]
    found = []
    if server.last_error:
        said = reason_of(server.last_error) or server.last_error
        found.append(
            Line(
                "server_trouble",
                Level.ASK,
                text=said,
                advice=server.advice or "",
                link="/flexmeasures",
            )
        )
    elif server.sensors == 0:
        found.append(Line("nothing_mapped", Level.ASK, link="/map"))
    elif server.last_accepted is not None or server.slots_accepted:
        found.append(Line("sending", Level.GOOD))
    if server.catching_up_percent is not None and server.catching_up_percent < 100:
        percent = int(server.catching_up_percent)
        values: dict[str, str | int | float] = {"percent": percent, "waiting": server.slots_waiting}
        found.append(Line("catching_up", Level.INFO, values))
    if server.slots_rejected:
        count: dict[str, str | int | float] = {"count": server.slots_rejected}
        found.append(Line("rejected", Level.ASK, count, link="#rejected"))
    return found


def _parts(status: Status) -> list[Line]:
    is_stick_missed = _needs_stick(status)
    said = [
        part
        for part in status.parts
        if is_stick_missed or not (part.name == "zwave" and part.state.startswith("waiting"))
    ]
    return [line for part in said if (line := _part(part)) is not None]


def _needs_stick(status: Status) -> bool:
    """Z-Wave is ready on every box; without a stick it is missed only where it ever measured, or
    where nothing else does."""
    families = {channel.key.partition("/")[0] for channel in status.channels}
    return not families or "zwave" in families


def _part(part: PartStatus) -> Line | None:
    if part.state.startswith("broken"):
        return Line("part_broken", Level.BAD, {"part": part.name}, text=part.state)
    if part.name == "shipping":  # its trouble is the server's, said above
        return None
    if said := reason_of(part.state):
        return Line(f"part_{part.name}", Level.ASK, {"part": part.name}, text=said, link="/meters")
    return None


def _devices(status: Status) -> list[Line]:
    dead = [each for each in status.devices if each.state == "dead"]
    found = [
        Line("device_dead", Level.ASK, {"name": each.name or each.key}, link=f"/device/{each.key}")
        for each in dead
    ]
    if status.devices and not dead:
        found.append(Line("devices", Level.GOOD, {"count": len(status.devices)}))
    return found


def _store(status: Status) -> list[Line]:
    buffer = status.buffer
    found = []
    if buffer.dropped:
        found.append(Line("dropped", Level.BAD, {"count": buffer.dropped}))
    if lost := status.flexmeasures.slots_dropped:
        found.append(Line("dropped_slots", Level.BAD, {"count": lost}))
    if buffer.bytes_max and buffer.bytes_used > FULL_FROM * buffer.bytes_max:
        percent = int(100 * buffer.bytes_used / buffer.bytes_max)
        found.append(Line("full", Level.ASK, {"percent": percent}))
    found.append(Line("stored", Level.GOOD, {"count": buffer.readings}))
    return found


def _doubts(status: Status) -> list[Line]:
    found = []
    names = channel_names(status)
    aside = sum(channel.set_aside for channel in status.channels)
    if aside:
        found.append(Line("set_aside", Level.INFO, {"count": aside}, link="#set-aside"))
    for channel in status.channels:
        deviation = channel.energy_deviation_percent
        if deviation is not None and abs(deviation) >= DEVIATES_FROM_PERCENT:
            values: dict[str, str | int | float] = {
                "name": names[channel.key],
                "percent": abs(int(deviation)),
            }
            found.append(Line("deviates", Level.ASK, values))
    return found
