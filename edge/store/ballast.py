"""A file that only takes up space, to be thrown overboard when the card is full.

SQLite can't drain itself on a full file system: its log can't grow and can't be emptied either
(tried). Half a megabyte is enough for it to finish, and to go on within the pages it has.
"""

import os
from pathlib import Path

BALLAST_BYTES = 512 << 10
FREE_AGAIN_BYTES = 8 << 20  # so much must be free before the ballast is taken back on board


class Ballast:
    """Beside the database file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f"{path.name}.ballast")

    def take(self) -> bool:
        """Hold the space; False where the card has too little to spare."""
        if self._path.exists() and self._path.stat().st_size == BALLAST_BYTES:
            return True
        card = os.statvfs(self._path.parent)
        if card.f_bavail * card.f_frsize < FREE_AGAIN_BYTES:
            return False
        try:
            with self._path.open("wb") as file:
                os.fchmod(file.fileno(), 0o600)
                os.posix_fallocate(file.fileno(), 0, BALLAST_BYTES)
        except OSError:
            self.drop()
            return False
        return True

    def drop(self) -> bool:
        """Give the space back; False where there is none to give."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True
