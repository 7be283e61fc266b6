"""Fetches the newest update file from the first USB drive that holds one, for update.py to install.

The drive is mounted read-only for as long as the copy takes. What is on it is checked later, as any
other bundle is. The exit code says whether there is one.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from edge.appliance import bundle, update
from edge.appliance.result import note
from edge.appliance.usb_backup import usb_partitions
from edge.errors import EdgeError, Refused

FETCHED = Path("/data/update/bundle")  # root's own folder
_PLACE = Path("/run/edge-mount/usb-update")
_FILE_SYSTEMS = ("vfat", "exfat", "ext4")
_MOUNT_WITHIN_S = 60.0
_LEFT_FREE_BYTES = 64 * 1024 * 1024


def main() -> int:
    try:
        drives = usb_partitions(Path("/sys/class/block"))
        if not drives:
            raise Refused("no USB drive is plugged in")
        for drive in drives:
            if _fetched_from(drive):
                return 0
        raise Refused("the USB drive holds no update: put its .update file into no folder")
    except (EdgeError, OSError, subprocess.SubprocessError) as problem:
        update.say("refused", text=str(problem))
        note({"release": "", "outcome": "refused", "text": str(problem)})
    return 1


def _fetched_from(drive: Path) -> bool:
    _PLACE.mkdir(parents=True, exist_ok=True)
    for kind in _FILE_SYSTEMS:
        command = ["mount", "-t", kind, "-o", "ro,nosuid,nodev,noexec", str(drive), str(_PLACE)]
        if subprocess.run(command, check=False, timeout=_MOUNT_WITHIN_S).returncode:
            continue
        try:
            found = newest(_PLACE)
            if found is not None:
                update.say("copying")
                fetch(found, FETCHED)
            return found is not None
        finally:
            subprocess.run(["umount", str(_PLACE)], check=True, timeout=_MOUNT_WITHIN_S)
    return False


def newest(folder: Path) -> Path | None:
    """The newest update file right in `folder`, by its own date."""
    found = [path for path in folder.glob("*.update") if path.is_file() and not path.is_symlink()]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def fetch(source: Path, target: Path) -> None:
    """Copy, whole or not at all. Raises Refused where it cannot be an update or has no room."""
    size = source.stat().st_size
    if size > bundle.FILE_BYTES_MAX:
        raise Refused("this update is too large for the card")
    target.parent.mkdir(mode=0o755, exist_ok=True)
    if shutil.disk_usage(target.parent).free < size + _LEFT_FREE_BYTES:
        raise Refused("the update does not fit on this card")
    part = target.with_name("bundle.part")
    try:
        shutil.copyfile(source, part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
