"""A small ext4 on a loop device, and what the kernel says was written to it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MOUNT_OPTIONS = "noatime,commit=60,errors=remount-ro"
_SECTOR_BYTES = 512
_WRITTEN_SECTORS, _FLUSHES = 6, 15  # fields of /sys/block/*/stat (Documentation/block/stat.rst)


@dataclass(frozen=True, slots=True)
class Device:
    """A mounted file system of its own."""

    folder: Path
    name: str

    def written_bytes(self) -> int:
        return self._stat(_WRITTEN_SECTORS) * _SECTOR_BYTES

    def flushes(self) -> int:
        return self._stat(_FLUSHES)

    def mount_again(self, options: str = MOUNT_OPTIONS) -> None:
        """Unmount it, whatever state it is in, and bring it up."""
        run("umount", str(self.folder))
        run("mount", "-o", options, f"/dev/{self.name}", str(self.folder))

    def _stat(self, field: int) -> int:
        return int(Path(f"/sys/block/{self.name}/stat").read_text().split()[field])


@contextmanager
def ext4(size_mb: int = 512, options: str = MOUNT_OPTIONS) -> Iterator[Device]:
    """Needs root: mkfs, losetup, mount."""
    need_root()
    work = Path(tempfile.mkdtemp(prefix="box-ext4-"))
    image, folder = work / "image", work / "mounted"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(size_mb << 20)
    run("mkfs.ext4", "-q", "-F", str(image))
    loop = run("losetup", "--find", "--show", str(image))
    try:
        run("mount", "-o", options, loop, str(folder))
        try:
            yield Device(folder, Path(loop).name)
        finally:
            run("umount", "--lazy", str(folder))  # a failed test may still hold files
    finally:
        run("losetup", "--detach", loop)
        shutil.rmtree(work)


def need_root() -> None:
    """Raise RuntimeError with a sentence where root or a tool is missing."""
    missing = [t for t in ("mkfs.ext4", "losetup", "mount") if shutil.which(t) is None]
    if missing:
        raise RuntimeError(f"missing: {', '.join(missing)} (Debian: apt install e2fsprogs mount)")
    if os.geteuid() != 0:
        raise RuntimeError("this needs root, for loop devices and mounts: run it with sudo")


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()
