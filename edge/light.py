"""pydantic as a process that never ends needs it: 0.9 MB lighter, and the same otherwise.

It looks for plugins among all that is installed, which brings importlib.metadata and zipfile. And
it describes its inner tables by eighty TypedDicts, each of whose fields Python compiles, and which
only type checkers ever read.
"""

import sys
import typing
from types import ModuleType
from typing import Any

import typing_extensions  # noqa: F401 # for others, with the real TypedDict in it

_PLUGINS = "pydantic.plugin._loader"


class _Table(dict[str, Any]):
    """What a TypedDict is at run time, without its fields: calling it makes a dict."""

    def __init_subclass__(cls, *, total: bool = True) -> None:
        """`total` is for type checkers."""

    def __new__(cls, *content: Any, **fields: Any) -> Any:
        return dict(*content, **fields)


def import_pydantic() -> None:
    """To be called before anything imports it; does nothing where it was imported."""
    if "pydantic_core" in sys.modules:
        return
    no_plugins = ModuleType(_PLUGINS)
    vars(no_plugins)["get_plugins"] = tuple
    sys.modules[_PLUGINS] = no_plugins
    described = typing.TypedDict
    vars(typing)["TypedDict"] = _Table
    try:
        import pydantic_core  # noqa: F401
    finally:
        vars(typing)["TypedDict"] = described
