"""The documentation says what is so: commands, settings, status, variables and links."""

import argparse
import json
import re
import typing
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote

import pytest
from pydantic import BaseModel

from edge.cli.commands import _parser
from edge.config import Config, machines_name
from edge.contract import Status
from tests.house.run.wishes import WishFault, wishes

ROOT = Path(__file__).parents[2]
FOREIGN = {".venv", "build", "dist", "node_modules", ".git"}
SETUP_VARIABLES = {"PYTHON"}  # of the set-up, not of the scene


def text_of(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def our_markdown() -> list[Path]:
    folders = [ROOT / name for name in ("docs", "edge", "image", "systemd", "tests")]
    found = [path for folder in folders for path in folder.rglob("*.md")]
    found += ROOT.glob("*.md")
    return sorted(p for p in found if not FOREIGN.intersection(p.relative_to(ROOT).parts))


@pytest.mark.parametrize("page", our_markdown(), ids=lambda p: str(p.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    relative = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in relative if not (page.parent / unquote(link)).exists()] == []


LINE = re.compile(r"`([\w./]+):(\d+)` `([^`]+)`")


@pytest.mark.parametrize("page", our_markdown(), ids=lambda p: str(p.relative_to(ROOT)))
def test_line_that_is_named_holds_what_is_said_of_it(page: Path) -> None:
    for path, number, word in LINE.findall(page.read_text(encoding="utf-8")):
        lines = text_of(path).splitlines()
        known = [n for n, line in enumerate(lines, 1) if re.search(rf"(?<!\w){word}(?!\w)", line)]
        assert int(number) in known, f"{page.name}: {word} stands in {path}:{known}"


def test_every_command_and_option_is_documented() -> None:
    documented = text_of("docs/status.md")
    parser = _parser()
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    assert {f"`edge {name}" for name in commands.choices if f"`edge {name}" not in documented} == (
        set()
    )
    options = {
        option
        for each in (parser, *commands.choices.values())
        for action in each._actions
        for option in action.option_strings
        if option.startswith("--") and option != "--help"
    }
    assert {option for option in options if option not in documented} == set()


def test_every_setting_is_documented_with_its_default() -> None:
    assert documented_settings() == dict(settings_of(Config))


def documented_settings() -> dict[str, str]:
    """`section.key` and its default, as the tables of docs/configuration.md have them."""
    found, section = {}, ""
    for line in text_of("docs/configuration.md").splitlines():
        if line.startswith("## "):
            named = re.match(r"## \[(\w+)\]", line)
            section = f"{named[1]}." if named else ""
        elif row := re.match(r"\| `(\w+)` \| (.+?) \|", line):
            found[section + row[1]] = row[2].strip("`")
    return found


def settings_of(kind: type[BaseModel], section: str = "") -> Iterator[tuple[str, str]]:
    for name, field in kind.model_fields.items():
        default = field.default
        if isinstance(default, BaseModel):
            yield from settings_of(type(default), f"{section}{name}.")
        elif field.default_factory is machines_name:
            yield section + name, "the machine's name"
        else:
            yield section + name, in_toml(default)


def in_toml(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return json.dumps(str(value) if isinstance(value, Path) else value)


def test_every_field_of_the_status_is_documented_and_no_other() -> None:
    code = re.findall(r"`([^`]+)`", text_of("docs/status.md"))
    documented = {each for each in code if re.fullmatch(r"[a-z_]+(\[\])?(\.[a-z_]+)+", each)}
    fields = set(fields_of(Status))
    nested = {field for field in fields if "." in field}
    assert documented == nested
    assert {field for field in fields - nested if field not in code} == set()


def fields_of(kind: type[BaseModel], path: str = "") -> Iterator[str]:
    """Dotted names; `[]` after a list."""
    for name, field in kind.model_fields.items():
        listed = typing.get_args(field.annotation) if field.annotation is not None else ()
        inner = listed[0] if typing.get_origin(field.annotation) is list else field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from fields_of(inner, f"{path}{name}{'[]' if listed else ''}.")
        else:
            yield path + name


class Noting(Mapping[str, str]):
    """An empty environment that notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def test_every_variable_of_make_run_is_in_the_readme() -> None:
    environment = Noting()
    with suppress(WishFault):  # a port may be in use
        wishes(environment)
    rows = [line for line in text_of("README.md").splitlines() if line.startswith("| `")]
    documented = {name for row in rows for name in re.findall(r"([A-Z_]+)(?:=|`)", row)}
    assert environment.asked <= documented
    assert documented - environment.asked <= SETUP_VARIABLES


def test_every_room_and_every_kind_of_test_has_its_readme() -> None:
    rooms = [*(ROOT / "edge").iterdir(), *(ROOT / "tests").iterdir()]
    folders = [room for room in rooms if room.is_dir() and any(room.glob("*.*"))]
    bare = [room.name for room in folders if not (room / "README.md").exists()]
    assert [name for name in bare if not name.startswith(("__", "."))] == []
