"""Copies the agent's last backup to the first USB drive that is plugged in, a few generations.

The backup holds secrets only under the owner's passphrase, so it may lie on a drive.
"""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

log = logging.getLogger(__name__)

LATEST = Path("/var/lib/edge/backup/latest")
FOLDER = "flexbox-backup"
GENERATIONS = 14
_MOUNT_WITHIN_S = 60.0
_FILE_SYSTEMS = ("vfat", "exfat", "ext4")


def main() -> int:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    drives = usb_partitions(Path("/sys/class/block"))
    return copy_to_first(drives, LATEST, Path("/run/edge-mount/usb"))


def copy_to_first(drives: Sequence[Path], latest: Path, place: Path) -> int:
    """Copy to the first drive that takes it, mounted at `place` meanwhile. 1 where drives are
    plugged in and none took it; without a drive there is nothing to do."""
    place.mkdir(parents=True, exist_ok=True)
    for drive in drives:
        if not _mounted(drive, place):
            continue
        try:
            keep(latest, place / FOLDER)
            os.sync()
        except OSError as problem:  # full, worn, or locked against writing: the next may do
            log.warning("%s does not take the backup: %s", drive, problem)
        else:
            log.info("the backup was copied to %s", drive)
            return 0
        finally:
            subprocess.run(["umount", str(place)], check=True, timeout=_MOUNT_WITHIN_S)
    return 1 if drives else 0


def _mounted(drive: Path, place: Path) -> bool:
    for kind in _FILE_SYSTEMS:
        command = ["mount", "-t", kind, "-o", "nosuid,nodev,noexec", str(drive), str(place)]
        if subprocess.run(command, check=False, timeout=_MOUNT_WITHIN_S).returncode == 0:
            return True
    return False


def usb_partitions(blocks: Path) -> list[Path]:
    """Partitions of USB drives, but not of the card the box runs from."""
    own = {os.path.realpath(f"/run/edge-{name}") for name in ("first", "data")}
    found = []
    for block in sorted(blocks.iterdir()):
        is_usb = "/usb" in os.path.realpath(block)
        device = Path("/dev") / block.name
        if is_usb and (block / "partition").exists() and str(device) not in own:
            found.append(device)
    return found


def keep(latest: Path, folder: Path) -> None:
    """Copy `latest` into `folder` under its own time; forget the oldest."""
    folder.mkdir(exist_ok=True)
    made = int(latest.stat().st_mtime)
    target = folder / f"backup-{made}"
    if not target.exists():
        shutil.copyfile(latest, folder / "part")
        (folder / "part").replace(target)
    for old in sorted(folder.glob("backup-*"))[:-GENERATIONS]:
        old.unlink()


if __name__ == "__main__":
    sys.exit(main())
