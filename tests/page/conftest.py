"""Fixtures of the page's tests. A missing browser or missing assets fail the tests by name.

The whole house takes half a minute to furnish: all modules that need it live in the same one, each
with a browser of its own. What they need of it they do first where it is missing (settled.py).
"""

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext

from edge.setup_page.assets import VENDORED
from tests.house.flexmeasures import FlexMeasuresServer
from tests.page.browser import browser
from tests.page.stand import Stand
from tests.page.visitor import Visitor
from tests.page.whole_house import WholeHouse


def pytest_configure() -> None:
    if not (VENDORED / "htmx-sse.js").exists():
        pytest.exit("the page's style and script are missing: run tests/house/setup page", 2)


@pytest.fixture(scope="session")
def server() -> Iterator[FlexMeasuresServer]:
    with FlexMeasuresServer() as started:
        yield started


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeHouse]:
    with WholeHouse(tmp_path_factory.mktemp("h")) as started:
        yield started


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def stand() -> Iterator[Stand]:
    """A new, unclaimed box."""
    with Stand() as opened:
        yield opened


@pytest.fixture
def claimed() -> Iterator[Stand]:
    """A box whose password is PASSWORD."""
    with Stand() as opened:
        Visitor(opened).claim()
        yield opened


@pytest.fixture
def visitor(claimed: Stand) -> Visitor:
    """Somebody logged in to a claimed box."""
    found = Visitor(claimed)
    found.log_in()
    return found
