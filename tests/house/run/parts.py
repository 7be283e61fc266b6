"""How a part of the scene fails: in one line that names it and says why."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp

from tests.house import child
from tests.house.home_assistant import HomeAssistantTrouble

ANSWER_WITHIN = timedelta(seconds=60)  # seconds on a calm machine
ENDS_MAX = 3  # a program that ended so often by itself will not come up by waiting
POLL_S = 0.1


class SceneFault(Exception):
    """Something that stops the scene; one line that says what to do."""


@contextmanager
def told(what: str, to_do: str = "try again") -> Iterator[None]:
    """A part that does not start ends the scene with one line."""
    try:
        yield
    except (
        *(RuntimeError, ValueError, OSError, sqlite3.Error),
        *(aiohttp.ClientError, HomeAssistantTrouble),
    ) as problem:
        said = child.gist(str(problem)) or "no answer"
        raise SceneFault(f"{what} did not start ({said}); {to_do}") from problem


@asynccontextmanager
async def within(span: timedelta, otherwise: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(span.total_seconds()):
            yield
    except TimeoutError as problem:
        raise SceneFault(otherwise) from problem


async def until_answers(
    what: str, resident: child.Resident, log: Path, answers: Callable[[], bool]
) -> None:
    """Wait for one of the box's own programs. Raises SceneFault with what its log says."""
    now_s = asyncio.get_running_loop().time
    give_up_s = now_s() + ANSWER_WITHIN.total_seconds()
    while not await asyncio.to_thread(answers):
        if resident.ends >= ENDS_MAX or now_s() > give_up_s:
            said = child.gist(await asyncio.to_thread(log.read_text, errors="replace"))
            raise SceneFault(f"{what} did not start ({said or 'no answer'})")
        await asyncio.sleep(POLL_S)


class Doings:
    """Tasks that make the house live. One that fails says so at the next look()."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def begin(self, what: str, doing: Coroutine[Any, Any, None], until: AsyncExitStack) -> None:
        """It lasts until that stack is unwound."""
        task = self._tasks[what] = asyncio.create_task(doing)
        until.push_async_callback(child.end, task)

    def look(self) -> None:
        """Raises SceneFault for a part that has stopped."""
        for what, task in self._tasks.items():
            if task.done() and not task.cancelled() and (problem := task.exception()):
                said = child.gist(str(problem)) or type(problem).__name__
                raise SceneFault(f"{what} stopped ({said}); start again") from problem


async def to_its_end[T](blocking: Callable[[], T]) -> T:
    """Run it in a thread and wait for it even when this is cancelled: it cannot be broken off."""
    task = asyncio.ensure_future(asyncio.to_thread(blocking))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


class Folder:
    """The scene's state, made with what is missing above it; given up, nothing of that stays."""

    def __init__(self, path: Path) -> None:
        self._path = path
        missing = [each for each in (path, *path.parents) if not each.exists()]
        self._new = missing[-1] if missing else None

    def make(self) -> None:
        """Raises SceneFault."""
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            probe = self._path / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as problem:
            self.give_up()
            raise SceneFault(
                f"STATE={self._path} cannot be used ({problem.strerror}); choose another"
            ) from problem

    def give_up(self) -> None:
        if self._new is not None:
            shutil.rmtree(self._new, ignore_errors=True)
