"""What a person calls the devices: their names, made distinct where two are alike. Pure."""

from collections import Counter
from collections.abc import Iterable

from edge.model import Channel, Device

ENDPOINT_SHOWN_MAX = 3  # "1", "L1"; longer ones are ids that no person knows


def display_names(devices: Iterable[Device]) -> dict[str, str]:
    """A name for every device, by key. Two that are called the same carry
    their family behind it, two of one family their number."""
    known = list(devices)
    plain = {each.key: each.name or each.model or each.device for each in known}
    times = Counter(plain.values())
    within = Counter((each.family, plain[each.key]) for each in known)

    def distinct(each: Device) -> str:
        name = plain[each.key]
        if times[name] == 1:
            return name
        if within[each.family, name] == 1:
            return f"{name} ({each.family})"
        return f"{name} ({each.device.rpartition('-')[2]})"

    return {each.key: distinct(each) for each in known}


def clamp_name(channel: Channel, device_name: str) -> str:
    """What tells this channel from the others of its device; empty where nothing need."""
    is_number = channel.endpoint != "0" and len(channel.endpoint) <= ENDPOINT_SHOWN_MAX
    told = channel.name.removeprefix(device_name).strip()
    told = "" if device_name.startswith(channel.name) else told
    return " ".join(filter(None, (told, channel.endpoint if is_number else "")))
