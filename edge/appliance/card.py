"""The card's first partition (FAT): which system starts, and files for and from people.

Mounted only for the moment it is needed, so that a power cut finds it closed.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

FIRST = Path("/run/edge-first")  # links that the first code made
SYSTEMS = {"a": Path("/run/edge-system-a"), "b": Path("/run/edge-system-b")}
BOOT_PARTITION = {"a": 2, "b": 3}
RUNNING = Path("/run/edge-system")
TRIAL = Path("/run/edge-trial")
WISHED = Path("/run/edge-wished")  # a person left a file that asks for something

_MOUNT_WITHIN_S = 60.0


def other(system: str) -> str:
    """The system that does not run."""
    return "b" if system == "a" else "a"


def running_system() -> str:
    """Which system this is: "a" or "b"."""
    return RUNNING.read_text(encoding="ascii").strip()


@contextlib.contextmanager
def mounted(device: Path, *, writable: bool) -> Iterator[Path]:
    """A FAT partition, mounted while the block runs and synced after it."""
    place = Path("/run/edge-mount") / device.name
    place.mkdir(parents=True, exist_ok=True)
    options = "rw,noatime" if writable else "ro,noatime"
    command = ["mount", "-t", "vfat", "-o", options, str(device.resolve()), str(place)]
    subprocess.run(command, check=True, timeout=_MOUNT_WITHIN_S)
    try:
        yield place
    finally:
        if writable:
            os.sync()
        subprocess.run(["umount", str(place)], check=True, timeout=_MOUNT_WITHIN_S)


def autoboot(system: str) -> str:
    """autoboot.txt for a card that starts `system`, and the other one on trial."""
    return (
        f"[all]\ntryboot_a_b=1\nboot_partition={BOOT_PARTITION[system]}\n"
        f"[tryboot]\nboot_partition={BOOT_PARTITION[other(system)]}\n"
    )


def start_with(first: Path, system: str) -> None:
    """From now on the board starts `system`. One rename: a power cut leaves the old or the new."""
    new = first / "autoboot.new"
    with new.open("w", encoding="ascii") as file:
        file.write(autoboot(system))
        file.flush()
        os.fsync(file.fileno())
    new.replace(first / "autoboot.txt")
