"""What a person calls the devices: their names, made distinct where two are alike. Pure."""

from collections import Counter
from collections.abc import Iterable

from edge.model import Device


def display_names(devices: Iterable[Device]) -> dict[str, str]:
    """A name for every device, by key. Two of the same model carry their number behind it."""
    known = list(devices)
    plain = {each.key: each.name or each.model or each.device for each in known}
    times = Counter(plain.values())
    return {
        each.key: f"{plain[each.key]} ({each.device.rpartition('-')[2]})"
        if times[plain[each.key]] > 1
        else plain[each.key]
        for each in known
    }
