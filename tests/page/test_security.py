"""What the page refuses, and what it never says."""

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from starlette.routing import Route

from edge.agent_api.access import HASH_COST
from edge.agent_api.access import Visitor as Asker
from edge.setup_page.app import build
from edge.setup_page.guard import BODY_BYTES_MAX
from edge.setup_page.indoors import furnish
from tests.page.stand import PASSWORD, Stand
from tests.page.visitor import Visitor

OPEN_TO_ALL = {
    ("GET", "/static/{name}"),  # style and script, the same in every box
    ("GET", "/claim"),
    ("POST", "/claim"),
    ("GET", "/log-in"),
    ("POST", "/log-in"),
    ("POST", "/language"),
}
CANARY = "CANARY-secret-7291"


def test_of_eight_claims_at_once_exactly_one_wins() -> None:
    """From eight addresses, so that no limit but the claim itself keeps seven of them out; and
    with the box's own hash, during which all eight are under way."""
    with Stand(hash_cost=HASH_COST) as stand:
        race(stand)


def race(stand: Stand) -> None:
    visitors = [Visitor(stand, f"127.0.0.{i}") for i in range(2, 10)]
    ready = threading.Barrier(8)

    def claim(number: int) -> int:
        ready.wait(10)
        return visitors[number].claim(f"{PASSWORD} {number}").status

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(claim, range(8)))
    assert statuses == [303] + [409] * 7
    assert [kind for kind, *_ in stand.events].count("claim") == 1
    (owner,) = (visitor for visitor in visitors if "edge" in visitor.cookies)
    assert owner.get("/health").headers.get("location") != "/log-in"


def test_a_claim_without_a_long_enough_password_is_refused(stand: Stand) -> None:
    for password in ("", "short", "ninechars"):
        answer = Visitor(stand).claim(password)
        assert answer.status == 422
        assert "set-cookie" not in answer.headers
    assert not stand.do(stand.access.is_claimed)


def test_a_box_that_runs_longer_than_the_window_asks_for_its_plug(stand: Stand) -> None:
    stand.do(lambda: stand.clock.advance(timedelta(minutes=15)))
    assert "plug it in again" in Visitor(stand).get("/claim").text
    assert Visitor(stand).claim().status == 403


def test_a_pre_seeded_box_asks_for_its_code() -> None:
    with Stand(code="ABCD2345") as stand:
        assert 'name="code"' in Visitor(stand).get("/claim").text
        assert Visitor(stand).claim(code="NOPE").status == 403
        assert Visitor(stand).claim(code="ABCD2345").status == 303


def test_a_claimed_box_shows_no_claim(claimed: Stand) -> None:
    assert Visitor(claimed).get("/claim").headers["location"] == "/"
    assert Visitor(claimed).claim("another password").status == 409


def test_the_sixth_wrong_password_is_not_even_looked_at(claimed: Stand) -> None:
    guesser = Visitor(claimed)
    assert [guesser.log_in(f"a wrong guess {i}").status for i in range(5)] == [403] * 5
    assert guesser.log_in(PASSWORD).status == 429


@pytest.mark.parametrize("host", ["evil.example", "edge.local.evil.example", "192.0.2.7", ""])
def test_a_foreign_name_that_points_here_is_not_answered(claimed: Stand, host: str) -> None:
    answer = Visitor(claimed).get("/log-in", host=host or "x")
    assert answer.status == 421
    assert "<form" not in answer.text


def test_own_names_are_answered_with_any_port(claimed: Stand) -> None:
    for host in ("edge.local", "EDGE.local:8080", "127.0.0.1:1", "localhost"):
        assert Visitor(claimed).get("/log-in", host=host).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://edge.local"},
        {"origin": "http://edge.local:81"},
        {"origin": "", "sec_fetch_site": "cross-site"},
        {"origin": "", "sec_fetch_site": "same-site"},
        {"origin": ""},
    ],
)
def test_a_form_sent_by_another_site_is_refused(claimed: Stand, headers: dict[str, str]) -> None:
    other = Visitor(claimed)
    answer = other.post("/log-in", {"password": PASSWORD}, **headers)
    assert answer.status == 403
    assert not other.cookies


def test_the_session_cookie_is_out_of_reach_of_script_and_other_sites(claimed: Stand) -> None:
    cookie = Visitor(claimed).log_in().headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "path=/" in cookie


def test_no_answer_may_be_framed_sniffed_or_run_foreign_script(claimed: Stand) -> None:
    for path in ("/log-in", "/nowhere"):
        headers = Visitor(claimed).get(path).headers
        policy = headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


def routes_of_the_page(stand: Stand) -> set[tuple[str, str]]:
    """Every method and path the page's application knows, whether it is documented or not."""
    found: set[tuple[str, str]] = set()
    outside, screens = build(stand.agent)
    waiting = [*outside.routes, *furnish(outside.state.view).routes]
    while waiting:
        route = waiting.pop()
        if getattr(route, "app", None) is screens:
            continue
        inner = getattr(route, "original_router", None)  # how FastAPI holds what is included
        if inner is not None:
            waiting += inner.routes
        else:
            assert isinstance(route, Route), f"what is {route}?"
            found |= {(method, route.path) for method in (route.methods or set()) - {"HEAD"}}
    return found


def test_every_route_but_the_few_open_ones_needs_a_session(claimed: Stand) -> None:
    routes = routes_of_the_page(claimed)
    assert routes >= OPEN_TO_ALL | {("GET", "/network/events"), ("POST", "/box/restore")}
    for method, path in sorted(routes - OPEN_TO_ALL):
        for cookies in ({}, {"edge": "made-up"}):
            stranger = Visitor(claimed)
            stranger.cookies.update(cookies)
            origin = {"origin": "http://edge.local"}
            answer = stranger.ask(method, re.sub(r"[{}]", "", path), b"", origin)
            led_to_log_in = answer.status == 303 and answer.headers["location"] == "/log-in"
            assert answer.status == 401 or led_to_log_in, (method, path, answer.status)


def test_nothing_but_pages_is_served(claimed: Stand) -> None:
    for path in ("/docs", "/redoc", "/openapi.json", "/static/../app.py", "/static/%2e%2e/app.py"):
        assert Visitor(claimed).get(path).status == 404
    assert Visitor(claimed).get("/static/..%2fapp.py").status == 404


def test_no_header_makes_a_guesser_somebody_else(claimed: Stand) -> None:
    """Who asks is whoever is connected, not what a request says of itself."""
    guesser = Visitor(claimed)
    for number in range(5):
        told = {"x_forwarded_for": f"10.0.0.{number}", "x_edge_visitor": f"10.0.0.{number}"}
        assert guesser.post("/log-in", {"password": f"guess {number}"}, **told).status == 403
    last = {"x_forwarded_for": "10.0.0.9", "x_edge_visitor": "10.0.0.9"}
    assert guesser.post("/log-in", {"password": PASSWORD}, **last).status == 429
    assert Visitor(claimed, "127.0.0.2").log_in().status == 303  # the owner comes in all the same


def test_a_changed_password_ends_other_sessions(claimed: Stand, visitor: Visitor) -> None:
    assert visitor.get("/health").headers.get("location") != "/log-in"
    somebody = Asker("192.0.2.1")
    claimed.do(lambda: claimed.access.change_password(PASSWORD, "another password", somebody))
    assert visitor.get("/health").headers["location"] == "/log-in"


def test_a_refused_form_never_repeats_what_was_typed(claimed: Stand) -> None:
    stranger = Visitor(claimed)
    for form in ({"password": CANARY}, {"password": CANARY * 100}, {CANARY: CANARY}):
        for path in ("/log-in", "/claim"):
            answer = stranger.post(path, form)
            assert answer.status >= 400
            assert CANARY not in answer.text
    left = json.dumps(claimed.documents.pages) + json.dumps(claimed.events)
    assert CANARY not in left
    assert PASSWORD not in left


def test_a_body_that_is_too_large_is_refused(claimed: Stand) -> None:
    form = {"password": "x" * (BODY_BYTES_MAX + 1)}
    assert Visitor(claimed).post("/log-in", form).status == 413


def test_a_browser_that_calls_itself_markup_is_shown_as_text(stand: Stand) -> None:
    name = "<script>alert(1)</script>"
    Visitor(stand).post("/claim", {"password": PASSWORD}, user_agent=name)
    claim = stand.do(stand.access.first_claim)
    assert claim is not None
    assert claim["browser"] == name


def test_the_language_link_leads_nowhere_else(claimed: Stand) -> None:
    for back in ("//evil.example", "https://evil.example", "/\\evil.example"):
        answer = Visitor(claimed).post("/language", {"language": "nl", "back": back})
        assert answer.headers["location"] == "/"


def test_a_page_whose_agent_is_away_says_so(claimed: Stand) -> None:
    claimed.stop_door()
    answer = Visitor(claimed).get("/log-in")
    assert answer.status in (200, 503)  # a remembered front lasts a moment
    assert Visitor(claimed).log_in().status == 503
