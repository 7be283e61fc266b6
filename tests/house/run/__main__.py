"""`make run`. Exit code 0 only if slots were accepted and none rejected; else one clear line."""

import asyncio
import getpass
import json
import os
import signal
import sys
from contextlib import suppress

from edge.contract import Status
from edge.errors import EdgeError
from tests.house.flexmeasures.process import ServerTrouble
from tests.house.household import HouseholdFault
from tests.house.run.parts import SceneFault
from tests.house.run.scene import Scene
from tests.house.run.screen import Screen
from tests.house.run.wishes import Wishes, WishFault, wishes

STOPPED = 128 + signal.SIGINT  # as a shell calls it

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Run the scene; the exit code."""
    try:
        asked = wishes(os.environ)
        password = _password(asked.email) if asked.email else None
        return asyncio.run(_run(asked, password))
    except (WishFault, HouseholdFault, SceneFault, ServerTrouble, EdgeError) as problem:
        print(f"make run: {problem}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("make run: stopped before everything had started", file=sys.stderr)
        return STOPPED


def _password(email: str) -> str:
    """Asked for at the terminal; without one, the first line of the input."""
    if sys.stdin.isatty():
        with suppress(EOFError):
            return getpass.getpass(f"Password of {email}: ")
    elif password := sys.stdin.readline().rstrip("\n"):
        return password
    raise WishFault(f"the password of {email} is asked for: start this at a terminal")


async def _run(asked: Wishes, password: str | None) -> int:
    screen = Screen()
    enough = asyncio.Event()
    loop = asyncio.get_running_loop()
    starting = asyncio.current_task()
    assert starting is not None
    for stop in STOPS:
        loop.add_signal_handler(stop, starting.cancel)
    async with Scene(asked, screen, password) as scene:
        for stop in STOPS:
            loop.add_signal_handler(stop, enough.set)
        if asked.run_for is not None:
            loop.call_later(asked.run_for.total_seconds(), enough.set)
        last = await scene.watch(enough)
        prefilled = scene.prefilled
        screen.step("stopping")
    screen.step("stopped")
    print(json.dumps(_figures(last, prefilled)), flush=True)
    server = last.flexmeasures
    if not server.slots_accepted:
        print("make run: no slot was accepted in that time; let it run longer", file=sys.stderr)
    return 0 if server.slots_accepted and not server.slots_rejected else 1


def _figures(status: Status, prefilled: int) -> dict[str, object]:
    return {
        "readings_stored": prefilled + status.buffer.stored_since_start,
        "slots_accepted": status.flexmeasures.slots_accepted,
        "slots_waiting": status.flexmeasures.slots_waiting,
        "slots_rejected": status.flexmeasures.slots_rejected,
        "set_aside": sum(channel.set_aside for channel in status.channels),
        "dropped": status.buffer.dropped,
    }


if __name__ == "__main__":
    sys.exit(main())
