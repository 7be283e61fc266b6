"""What the resident process must not carry: each of these libraries costs megabytes for ever."""

import subprocess
import sys

from edge.devices import FAMILIES as FAMILY_MODULES

# What adds tables, and the command line it brings: 4 MB. store/prepare.py
TABLES = "sqlite_utils click pluggy dateutil tabulate"
# The page's, and what no part of the agent has a use for.
FOREIGN = (
    "fastapi starlette uvicorn jinja2 multipart anyio aiohttp.web cryptography rich yaml unittest"
)
# Those of families that are not in use, and of the families' own once one is.
FAMILIES = "smappy requests urllib3 charset_normalizer zwave_js_server edge.devices.smappee.family"
# What loads with the first need only.
SELDOM = (
    "aiohttp argparse statistics serial multiprocessing xml tarfile zipfile importlib.metadata"
    " sqlite3.dump concurrent.futures.process"
)

IMPORTED = f"""
import gc, os, ssl, sys
from edge.cli import LIGHTER
os.environ.update(LIGHTER)
from edge.certificates import import_aiohttp
from edge.light import import_pydantic, lighten_dataclasses
lighten_dataclasses()
import_pydantic()
import edge.agent
carried = [name for name in "{TABLES} {FOREIGN} {FAMILIES} {SELDOM}".split() if name in sys.modules]
from edge.devices import FAMILIES, load
for name in FAMILIES: load(name).fields
import_aiohttp()
import edge.uplink.wire
carried += [name for name in "{FOREIGN}".split() if name in sys.modules]
carried += [line.split()[-1] for line in open("/proc/self/maps") if "libstdc++" in line]
carried += [c for o in gc.get_objects() if isinstance(o, ssl.SSLContext) for c in o.get_ca_certs()]
asked = [name for name in "smappy requests serial".split() if name in sys.modules]
from edge.devices.smappee.light import import_requests
import_requests()
import edge.devices.smappee.family
guessers = [name for name in ("charset_normalizer", "chardet") if name in sys.modules]
print(*carried, *asked, *guessers)
"""


def test_agent_carries_nothing_it_has_no_use_for() -> None:
    """In a process of its own: neither the agent nor the page's questions bring a library."""
    command = [sys.executable, "-c", IMPORTED]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said.stdout.split() == []


def test_family_that_is_not_used_brings_no_more_than_what_it_asks() -> None:
    asked = (
        "import sys, edge.agent\n"
        "def loaded(): return {m for m in sys.modules if m.startswith('edge.devices.')}\n"
        "before = loaded()\n"
        "from edge.devices import FAMILIES as names, load\n"
        "for name in names: load(name).fields\n"
        "print(*sorted(before)); print(*sorted(loaded() - before))"
    )
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    before, asking = said.stdout.splitlines()
    assert before == "edge.devices.stick"
    named = set(FAMILY_MODULES.values())
    packages = {name.rpartition(".")[0] for name in named}
    assert set(asking.split()) - named - packages == {
        "edge.devices.smappee.holds",
        "edge.devices.smappee.light",
    }


def test_first_answer_of_the_page_needs_no_fastapi() -> None:
    asked = (
        "import sys; from edge.light import import_uvicorn; import_uvicorn()\n"
        "import edge.setup_page.serving\n"
        "print(*[name for name in sys.argv[1].split() if name in sys.modules])"
    )
    slow = "fastapi opentelemetry pydantic.v1 edge.setup_page.screens edge.contract.setup"
    command = [sys.executable, "-c", asked, f"{slow} click multiprocessing"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said.stdout.split() == []


def test_pydantic_made_lighter_checks_and_explains_as_before() -> None:
    said_by = (
        "import typing; real = typing.TypedDict\n"
        "{}"
        "from pydantic import BaseModel, Field, TypeAdapter, ValidationError\n"
        "class Clamp(typing.TypedDict): amperes: typing.Annotated[int, Field(gt=0)]\n"
        "class Meter(BaseModel): name: str; clamps: list[Clamp] = []\n"
        "print(Meter(name='mains', clamps=[{{'amperes': '5'}}]).model_dump_json())\n"
        "print(TypeAdapter(Meter).json_schema(), typing.TypedDict is real)\n"
        'try: Meter.model_validate_json(\'{{"clamps": [{{"amperes": 0}}]}}\')\n'
        "except ValidationError as problem: print(problem, problem.errors())"
    )
    light = "from edge.light import import_pydantic; import_pydantic()\n"
    usual, lighter = (
        subprocess.run(
            [sys.executable, "-c", said_by.format(first)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for first in ("", light)
    )
    assert "greater than 0" in usual
    assert lighter == usual


def test_dataclasses_made_lighter_are_what_they_would_be() -> None:
    told = (
        "{}"
        "import copy, inspect, pickle\n"
        "from dataclasses import dataclass, field, replace, asdict, FrozenInstanceError\n"
        "@dataclass(frozen=True, slots=True)\n"
        "class Amount: value: float; unit: str = 'W'\n"
        "@dataclass(order=True, kw_only=True)\n"
        "class Named: name: str; tags: list[str] = field(default_factory=list, compare=False)\n"
        "@dataclass\n"
        "class Meter(Named):\n"
        "  amount: Amount = Amount(0); last: int = field(default=0, init=False)\n"
        "  def __post_init__(self): self.last += 1\n"
        "  def __repr__(self): return 'meter ' + self.name\n"
        "meter = Meter(Amount(5), name='mains', tags=['a'])\n"
        "print(Amount(5) == Amount(5) != Amount(6), hash(Amount(5)) == hash(Amount(5)))\n"
        "print({{Amount(5): 1}}[Amount(5)], Amount(7), Amount(7) == 7, Meter.__hash__)\n"
        "print(meter, Named(name='a') < Named(name='b'), meter == copy.deepcopy(meter))\n"
        "print(asdict(replace(meter, name='other')), Amount.__match_args__, Amount.__slots__)\n"
        "print(inspect.signature(Meter), inspect.signature(Meter.__init__))\n"
        "print(pickle.loads(pickle.dumps(Amount(3))), Amount.__init__.__qualname__)\n"
        "frozen = lambda: setattr(Amount(1), 'value', 2)\n"
        "for wrong in (frozen, lambda: Amount(), lambda: Meter(1)):\n"
        "  try: wrong()\n"
        "  except (FrozenInstanceError, TypeError) as problem: print(repr(problem))\n"
        "try: dataclass(frozen=True)(type('Own', (), dict(__setattr__=1)))\n"
        "except TypeError as problem: print(problem)"
    )
    light = "from edge.light import lighten_dataclasses; lighten_dataclasses()\n"
    usual, lighter = (
        subprocess.run(
            [sys.executable, "-c", told.format(first)], capture_output=True, text=True, check=True
        ).stdout
        for first in ("", light)
    )
    assert "FrozenInstanceError" in usual
    assert lighter == usual


def test_fastapi_made_lighter_leaves_only_its_own_document_unbuilt() -> None:
    told = (
        "import sys; from edge.light import import_fastapi; import_fastapi()\n"
        "from fastapi.openapi.models import OpenAPI\n"
        "from pydantic import BaseModel\n"
        "class Ours(BaseModel): pass\n"
        "print(OpenAPI.__pydantic_complete__, Ours.__pydantic_complete__)\n"
        "from fastapi import FastAPI\n"
        "print(FastAPI(title='whole when asked for').openapi()['info']['title'])\n"
        "print(sorted({name[:11] for name in sys.modules if name.startswith('pydantic.v1.')}))"
    )
    said = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == ["False True", "whole when asked for", "[]"]
