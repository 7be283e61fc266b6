"""A real Chromium for the tests, and what every screen must pass in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 800}
FLAGS = [
    "--headless=new",
    "--no-sandbox",  # the tests may run as root, where Chromium has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Watched:
    """A page whose complaints are kept."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def on_console(self, message: ConsoleMessage) -> None:
        refused = "the server responded with a status of 4" in message.text  # a form shown again
        if message.type in ("error", "warning") and not refused:
            self.complaints.append(f"{message.text} ({self.page.url})")

    def axe(self) -> list[str]:
        """What axe finds wrong with the page as it stands."""
        if self.page.evaluate("typeof axe === 'undefined'"):
            self.page.evaluate(_axe())
        found: dict[str, Any] = self.page.evaluate("axe.run({resultTypes: ['violations']})")
        return [
            f"{each['id']} on {self.page.url}: {each['nodes'][0]['html'][:200]}"
            for each in found["violations"]
        ]

    def overflows(self) -> bool:
        """Whether the page is wider than the screen."""
        wide: bool = self.page.evaluate(
            "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        )
        return wide


@contextmanager
def browser(folder: Path, *extra_flags: str) -> Iterator[BrowserContext]:
    """A browser with a profile of its own in `folder`."""
    assert CHROMIUM.exists(), "tests/page needs Chromium: tests/house/setup browser"
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            folder,
            executable_path=CHROMIUM,
            args=[*FLAGS, *extra_flags],
            headless=True,
            locale="en-GB",
            viewport=PHONE,  # type: ignore[arg-type]
        )
        context.set_default_timeout(15_000)
        try:
            yield context
        finally:
            context.close()


def watched(context: BrowserContext) -> Watched:
    """A new page that is listened to."""
    found = Watched(context.new_page())
    found.page.on("console", found.on_console)
    found.page.on("pageerror", lambda problem: found.complaints.append(str(problem)))
    return found


@cache
def _axe() -> str:
    package = resources.files("axe_playwright_python")
    return (package / "axe.min.js").read_text(encoding="utf-8")
