"""What the setup page weighs: on the wire, in memory, and until its first answer after sleep."""

import asyncio
import gzip
import re
import time
import urllib.request

from edge.contract.page import Standing
from tests.page.rooms import House
from tests.page.stand import Stand
from tests.page.test_serving import first_answer, pss_kb, started
from tests.page.visitor import Visitor

STARTS = 5


async def main() -> None:
    await asyncio.to_thread(_measure)


def _measure() -> None:
    with Stand(rooms=[House().routes()]) as stand:
        stand.clock.trusted = True
        _say("claim page", *_weight(stand, Visitor(stand), "/claim"))
        visitor = Visitor(stand)
        visitor.claim()
        stand.standing = Standing(paired=True, meters=3, mapped=2, live=True, attention=0)
        _say("live page, with its chart", *_weight(stand, visitor, "/"))
        waits = sorted(_after_sleep(stand) for _ in range(STARTS))
        print(f"  first answer after sleep     {waits[STARTS // 2]:.2f} s (median of {STARTS})")
        with started(stand) as (process, port):
            first_answer(port)
            idle = pss_kb(process.pid) / 1024
            for _ in range(100):
                first_answer(port)
            print(
                f"  memory, PSS                  {idle:.1f} MB, after 100 pages "
                f"{pss_kb(process.pid) / 1024:.1f} MB; none when idle"
            )
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


def _after_sleep(stand: Stand) -> float:
    begun = time.monotonic()
    with started(stand) as (_, port):
        first_answer(port)
        return time.monotonic() - begun
