"""Z-Wave as the box's frame of families knows it (edge/family.py).

Nothing is asked of a person: the stick is found and the driver runs beside us. The box's own
settings ([zwave] of agent.toml) say where.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.certificates import import_aiohttp
from edge.clock import Clock
from edge.errors import ConfigFault
from edge.family import Family, Field, Found, GetSecret, Notebook
from edge.model import Intake

fields: tuple[Field, ...] = ()


async def check(_: Mapping[str, Any], __: GetSecret, ___: Clock) -> Found:
    """Nothing to try: the driver tells what it has once it runs."""
    return Found(channels=())


def create(
    config: Mapping[str, Any], _: GetSecret, intake: Intake, clock: Clock, notebook: Notebook
) -> Family:
    """`config`: server_url, report_presets, signed_power, backup_folder."""
    if not config.get("server_url"):
        raise ConfigFault("zwave: server_url is missing")
    import_aiohttp()
    from edge.devices.zwave.family import ZWave

    return ZWave(
        str(config["server_url"]),
        intake,
        clock,
        notebook=notebook,
        backup_folder=Path(config["backup_folder"]) if config.get("backup_folder") else None,
        report_presets=bool(config.get("report_presets", True)),
        signed_power=bool(config.get("signed_power", True)),
    )
