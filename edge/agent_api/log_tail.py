"""The newest lines of the agent's log, in memory, for the page and the support bundle."""

import logging
from collections import deque
from pathlib import Path

LINES_MAX = 400
LINE_CHARACTERS_MAX = 500
KEPT = Path("/data/journal")  # the system's log, kept over restarts (systemd/edge-journal-last)
KEPT_BYTES_MAX = 1 << 20  # some 800 lines


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


def kept_logs(folder: Path = KEPT) -> dict[str, str]:
    """The ends of the system's log, of this start and the one before, as text by name. Blocks."""
    import gzip  # for one button, pressed when something is wrong

    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.log.gz")):
        try:
            with gzip.open(path) as file:
                text = file.read(KEPT_BYTES_MAX).decode(errors="replace")
        except (OSError, EOFError) as problem:
            text = f"cannot be read: {problem}"
        found[path.name.removesuffix(".gz")] = text
    return found
