"""A person logged in at a claimed, settled box: the stand, before a house that only answers."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import BrowserContext

from edge.contract.page import Standing
from tests.page.rooms import House
from tests.page.stand import PASSWORD, Stand
from tests.page.visitor import Visitor

SETTLED = Standing(paired=True, meters=3, mapped=2, live=True, attention=0)


@contextmanager
def settled(house: House, context: BrowserContext) -> Iterator[Stand]:
    """The box; the browser is logged in."""
    with Stand(rooms=[house.routes()]) as stand:
        Visitor(stand).claim()
        stand.standing = SETTLED
        context.clear_cookies()
        page = context.new_page()
        page.goto(f"{stand.url}/log-in")
        page.fill("#password", PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{stand.url}/")
        page.close()
        yield stand
