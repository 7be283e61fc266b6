"""Libraries without what the box never uses: lighter, sooner there, and the same otherwise.

pydantic looks for plugins among all that is installed, which brings importlib.metadata and zipfile.
And it describes its inner tables by eighty TypedDicts, each of whose fields Python compiles, and
which only type checkers ever read: 0.9 MB. FastAPI builds the models of an OpenAPI document: 1.3 MB
and an eighth of the time in which the page starts. uvicorn brings click and multiprocessing, for a
command line: another twentieth; its tables of types are for type checkers, too. A dataclass has
Python compile six functions of which most are never called: a quarter of the time in which the
agent starts.
"""

import dataclasses
import gc
import sys
import typing
from collections.abc import Iterator
from contextlib import contextmanager
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


class _FirstUse:
    """In the place of one function of a dataclass until somebody wants it; then there it is."""

    __slots__ = ("_functions", "_name", "_owner", "_source")

    def __init__(self, functions: Any, owner: type, name: str, source: str) -> None:
        self._functions, self._owner, self._name, self._source = functions, owner, name, source

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner = owner  # slots make a dataclass anew

    def __get__(self, instance: object, kind: type) -> Any:
        one = _AllAtOnce(self._functions.globals)
        one.names, one.src, one.locals = [self._name], [self._source], self._functions.locals
        one.unconditional_adds = {self._name: True}
        one.add_fns_to_class(self._owner)
        return vars(self._owner)[self._name].__get__(instance, kind)


_AllAtOnce: Any = vars(dataclasses)["_FuncBuilder"]


class _OneByOne(_AllAtOnce):  # type: ignore[misc]
    def add_fns_to_class(self, cls: type) -> None:
        if vars(cls).keys() & (set(self.names) - self.unconditional_adds.keys()):
            # It has one of its own, and the library knows what that means.
            super().add_fns_to_class(cls)
            return
        for name, source in zip(self.names, self.src, strict=True):
            setattr(cls, name, _FirstUse(self, cls, name, source))
        cls.__doc__ = cls.__doc__ or cls.__name__  # else it would be the signature of __init__


def lighten_dataclasses() -> None:
    """From now on each function of a dataclass is compiled when it is first used."""
    vars(dataclasses)["_FuncBuilder"] = _OneByOne


@contextmanager
def uncollected() -> Iterator[None]:
    """For what is read in at the start and stays: looking for garbage in it, then and whenever
    Python does later, finds none."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def _plain_tables() -> Iterator[None]:
    described = typing.TypedDict
    vars(typing)["TypedDict"] = _Table
    try:
        yield
    finally:
        vars(typing)["TypedDict"] = described


def import_pydantic() -> None:
    """To be called before anything imports it; does nothing where it was imported."""
    if "pydantic_core" in sys.modules:
        return
    no_plugins = ModuleType(_PLUGINS)
    vars(no_plugins)["get_plugins"] = tuple
    sys.modules[_PLUGINS] = no_plugins
    with _plain_tables():
        import pydantic_core  # noqa: F401


def import_uvicorn() -> None:
    """Without its command line; the page has one of its own."""
    if "uvicorn" in sys.modules:
        return
    no_commands = ModuleType("uvicorn.main")
    vars(no_commands).update(main=None, run=None, Server=None)  # what uvicorn itself takes from it
    sys.modules[no_commands.__name__] = no_commands
    with _plain_tables():
        import uvicorn
        from uvicorn.server import Server

    vars(uvicorn)["Server"] = vars(no_commands)["Server"] = Server


def import_fastapi() -> None:
    """With the models of its OpenAPI document unbuilt until somebody asks for one, and without
    pydantic 1, whose models it would look for among ours: it allows for that being gone."""
    vars(sys)["modules"].setdefault("pydantic.v1", None)  # as if it could not be imported
    from pydantic import BaseModel

    BaseModel.model_config["defer_build"] = True
    try:
        import fastapi.openapi.models  # noqa: F401
    finally:
        del BaseModel.model_config["defer_build"]
