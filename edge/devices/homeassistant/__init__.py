"""Home Assistant: any meter and switch it knows, over its WebSocket API."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edge.certificates import import_aiohttp
from edge.clock import Clock
from edge.errors import Refused
from edge.family import Choice, Family, Field, FieldKind, Found, GetSecret, Notebook
from edge.later import later
from edge.model import Intake

if TYPE_CHECKING:
    from edge.devices.homeassistant.family import HomeAssistant, Settings

__all__ = ["check", "create", "fields"]

fields = (
    Field("address", FieldKind.TEXT, "homeassistant.address"),
    Field("token", FieldKind.PASSWORD, "homeassistant.token"),
    Field(
        "history",
        FieldKind.CHOICE,
        "homeassistant.history",
        default="all",
        choices=("all", "none"),
    ),
)


async def check(
    config: Mapping[str, Any],
    get_secret: GetSecret,
    clock: Clock,  # noqa: ARG001  # every family's check takes one
) -> Found:
    """Without an address: those that announce themselves, to choose from. With one: what is there.

    Meters of the person's energy dashboard are preselected.
    """
    if config.get("address") in (None, "", []):
        from edge.devices.homeassistant.discovery import discover

        found = await discover()
        if not found:
            raise Refused("no Home Assistant announces itself in this network: type its address")
        only = len(found) == 1
        choices = tuple(
            Choice("address", url, f"{name} ({url})", only) for url, name in found.items()
        )
        return Found((), (), choices)
    family, settings = await later(_family)
    return await family.check(settings.read(fields, config, get_secret))


def create(
    config: Mapping[str, Any],
    get_secret: GetSecret,
    intake: Intake,
    clock: Clock,
    notebook: Notebook,
) -> Family:
    """The family as configured; nothing is asked of Home Assistant before run()."""
    family, settings = _family()
    return family(settings.read(fields, config, get_secret), intake, clock, notebook)


def _family() -> "tuple[type[HomeAssistant], type[Settings]]":
    import_aiohttp()
    from edge.devices.homeassistant.family import HomeAssistant, Settings

    return HomeAssistant, Settings
