"""Libraries without what the box never uses: lighter, sooner there, and the same otherwise.

pydantic looks for plugins among all that is installed, which brings importlib.metadata and zipfile.
And it describes its inner tables by eighty TypedDicts, each of whose fields Python compiles, and
which only type checkers ever read: 0.9 MB. FastAPI builds the models of an OpenAPI document: 1.3 MB
and an eighth of the time in which the page starts. uvicorn brings click and multiprocessing, for a
command line: another twentieth.
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


def import_uvicorn() -> None:
    """Without its command line; the page has one of its own."""
    if "uvicorn" in sys.modules:
        return
    no_commands = ModuleType("uvicorn.main")
    vars(no_commands).update(main=None, run=None, Server=None)  # what uvicorn itself takes from it
    sys.modules[no_commands.__name__] = no_commands
    import uvicorn
    from uvicorn.server import Server

    vars(uvicorn)["Server"] = vars(no_commands)["Server"] = Server


def import_fastapi() -> None:
    """With the models of its OpenAPI document unbuilt until somebody asks for one."""
    from pydantic import BaseModel

    BaseModel.model_config["defer_build"] = True
    try:
        import fastapi.openapi.models  # noqa: F401
    finally:
        del BaseModel.model_config["defer_build"]
