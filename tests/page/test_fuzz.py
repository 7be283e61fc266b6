"""Whatever anybody sends, the page and the door answer with words, never with a traceback."""

import json
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from edge.agent_api.entrance import OPEN_TO_ALL
from edge.contract.care import BackupRequest, ConfirmRequest
from edge.contract.control import ControlRequest, HandRequest
from edge.contract.page import ChangePasswordRequest, ClaimRequest, LogInRequest
from edge.contract.setup import (
    AccountRequest,
    FamilyRequest,
    MapRequest,
    NetworkRequest,
    SiteRequest,
)
from edge.setup_page.app import build
from edge.setup_page.indoors import furnish
from tests.page.real_door import RealDoor
from tests.page.rooms import House, device
from tests.page.stand import PASSWORD, Stand
from tests.page.visitor import Visitor

SETTLED = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ORIGIN = {"origin": "http://edge.local", "host": "edge.local"}
DOOR: dict[tuple[str, str], type[BaseModel]] = {
    ("POST", "/claim"): ClaimRequest,
    ("POST", "/log-in"): LogInRequest,
    ("POST", "/password"): ChangePasswordRequest,
    ("POST", "/flexmeasures/look"): AccountRequest,
    ("POST", "/flexmeasures/site"): SiteRequest,
    ("PUT", "/families/smappee"): FamilyRequest,
    ("POST", "/network"): NetworkRequest,
    ("PUT", "/map"): MapRequest,
    ("POST", "/control/hand"): HandRequest,
    ("PUT", "/control/device"): ControlRequest,
    ("POST", "/backup"): BackupRequest,
    ("POST", "/reset"): ConfirmRequest,
}


@pytest.fixture(scope="module")
def house() -> House:
    return House()


@pytest.fixture(scope="module")
def box(house: House) -> Iterator[Stand]:
    with Stand(rooms=[house.routes()]) as stand:
        Visitor(stand).claim()
        yield stand


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealDoor]:
    with RealDoor(tmp_path_factory.mktemp("d")) as opened:
        yield opened


@pytest.fixture(scope="module")
def visitor(box: Stand) -> Visitor:
    found = Visitor(box)
    found.log_in()
    return found


def test_the_page_never_breaks(box: Stand, visitor: Visitor) -> None:
    """Every route with what its own schema allows, and with what it does not."""
    schema = schemathesis.openapi.from_dict(furnish(build(box.agent)[0].state.view).openapi())
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path == "/log-out":  # would only end the session of all that follows
            continue

        @SETTLED
        @given(case=operation.as_strategy())
        def probe(case: schemathesis.Case) -> None:
            answer = case.call(
                base_url=box.url, headers=ORIGIN, cookies=visitor.cookies, allow_redirects=False
            )
            assert answer.status_code < 500, (case.method, case.path, answer.status_code)

        probe()
        box.forgive()
        visitor.log_in()
        tried += 1
    assert tried > 20


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(("method", "path"), sorted(DOOR))
@SETTLED
@given(data=st.data())
def test_the_door_never_breaks(method: str, path: str, door: RealDoor, data: st.DataObject) -> None:
    """Anything in the shape of the message, and anything else."""
    fields = list(DOOR[method, path].model_fields)
    shaped = st.fixed_dictionaries({}, optional=dict.fromkeys(fields, JSON))
    status, _ = door.ask(method, path, json.dumps(data.draw(shaped | JSON)).encode())
    assert status != 500


@SETTLED
@given(body=st.binary(max_size=200), path=st.sampled_from(sorted(DOOR)))
def test_the_door_takes_no_garbage(door: RealDoor, body: bytes, path: tuple[str, str]) -> None:
    status, _ = door.ask(*path, b"\x00" + body)
    assert status in (413, 422)


@pytest.mark.parametrize(("method", "path"), sorted(DOOR))
def test_a_refused_message_is_not_repeated(method: str, path: str, door: RealDoor) -> None:
    fields = [*DOOR[method, path].model_fields, "CANARY"]
    wrong = {field: {"CANARY": "CANARY"} for field in fields}
    status, said = door.ask(method, path, json.dumps(wrong).encode())
    assert status == 422
    assert "CANARY" not in said


def test_every_route_of_the_door_but_the_few_open_ones_needs_a_session(door: RealDoor) -> None:
    """The page is trusted with nothing: what it forgot to ask for, the agent refuses."""
    routes = door.routes()
    assert routes >= OPEN_TO_ALL | {("POST", "/reset"), ("GET", "/network"), ("POST", "/backup")}
    for method, path in sorted(routes - OPEN_TO_ALL):
        told = {door.ask(method, path, b"{}", session=made_up)[0] for made_up in ("", "made-up")}
        assert told == {401}, (method, path)


def test_a_file_that_is_no_backup_is_refused(door: RealDoor) -> None:
    for content in (b"", b"PK\x03\x04 a zip", b"{}", b'{"format": "edge-backup"}', b"[" * 5000):
        assert door.ask("POST", "/restore", content)[0] == 422
    assert door.ask("POST", "/restore", b" " * (9 * 1024 * 1024))[0] == 413


def test_nothing_of_all_this_holds_the_password(door: RealDoor) -> None:
    """State, support bundle and backup, searched for the password and the session."""
    _, bundle = door.ask("POST", "/bundle", b"")
    _, backup = door.ask("POST", "/backup", b"{}")
    files = [path.read_bytes() for path in door.state.rglob("*") if path.is_file()]
    for content in (bundle.encode(), backup.encode(), *files):
        assert PASSWORD.encode() not in content


@SETTLED
@given(name=st.text(min_size=1, max_size=80), model=st.text(max_size=80))
def test_no_name_of_a_device_breaks_a_screen(
    box: Stand, house: House, visitor: Visitor, name: str, model: str
) -> None:
    """Names come by radio: whatever they hold is shown as text."""
    named = device("zwave/1-2", name, model)
    house.meters = house.meters.model_copy(update={"devices": [named]})
    answer = visitor.get("/meters")
    assert answer.status == 200
    assert f"<b>{name}</b>" in answer.text or any(c in name for c in "<>&'\"\r\x00")
    assert visitor.get("/device/zwave/1-2").status == 200
