"""Device families: Meter, Switch or both. They do not know each other.

Only this table knows their names; a family that is not in use is never imported, so neither are
its libraries. A new family is one module and one line here: docs/add-a-family.md.
"""

from importlib import import_module
from typing import cast

from edge.errors import ConfigFault
from edge.family import FamilyModule

FAMILIES = {  # in the page's order: what a household is likeliest to have, first
    "zwave": "edge.devices.zwave.frame",
    "smappee": "edge.devices.smappee",
    "homeassistant": "edge.devices.homeassistant",
    "p1": "edge.devices.p1",
}


def load(name: str) -> FamilyModule:
    """Import the family called `name`, now and not before."""
    if name not in FAMILIES:
        raise ConfigFault(f"there is no device family {name!r}; known: {', '.join(FAMILIES)}")
    return cast("FamilyModule", import_module(FAMILIES[name]))
