"""Smappee: the cloud through smappy, or an older monitor in the house by its address.

The page asks for `fields` of every family, so smappy is not imported before it is needed.
"""

from collections.abc import Mapping
from typing import Any

from edge.clock import Clock
from edge.devices.smappee.holds import SmappeeHold
from edge.devices.smappee.light import import_requests
from edge.family import Family, Field, FieldKind, Found, GetSecret, Notebook
from edge.model import Intake

__all__ = ["SmappeeHold", "check", "create", "fields"]

_CLOUD, _LOCAL = ("way", "cloud"), ("way", "local")

fields = (
    Field("way", FieldKind.CHOICE, "smappee.way", default="cloud", choices=("cloud", "local")),
    Field("client_id", FieldKind.TEXT, "smappee.client_id", only_if=_CLOUD),
    Field("client_secret", FieldKind.PASSWORD, "smappee.client_secret", only_if=_CLOUD),
    Field("username", FieldKind.TEXT, "smappee.username", only_if=_CLOUD),
    Field("password", FieldKind.PASSWORD, "smappee.password", only_if=_CLOUD),
    Field(
        "history",
        FieldKind.CHOICE,
        "smappee.history",
        default="all",
        choices=("all", "none"),
        only_if=_CLOUD,
    ),
    Field("address", FieldKind.TEXT, "smappee.address", only_if=_LOCAL),
    Field(
        "local_password",
        FieldKind.PASSWORD,
        "smappee.local_password",
        default="admin",  # as Smappee ships it
        only_if=_LOCAL,
    ),
)


def _is_local(config: Mapping[str, Any]) -> bool:
    return config.get("way") == "local"


async def check(config: Mapping[str, Any], get_secret: GetSecret, clock: Clock) -> Found:
    """Log in and look; offers the service locations as choices and what each measures."""
    import_requests()
    from edge.devices.smappee.family import CloudSettings, CloudSmappee
    from edge.devices.smappee.local import LocalSettings, SmappeeInHouse

    if _is_local(config):
        return await SmappeeInHouse.check(LocalSettings.read(fields, config, get_secret), clock)
    return await CloudSmappee.check(CloudSettings.read(fields, config, get_secret), clock)


def create(
    config: Mapping[str, Any],
    get_secret: GetSecret,
    intake: Intake,
    clock: Clock,
    notebook: Notebook,
) -> Family:
    """The family as configured; nothing is asked of Smappee before run()."""
    import_requests()
    from edge.devices.smappee.family import CloudSettings, CloudSmappee
    from edge.devices.smappee.local import LocalSettings, SmappeeInHouse

    if _is_local(config):
        return SmappeeInHouse(LocalSettings.read(fields, config, get_secret), intake, clock)
    settings = CloudSettings.read(fields, config, get_secret)
    return CloudSmappee(settings, intake, clock, notebook)
