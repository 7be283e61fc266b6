"""The newest lines of the agent's log, in memory, for the page and the support bundle."""

import logging
from collections import deque

LINES_MAX = 400
LINE_CHARACTERS_MAX = 500


class LogTail(logging.Handler):
    """Keeps the last lines of whatever the agent logs."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: deque[str] = deque(maxlen=LINES_MAX)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.extend(line[:LINE_CHARACTERS_MAX] for line in self.format(record).splitlines())

    def lines(self) -> list[str]:
        return list(self._lines)
