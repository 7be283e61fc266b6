"""Starting over: a wish is written down first and carried out at the next start.

So it survives a power cut half-way, and a file that root puts there from the boot partition (a
forgotten password, a box that changes hands) works the same way as the page's button.
"""

import logging
import shutil
from pathlib import Path

from edge.documents import Documents

FACTORY_RESET = "factory-reset"
RESET_PASSWORD = "reset-password"  # noqa: S105 # the name of a file
CLAIMED = "claimed"

log = logging.getLogger(__name__)


def wish_factory_reset(state: Path) -> None:
    """At its next start the box forgets everything. Raises OSError."""
    (state / FACTORY_RESET).touch(mode=0o600)


def wipe_if_wished(state: Path) -> bool:
    """Before anything is opened: remove all state where that was wished. The wish goes last."""
    wish = state / FACTORY_RESET
    if not wish.exists():
        return False
    for path in sorted(state.iterdir()):
        if path == wish:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    wish.unlink()
    log.warning("everything was forgotten, as wished")
    return True


async def forget_password_if_wished(state: Path, documents: Documents) -> bool:
    """The box can be claimed anew in its first minutes; all else stays."""
    wish = state / RESET_PASSWORD
    if not wish.exists():
        return False
    await documents.delete("claim")
    await documents.delete("sessions")
    (state / CLAIMED).unlink(missing_ok=True)
    wish.unlink()
    log.warning("the password was forgotten, as wished; the box can be claimed anew")
    return True
