"""`edge status` for people: what runs, what is measured, what waits, what to do."""

from collections.abc import Iterator
from datetime import datetime

from edge.contract import ChannelStatus, DeviceStatus, Status, SteeredStatus

_NUMBER_MAX = 3  # endpoints of this length are numbers, longer ones ids


def as_text(status: Status) -> str:
    """The whole status on one or two screens."""
    return "\n".join(_lines(status))


def _lines(status: Status) -> Iterator[str]:
    now = status.clock.wall
    trusted = "trusted" if status.clock.trusted else "NOT trusted yet: nothing is sent"
    yield f"{status.name}  {status.version} ({status.release})"
    yield f"clock         {now:%Y-%m-%d %H:%M:%S} UTC, {trusted}; up {_span(status.clock.uptime_s)}"
    for name, alarm in sorted(status.alarms.items()):
        yield f"! {name}: {alarm}"
    yield ""
    for part in status.parts:
        yield f"{part.name:<13} {part.state} for {_span(part.since_s)}"
    yield f"stick         {status.stick or 'none known'}"
    yield ""
    yield from map(_device, status.devices)
    yield ""
    yield from map(_channel, status.channels)
    yield ""
    yield _readings(status)
    yield from _buffer(status)
    yield from _flexmeasures(status, now)
    yield from _control(status)
    for aside in status.set_aside:
        yield f"set aside     {aside.channel} = {aside.value:.9g}: {aside.reason}"
    for rejected in status.rejected:
        slot = f"sensor {rejected.sensor_id} at {rejected.start:%Y-%m-%d %H:%M}"
        yield f"rejected      {slot} = {rejected.value:.9g}: {rejected.reason}"


def _device(device: DeviceStatus) -> str:
    seen = f"last seen {device.last_seen:%H:%M:%S}" if device.last_seen else "never seen"
    on = {True: ", on", False: ", off", None: ""}[device.is_on if device.is_switch else None]
    return f"device        {device.name} ({device.model}) {device.state}{on}, {seen}"


def _channel(channel: ChannelStatus) -> str:
    endpoint = channel.key.split("/")[2]
    name = channel.name or channel.key
    is_number = endpoint != "0" and len(endpoint) <= _NUMBER_MAX  # longer ones are ids
    name = f"{name} {endpoint}" if is_number else name
    value = "no value" if channel.value is None else f"{channel.value:,.9g} {channel.unit}"
    age = "" if channel.age_s is None else f" {_span(channel.age_s)} ago"
    feeds = f" → sensor {channel.sensor_id}" if channel.sensor_id else ""
    aside = f", {channel.set_aside} set aside" if channel.set_aside else ""
    off = channel.energy_deviation_percent
    deviation = "" if off is None else f", W and kWh differ by {off:+.1f} %"
    return f"channel       {name}: {value}{age}{feeds}{aside}{deviation}"


def _readings(status: Status) -> str:
    told = status.readings
    whole = f"readings      {told.believed} believed"
    counts = (
        (told.confirmed, "of them after a second one agreed"),
        (told.counter_resets, "counter resets"),
        (told.unknown, "of channels nobody announced"),
    )
    return ", ".join([whole, *(f"{count} {what}" for count, what in counts if count)])


def _buffer(status: Status) -> Iterator[str]:
    buffer = status.buffer
    used = f"{buffer.bytes_used / 1e6:.1f} of {buffer.bytes_max / 1e6:.0f} MB"
    since = f" since {buffer.oldest:%Y-%m-%d %H:%M}" if buffer.oldest else ""
    yield f"buffer        {buffer.readings} readings{since}, {used}, {buffer.dropped} dropped"
    if buffer.uncommitted:
        oldest = _span(buffer.oldest_uncommitted_s)
        yield f"              {buffer.uncommitted} not committed yet, the oldest for {oldest}"
    if buffer.damaged_groups:
        yield f"              {buffer.damaged_groups} damaged groups of readings are left out"
    if buffer.unresolved:
        yield f"              {buffer.unresolved} of a time nobody knows are kept aside"


def _flexmeasures(status: Status, now: datetime) -> Iterator[str]:
    server = status.flexmeasures
    if not server.paired:
        yield "flexmeasures  not paired: open the setup page, or run edge pair"
        return
    yield f"flexmeasures  {server.url} as {server.paired_as}, site {server.site}"
    counts = f"{server.slots_accepted} accepted, {server.slots_waiting} waiting"
    dropped = f", {server.slots_dropped} dropped in a full buffer" if server.slots_dropped else ""
    yield f"              {counts}, {server.slots_rejected} rejected{dropped}"
    if server.last_accepted:
        ago = _span((now - server.last_accepted).total_seconds())
        yield f"              last accepted {ago} ago"
    if server.catching_up_percent is not None:
        pace = f"{server.slots_per_minute:.0f} slots a minute"
        left = f", {_span((server.done_by - now).total_seconds())} left" if server.done_by else ""
        yield f"              catching up: {server.catching_up_percent:.0f} %, {pace}{left}"
    if server.last_error:
        yield f"              {server.last_error}"
    if server.advice:
        yield f"              → {server.advice}"


def _control(status: Status) -> Iterator[str]:
    control = status.control
    if control is None or not control.devices:
        return
    yield ""
    for each in control.devices:
        by = f" by {each.by}" if each.by and each.state != "normal" else ""
        until = f" until {each.until:%H:%M:%S}" if each.until else ""
        yield f"control       {each.name}: {_state(each)}{by}{until} ({each.why_text})"
        if each.next_at:
            then = "leaves its normal state" if each.next_away else "comes back"
            whose = f" by {each.next_by}" if each.next_by and each.next_away else ""
            yield f"              next: {then}{whose} at {each.next_at:%Y-%m-%d %H:%M}"
        if each.hand_until:
            left = _span((each.hand_until - status.clock.wall).total_seconds())
            where = "the hand at the device" if each.hand_at_device else "a hand's wish"
            yield f"              {where} counts {left} more, until {each.hand_until:%H:%M:%S}"
        if each.trouble:
            yield f"              {each.trouble}"
    silent, lease = _span(control.flexmeasures_silent_s), _span(control.lease_s)
    if control.flexmeasures_silent_s > control.lease_s:
        yield f"              FlexMeasures was silent for {silent}: no plan counts any more"
    elif status.flexmeasures.paired:
        yield f"              FlexMeasures was heard {silent} ago; plans count {lease} after that"
    for act in control.switched:
        span = f"{act.at:%Y-%m-%d %H:%M:%S} to {act.until:%H:%M:%S}"
        yield f"switched      {act.name} by {act.by}, {span}: {act.outcome}"
    yield from (f"              {note}" for note in control.notes)


def _state(each: SteeredStatus) -> str:
    away = "off" if each.normal_on else "on"
    return {
        "normal": "on" if each.normal_on else "off",
        "leaving": f"told to switch {away}",
        "away": away,
        "returning": f"told to switch {'on' if each.normal_on else 'off'} again",
    }[each.state]


def _span(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
