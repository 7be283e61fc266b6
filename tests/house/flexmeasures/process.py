"""Owns a FlexMeasures server of the simulated house: starts it, makes accounts, stops it."""

import contextlib
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.house import child

REPOSITORY = Path(__file__).resolve().parents[3]
# FLEXMEASURES_HOME=build/flexmeasures-older tests an older release (make release-test).
HOME = REPOSITORY / os.environ.get("FLEXMEASURES_HOME", "build/flexmeasures")
INTERPRETER = HOME / "bin/python"
SERVER = Path(__file__).with_name("server.py")
START_WITHIN_S = 90  # three seconds on a calm machine
ANSWER_WITHIN_S = 30
STOP_WITHIN_S = 15


class ServerTrouble(Exception):
    """The server could not start or do what was asked; the message is for a person."""


@dataclass(frozen=True)
class Account:
    """A FlexMeasures account and one user of it."""

    name: str
    account_id: int
    user_id: int
    email: str
    password: str


class FlexMeasuresServer:
    """A real FlexMeasures, shared by many tests: each makes an account of its own.

    Without `data` it lives in a temporary directory that goes when it stops. All methods block
    (start about 3 s, the rest under half a second); from a coroutine use asyncio.to_thread.
    """

    def __init__(
        self, data: Path | None = None, *, port: int = 0, interpreter: Path = INTERPRETER
    ) -> None:
        self._temporary = data is None
        self._data = data or Path(tempfile.mkdtemp(prefix="flexmeasures-"))
        self._port = port
        self._interpreter = interpreter
        self._process: subprocess.Popen[str] | None = None
        self._asking = threading.Lock()
        self._numbers = itertools.count(1)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        return self._port

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Start and wait for the first answer; a later start keeps the port and the data."""
        if not self._interpreter.exists():
            raise ServerTrouble("FlexMeasures is missing; run: tests/house/setup flexmeasures")
        self._data.mkdir(parents=True, exist_ok=True)
        command = [self._interpreter, "-B", SERVER, "--data", self._data, "--control"]
        with (self._data / "errors.log").open("w") as errors:
            self._process = subprocess.Popen(
                [*command, "--port", str(self._port)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,  # a Ctrl-C is ours to handle: we close its input
            )
        try:
            self._port = self._hear(START_WITHIN_S)["port"]
        except ServerTrouble:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop it and PostgreSQL with it."""
        process = self._process
        self._process = None
        if process is not None:
            self._close(process)
        if self._temporary:
            shutil.rmtree(self._data, ignore_errors=True)

    def _close(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def kill(self) -> None:
        """kill -9; start() brings it back with everything it had stored."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def make_account(self, name: str = "") -> Account:
        """An account with an admin (the person who may create a site); named anew if unnamed."""
        return self._make_user(name or f"Household {next(self._numbers)}", "owner", admin=True)

    def make_user(self, account: Account, name: str = "box") -> Account:
        """One more user of that account, without any role: what a box should log in as."""
        return self._make_user(account.name, name, admin=False)

    def ensure_user(self, account: str, email: str, password: str, *, admin: bool) -> Account:
        """This very user; made where missing, otherwise left alone."""
        made = self._ask("make_user", account=account, email=email, password=password, admin=admin)
        return Account(account, made["account_id"], made["user_id"], email, password)

    def forget_tokens(self, user: Account) -> None:
        """Every token of this user is refused from now on."""
        self._ask("forget_tokens", email=user.email)

    @contextlib.contextmanager
    def ingesting(self, how: str) -> Iterator[None]:
        """Meanwhile posts are answered 202 and done by a "worker", or never by a "stalled" one."""
        self._ask("ingest", how=how)
        try:
            yield
        finally:
            self._ask("ingest", how="direct")

    @contextlib.contextmanager
    def without_scheduling_worker(self) -> Iterator[None]:
        """Meanwhile schedules are asked for, and nobody computes them."""
        self._ask("compute", how="never")
        try:
            yield
        finally:
            self._ask("compute", how="direct")

    def lose_jobs(self) -> None:
        """Forget every waiting job, as a Redis that restarts empty does; 202s go on."""
        self._ask("ingest", how="lost")

    def _make_user(self, account: str, name: str, *, admin: bool) -> Account:
        mailbox = "".join(letter if letter.isalnum() else "-" for letter in f"{name}.{account}")
        password = f"{name}-{os.urandom(6).hex()}"
        return self.ensure_user(account, f"{mailbox.lower()}@example.com", password, admin=admin)

    def _ask(self, what: str, **arguments: object) -> Any:
        assert self._process is not None
        assert self._process.stdin is not None
        with self._asking:
            with contextlib.suppress(BrokenPipeError):  # it ended; its log is heard
                self._process.stdin.write(json.dumps({"do": what, **arguments}) + "\n")
                self._process.stdin.flush()
            answer = self._hear(ANSWER_WITHIN_S)
        if "error" in answer:
            raise ServerTrouble(answer["error"])
        return answer["answer"]

    def _hear(self, within_s: float) -> Any:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        heard, _, _ = select.select([process.stdout], [], [], within_s)
        line = process.stdout.readline() if heard else ""
        if not line:
            self._process = None
            self._close(process)
            said = (
                child.gist((self._data / "errors.log").read_text()) or f"silent for {within_s:g} s"
            )
            raise ServerTrouble(f"FlexMeasures: {said}")
        return json.loads(line)
