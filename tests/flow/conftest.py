"""What the flow tests share: one real FlexMeasures server, an account of its own for each test."""

from collections.abc import Iterator

import pytest

from tests.house.flexmeasures import Account, FlexMeasuresServer


@pytest.fixture(scope="session")
def flexmeasures_server() -> Iterator[FlexMeasuresServer]:
    with FlexMeasuresServer() as server:
        yield server


@pytest.fixture
def owner(flexmeasures_server: FlexMeasuresServer) -> Account:
    """The admin of an account that no other test uses."""
    return flexmeasures_server.make_account()
