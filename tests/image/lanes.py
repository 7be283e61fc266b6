"""`make image-test`: each module in a pytest of its own, two modules at a time.

python -m tests.image.lanes [--again] [MODULE …]; a module is "boot" for test_boot.py; none: all.
--again: those that failed last time. Lines come as they are said, each with the time since the
start and its module. LANES=1 is for a machine with one core.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.image.conftest import SHARED_START

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
FAILED = PROJECT / ".pytest_cache" / "image-modules-that-failed"
# The longest first, so that no lane waits for another at the end.
LONGEST_FIRST = ("stick", "home", "update", "reset", "boot", "boards", "running", "tree")
WITHOUT_AN_IMAGE = {"units"}  # a step of `make test`
LIMIT_S = 2400  # no module takes half of it; one that hangs must not take CI's time
CHANCE = 3  # more failed modules than this are no accident of a busy machine
_CLOSING = re.compile(r"^=+ (.* in [\d.]+s.*) =+$")
_COUNTED = re.compile(r"(\d+) (passed|failed|error|skipped|deselected|xfailed|xpassed)")


@dataclass(frozen=True, slots=True)
class Ended:
    """How one module went."""

    module: str
    seconds: float
    processor_s: float  # of its emulators too: the same on a busy machine
    good: bool
    closing: str  # pytest's last word


class Lanes:
    """Runs modules and tells what they say."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._began = time.monotonic()
        self._telling = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()

    def run(self, module: str) -> Ended:
        began = time.monotonic()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pytest", "-v", "-s", "--tb=short", "--no-header"),
                *("--durations=0", "--durations-min=1", "-p", "no:cacheprovider", "--color=no"),
                f"--basetemp={self._folder / module}",
                f"tests/image/test_{module}.py",
            ],
            cwd=PROJECT,
            env={
                **os.environ,
                "PYTHONUNBUFFERED": "1",
                "COLUMNS": "100",
                SHARED_START: str(self._folder / "started"),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # its emulator ends with it, however it ends
        )
        self._running.add(process)
        limit = threading.Timer(LIMIT_S, self._end, [process])
        limit.start()
        closing = "no end: stopped"
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip():
                self._tell(module, line.rstrip())
            if found := _CLOSING.match(line.rstrip()):
                closing = found[1]
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        limit.cancel()
        self._running.discard(process)
        processor_s = used.ru_utime + used.ru_stime
        good = process.returncode == 0
        return Ended(module, time.monotonic() - began, processor_s, good, closing)

    def end_all(self) -> None:
        for process in list(self._running):
            self._end(process)

    def _end(self, process: subprocess.Popen[str]) -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)

    def _tell(self, module: str, line: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        with self._telling:
            print(f"{minutes:3}:{seconds:02} {module:7} │ {line}", flush=True)


def chosen(named: list[str], *, again: bool) -> list[str]:
    """The modules to run, the longest first. Raises SystemExit where there is no sense in it."""
    there = {path.stem.removeprefix("test_") for path in HERE.glob("test_*.py")} - WITHOUT_AN_IMAGE
    if unknown := set(named) - there:
        raise SystemExit(f"no module {', '.join(sorted(unknown))}; there are {', '.join(there)}")
    wanted = set(named) or there
    if again and FAILED.exists():
        failed = set(FAILED.read_text().split())
        if len(failed) > CHANCE:
            raise SystemExit(f"{len(failed)} modules failed: that is no accident")
        wanted = failed & there or wanted
    rank = {module: number for number, module in enumerate(LONGEST_FIRST)}
    return sorted(wanted, key=lambda module: (rank.get(module, -1), module))


def summed(ended: list[Ended], seconds: float) -> str:
    """All modules' last words as one, in pytest's own way."""
    counts: Counter[str] = Counter()
    for each in ended:
        for number, what in _COUNTED.findall(each.closing):
            counts[what] += int(number)
    said = ", ".join(f"{number} {what}" for what, number in counts.items()) or "no tests ran"
    return f" {said} in {seconds:.2f}s ({int(seconds) // 60} min) ".center(80, "=")


def main(arguments: list[str]) -> int:
    modules = chosen(
        [each for each in arguments if each != "--again"], again="--again" in arguments
    )
    lanes_wanted = int(os.environ.get("LANES", "2"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="flexbox-"))  # short: sockets' paths have a limit
    lanes = Lanes(folder)
    began = time.monotonic()
    with ThreadPoolExecutor(lanes_wanted) as workers:
        try:
            ended = list(workers.map(lanes.run, modules))
        except BaseException:
            workers.shutdown(wait=False, cancel_futures=True)
            lanes.end_all()
            shutil.rmtree(folder, ignore_errors=True)
            raise
    seconds = time.monotonic() - began
    failed = [each.module for each in ended if not each.good]
    FAILED.parent.mkdir(exist_ok=True)
    FAILED.write_text(" ".join(failed))
    print(f"\n── {len(modules)} modules, {lanes_wanted} at a time")
    for each in sorted(ended, key=lambda each: -each.seconds):
        spent = f"{each.seconds:6.0f} s, {each.processor_s:6.0f} s of processor"
        print(f"{spent}  {each.module:8} {each.closing}")
    if failed:
        print(f"failed: {', '.join(failed)}; their boards' files: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    print(summed(ended, seconds), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
