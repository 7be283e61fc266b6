"""Modules that are not there from the start: large ones, needed only once the box is ready.

Imported in a thread, so that page and command line are answered meanwhile, and one after the
other: two threads that import each other's modules would find them half made. What fails there is
raised to whoever wanted it.
"""

import asyncio
import threading
from collections.abc import Callable

_ONE_AT_A_TIME = threading.Lock()


async def later[T](bring: Callable[[], T]) -> T:
    """What `bring` gives, which imports something on the way and touches no loop."""

    def alone() -> T:
        with _ONE_AT_A_TIME:
            return bring()

    return await asyncio.to_thread(alone)
