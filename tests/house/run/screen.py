"""What the person at the terminal sees: steps as they are done, then one live line."""

import sys
import time
from typing import TextIO

LINE_EVERY_S = 10.0  # where the output is a file, not a terminal


class Screen:
    """Steps are printed; the live line overwrites itself on a terminal."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._begun = time.monotonic()
        self._live = False
        self._said_at = float("-inf")

    def step(self, text: str) -> None:
        """Something is done, or begins."""
        self._close_line()
        self._print(f"{time.monotonic() - self._begun:6.1f} s  {text}\n")

    def say(self, text: str = "") -> None:
        self._close_line()
        self._print(text + "\n")

    def live(self, text: str) -> None:
        """The line that changes all the time."""
        if self._out.isatty():
            self._live = True
            self._print(f"\r\x1b[K{text}")
        elif time.monotonic() - self._said_at >= LINE_EVERY_S:
            self._said_at = time.monotonic()
            self._print(text + "\n")

    def _close_line(self) -> None:
        if self._live:
            self._live = False
            self._print("\n")

    def _print(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
