"""Fixtures of the page's tests. A missing browser or missing assets fail the tests by name."""

from collections.abc import Iterator

import pytest

from edge.setup_page.assets import VENDORED
from tests.page.stand import Stand
from tests.page.visitor import Visitor


def pytest_configure() -> None:
    if not (VENDORED / "htmx-sse.js").exists():
        pytest.exit("the page's style and script are missing: run tests/house/setup page", 2)


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
