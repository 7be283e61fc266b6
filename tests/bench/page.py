"""What the setup page weighs: on the wire, in memory, and until its first answer after sleep."""

import asyncio
import gzip
import re
import statistics
import time
import urllib.request
from collections.abc import Iterator

from edge.contract.page import Standing
from tests.bench.weight import weigh
from tests.page.rooms import House
from tests.page.stand import Stand
from tests.page.test_serving import first_answer, started
from tests.page.visitor import Visitor

STARTS = 5


async def main() -> None:
    await asyncio.to_thread(_measure)


def _measure() -> None:
    with Stand(rooms=[House().routes()]) as stand:
        stand.clock.trusted = True
        _say("claim page", *_weight(stand, Visitor(stand), "/claim"))
        waited_s, computed_s = map(statistics.median, zip(*_starts(stand), strict=True))
        print(
            f"  first answer after sleep     {waited_s:.2f} s (must 1 s), {computed_s:.2f} s of it"
            f" computing (medians of {STARTS})"
        )
        with started(stand) as (process, port):
            first_answer(port)
            idle_mb = weigh(process.pid).pss_mb
            for _ in range(100):
                first_answer(port)
            print(
                f"  memory, PSS                  {idle_mb:.1f} MB, after 100 pages "
                f"{weigh(process.pid).pss_mb:.1f} MB (must 55 MB); none when idle"
            )
        visitor = Visitor(stand)
        visitor.claim()
        stand.standing = Standing(paired=True, meters=3, mapped=2, live=True, attention=0)
        _say("live page, with its chart", *_weight(stand, visitor, "/"))
        print("  peers (measured earlier on one machine): NiceGUI 71.5 MB and 2.7 MB on the wire,")
        print("  bare FastAPI + uvicorn 45.6 MB, FastHTML 41.5 MB with five files from elsewhere")


def _say(what: str, requests: int, sent_bytes: int) -> None:
    print(f"  {what:28} {requests} requests, {sent_bytes / 1000:.1f} kB compressed")


def _weight(stand: Stand, visitor: Visitor, path: str) -> tuple[int, int]:
    """The page and what it names, compressed as browsers ask for it."""
    page = visitor.get(path).text
    names = set(re.findall(r'(?:href|src)="(/static/[^"]+)"', page))
    sizes = [len(gzip.compress(page.encode(), 5))]
    for name in sorted(names):
        request = urllib.request.Request(stand.url + name, headers={"accept-encoding": "gzip"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            sizes.append(len(answer.read()))
    return len(sizes), sum(sizes)


def _starts(stand: Stand) -> Iterator[tuple[float, float]]:
    """Seconds until the first answer of a page that slept: by the clock, and on a processor."""
    for _ in range(STARTS):
        begun = time.monotonic()
        with started(stand) as (process, port):
            if not first_answer(port).startswith("HTTP/1.1 200 OK"):
                raise RuntimeError("the page's first answer is an error")
            yield time.monotonic() - begun, weigh(process.pid).cpu_s
