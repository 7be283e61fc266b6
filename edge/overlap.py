"""One meter seen by two families: offered once, by the shorter path. Pure.

A family that passes on what another may read nearer to the meter (Home Assistant, which knows the
clamp of a Z-Wave stick or a Smappee too) names the nearer channel in Channel.repeats.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from itertools import combinations

from edge.model import Channel


def resolved(channels: Iterable[Channel]) -> dict[str, Channel]:
    """The channels by key, those that repeat a channel nobody reads here freed of that mark."""
    known = {channel.key: channel for channel in channels}
    return {
        key: channel if channel.repeats in known else replace(channel, repeats=None)
        for key, channel in known.items()
    }


def seen_twice(chosen: Collection[str], channels: Iterable[Channel]) -> list[tuple[str, str]]:
    """Pairs of chosen channels of two families where one shows what the other shows, or part of it.

    Sending both is possible, but a person has to want it.
    """
    known = resolved(channels)
    picked = [known[key] for key in sorted(set(chosen)) if key in known]
    return [
        (first.key, second.key)
        for first, second in combinations(picked, 2)
        if first.family != second.family
        and (second.key in _whole(first, known) or first.key in _whole(second, known))
    ]


def _whole(channel: Channel, known: Mapping[str, Channel]) -> list[str]:
    """What a channel repeats, what that repeats, and so on; a circle ends where it began."""
    found: list[str] = []
    while (key := channel.repeats) is not None and key not in found:
        found.append(key)
        channel = known[key]
    return found
