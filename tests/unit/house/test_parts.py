import asyncio
import sqlite3
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from tests.house.child import GIST_MAX, Resident, end, gist
from tests.house.run.parts import ENDS_MAX, Doings, Folder, SceneFault, told, until_answers

PYTHON_SAID = """\
Traceback (most recent call last):
  File "server.py", line 3, in <module>
    start()
psycopg2.OperationalError: connection refused
\tIs the server running?
"""
NODE_SAID = """\
/opt/mock_stick.mjs:1
node:internal/modules/cjs/loader:1520
  throw err;
  ^

Error: Cannot find module '/nowhere.js'
    at Module._load (node:internal/modules/cjs/loader:1)
    at new MyError: (file:1)

Node.js v24.16.0
"""


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (PYTHON_SAID, "psycopg2.OperationalError: connection refused"),
        (NODE_SAID, "Error: Cannot find module '/nowhere.js'"),
        ("starting\nport 80 on 127.0.0.1: Permission denied\n\n", "port 80 on 127.0.0.1: "),
        ("x" * 2 * GIST_MAX, "x" * GIST_MAX),
        ("", ""),
    ],
)
def test_of_what_a_program_said_one_line_says_why(said: str, why: str) -> None:
    assert gist(said).startswith(why)
    assert len(gist(said)) <= GIST_MAX
    assert "\n" not in gist(said)


@pytest.mark.parametrize(
    "problem",
    [
        *(TimeoutError(), RuntimeError(PYTHON_SAID), ValueError("x"), FileNotFoundError(2, "gone")),
        *(aiohttp.ServerDisconnectedError(), sqlite3.OperationalError("disk full")),
    ],
)
def test_part_that_does_not_start_is_one_line(problem: Exception) -> None:
    with pytest.raises(SceneFault, match=r"^the stick did not start") as caught, told("the stick"):
        raise problem
    assert len(str(caught.value).splitlines()) == 1


async def test_doing_that_fails_is_told_and_ends_quietly() -> None:
    async def fail() -> None:
        raise aiohttp.ServerDisconnectedError

    async def go_on() -> None:
        await asyncio.Event().wait()

    doings = Doings()
    async with AsyncExitStack() as stack:
        doings.begin("the meter", go_on(), stack)
        await asyncio.sleep(0)
        doings.look()
        doings.begin("the stick", fail(), stack)
        await asyncio.sleep(0)
        with pytest.raises(SceneFault, match=r"^the stick stopped"):
            doings.look()


async def test_ending_a_task_that_failed_takes_notice_of_it() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, said: complaints.append(said))

    async def fail() -> None:
        raise OSError

    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    await end(task)
    del task
    assert complaints == []


async def test_program_that_ends_again_and_again_is_not_waited_for(tmp_path: Path) -> None:
    async def never() -> asyncio.subprocess.Process:
        raise AssertionError

    log = tmp_path / "agent.log"
    log.write_text(PYTHON_SAID)
    resident = Resident(never)
    resident.ends = ENDS_MAX
    with pytest.raises(SceneFault, match=r"the box did not start .*connection refused"):
        await until_answers("the box", resident, log, lambda: False)
    await until_answers("the box", resident, log, lambda: True)


def test_folder_given_up_leaves_only_what_was_there(tmp_path: Path) -> None:
    made = Folder(tmp_path / "deep" / "down" / "state")
    made.make()
    (tmp_path / "deep" / "down" / "state" / "agent.log").touch()
    made.give_up()
    assert list(tmp_path.iterdir()) == []
    kept = Folder(tmp_path)
    kept.make()
    kept.give_up()
    assert tmp_path.exists()
    with pytest.raises(SceneFault, match="choose another"):
        Folder(Path("/proc/nowhere/state")).make()
