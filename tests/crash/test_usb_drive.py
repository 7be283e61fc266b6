"""The nightly copy to a USB drive that is good, full, locked, blank or not there.

On loop devices, as root. Their file system is ext4: not every machine's kernel knows FAT.
"""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from edge.appliance import usb_backup
from edge.config import Config

BACKUP = b'{"format": "edge-backup"}' * 20_000  # half a megabyte, as with a stick's memory in it
UNIT = Path(__file__).parents[2] / "systemd" / "edge-backup.service"


@contextmanager
def drive(
    image: Path, size_kb: int, *, blank: bool = False, locked: bool = False
) -> Iterator[Path]:
    """A block device with an empty file system, unless `blank`."""
    with image.open("wb") as file:
        file.truncate(size_kb * 1024)
    if not blank:
        subprocess.run(["mkfs.ext4", "-q", image], check=True, capture_output=True)
    command = ["losetup", "--find", "--show", *(["--read-only"] if locked else []), image]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    device = found.stdout.strip()
    try:
        yield Path(device)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@contextmanager
def looked_into(image: Path, place: Path) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop,ro", image, place], check=True)
    try:
        yield place / usb_backup.FOLDER
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.fixture
def latest(tmp_path: Path) -> Path:
    path = tmp_path / "latest"
    path.write_bytes(BACKUP)
    return path


def test_the_copy_is_whole_and_there_when_the_drive_is_pulled(latest: Path, tmp_path: Path) -> None:
    image = tmp_path / "drive"
    with drive(image, 8192) as device:
        for _ in range(2):  # the same backup again is no second copy
            assert usb_backup.copy_to_first([device], latest, tmp_path / "place") == 0
    with looked_into(image, tmp_path / "look") as folder:
        assert [path.read_bytes() for path in folder.iterdir()] == [BACKUP]


def test_a_drive_that_takes_nothing_leaves_it_to_the_next(latest: Path, tmp_path: Path) -> None:
    good = tmp_path / "good"
    with ExitStack() as stack:
        drives = [
            stack.enter_context(drive(tmp_path / "blank", 8192, blank=True)),
            stack.enter_context(drive(tmp_path / "full", 400)),
            stack.enter_context(drive(tmp_path / "locked", 8192, locked=True)),
            stack.enter_context(drive(good, 8192)),
        ]
        assert usb_backup.copy_to_first(drives[:3], latest, tmp_path / "place") == 1
        assert usb_backup.copy_to_first(drives, latest, tmp_path / "place") == 0
    with looked_into(good, tmp_path / "look") as folder:
        assert [path.read_bytes() for path in folder.iterdir()] == [BACKUP]


def test_without_a_drive_there_is_nothing_to_do(latest: Path, tmp_path: Path) -> None:
    assert usb_backup.copy_to_first([], latest, tmp_path / "place") == 0


def test_what_is_copied_is_what_the_agent_leaves_there() -> None:
    assert Config().state_dir / "backup" / "latest" == usb_backup.LATEST
    assert f"ConditionPathExists={usb_backup.LATEST}" in UNIT.read_text()
