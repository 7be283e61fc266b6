"""Finds what edge/ can say to a person: sentences and codes, read from its source."""

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import edge
from edge.agent_api.refusals import NotAllowed
from edge.errors import EdgeError, StoreBroken

ROOT = Path(edge.__file__).parent
# Rooms whose sentences reach no screen: the command line, the card before a start, the page.
SILENT = (
    "cli",
    "setup_page",
    "config.py",
    "appliance/preseed.py",
    "appliance/seal.py",
    "preset.py",
)
_FILLED = "§"  # stands for what is filled in


@dataclass(frozen=True)
class Spoken:
    """`text` with § for each value that is filled in."""

    text: str
    place: str


@cache
def sentences() -> list[Spoken]:
    """Every sentence in an error, an alarm or a note."""
    errors = _error_names()
    return [found for path in _files() for found in _sentences_in(path, errors)]


@cache
def codes() -> set[str]:
    """Every code a refusal can carry."""
    refusals = {cls.__name__ for cls in _below(NotAllowed)}
    return {
        str(call.args[0].value)
        for path in _files()
        for call in _nodes(path)
        if isinstance(call, ast.Call)
        and _name(call.func) in refusals
        and call.args
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
    }


@cache
def event_kinds() -> set[str]:
    """The kind of every event that is noted: note(kind, text, …), and _say() of the entrance."""
    return {
        str(call.args[0].value)
        for path in _files()
        for call in _nodes(path)
        if isinstance(call, ast.Call)
        and (_name(call.func) in ("_note", "_say") or _is_events_add(call.func))
        and len(call.args) > 1
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
    }


def _is_events_add(func: ast.AST) -> bool:
    return isinstance(func, ast.Attribute) and func.attr == "add" and _name(func.value) == "events"


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(_tree(path)))


def _files() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*.py")):
        if not str(path.relative_to(ROOT)).startswith(SILENT):
            yield path


def _error_names() -> set[str]:
    for module in pkgutil.walk_packages([str(ROOT)], "edge."):
        if not module.name.startswith(("edge.cli", "edge.setup_page", "edge.__main__")):
            importlib.import_module(module.name)
    silent = {cls.__name__ for base in (NotAllowed, StoreBroken) for cls in _below(base)}
    return {cls.__name__ for cls in _below(EdgeError)} - silent


def _below(cls: type) -> Iterator[type]:
    yield cls
    for each in cls.__subclasses__():
        yield from _below(each)


def _sentences_in(path: Path, errors: set[str]) -> Iterator[Spoken]:
    for function in _nodes(path):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Module):
            continue
        for node in _own(function):
            for value in _said(node, errors):
                for text in _texts(value, function):
                    if any(letter.isalpha() for letter in text):
                        yield Spoken(text, f"{path.relative_to(ROOT)}:{value.lineno}")


def _own(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function, without those of functions in it."""
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            yield from _own(node)


def _said(node: ast.AST, errors: set[str]) -> list[ast.expr]:
    """What a node says to a person."""
    match node:
        case ast.Call(func=func, args=[*args]) if _name(func) in errors:
            return args if _name(func) == "ConfigFault" else args[:1]
        case ast.Call(func=ast.Attribute(attr="alarm"), args=[_, text]):
            return [text]
        case ast.Call(func=ast.Attribute(attr="append", value=value), args=[text]):
            return [text] if _name(value) in ("faults", "refused") else []
        case ast.Assign(targets=[ast.Subscript(value=ast.Attribute(attr="notes"))], value=text):
            return [text]
        case ast.Assign(
            targets=[ast.Attribute(attr="sentence" | "problem" | "full_card")], value=text
        ):
            return [text]
    return []


def _texts(value: ast.expr, function: ast.AST) -> list[str]:
    """The sentence with its gaps; of a name, what the function gave it."""
    match value:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            return ["".join(p.value if isinstance(p, ast.Constant) else _FILLED for p in parts)]
        case ast.BoolOp(values=values):
            return [text for each in values for text in _texts(each, function)]
        case ast.IfExp(body=body, orelse=orelse):
            return _texts(body, function) + _texts(orelse, function)
        case ast.Name(id=name):
            return [
                text
                for node in _own(function)
                if isinstance(node, ast.Assign) and _name(node.targets[0]) == name
                for text in _texts(node.value, function)
            ]
    return []


def _name(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""
