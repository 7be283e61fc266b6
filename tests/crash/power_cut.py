"""A disk that remembers every write, so that power can be cut at any moment afterwards.

qemu-storage-daemon writes a log of all writes and flushes (blklogwrites, the format of the kernel's
dm-log-writes) below an ext4 on a loop device. A cut at entry n leaves what was flushed before it,
and of what came after the last flush nothing, everything, some writes, or some sectors of some:
a card may do any of these. After each commit the writer puts a mark on the same disk, outside the
file system, so the log itself orders "acknowledged" against the writes.
"""

import mmap
import os
import random
import shutil
import struct
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.device import need_root, run

DISK_BYTES = 48 << 20
FILE_SYSTEM_BYTES = 40 << 20
MARK_AT = 44 << 20
LOG_BYTES = 900 << 20  # sparse
SECTOR_BYTES = 512
_MAGIC = 0x6A736677736872
_FLUSH, _DISCARD = 1, 4
_MARK = struct.Struct("<8sq")
_MARKED = b"BOX-MARK"
PACKAGES = "qemu-utils qemu-system-common qemu-block-extra fuse3"


@dataclass(frozen=True, slots=True)
class Write:
    at: int
    data: bytes
    flushes_before: bool


@dataclass(frozen=True, slots=True)
class Cut:
    """What is on the disk after power went, and the last commit acknowledged before."""

    disk: bytearray
    acked: int
    kind: str


def need_parts() -> None:
    """Raise RuntimeError with a sentence where something is missing."""
    need_root()
    if shutil.which("qemu-storage-daemon") is None:
        raise RuntimeError(f"power cuts need qemu-storage-daemon: apt-get install {PACKAGES}")
    if not Path("/dev/fuse").exists():
        raise RuntimeError("power cuts need /dev/fuse: modprobe fuse")


async def record(
    work: Path, story: Callable[[Path, Callable[[int], None]], Awaitable[None]]
) -> list[Write]:
    """Run story(folder, mark) on a recorded disk; mark(n) says that commit n was acknowledged."""
    need_parts()
    with _recorded_disk(work) as loop:
        folder = work / "mounted"
        folder.mkdir()
        run("mkfs.ext4", "-q", "-F", "-E", "nodiscard", loop, f"{FILE_SYSTEM_BYTES >> 10}k")
        run("mount", "-o", "noatime,commit=60", loop, str(folder))
        run("sync", "--file-system", str(folder))  # it is made before the story begins
        raw = os.open(loop, os.O_WRONLY | os.O_DIRECT)
        page = mmap.mmap(-1, 4096)

        def mark(number: int) -> None:
            page[: _MARK.size] = _MARK.pack(_MARKED, number)
            os.pwrite(raw, page, MARK_AT)

        try:
            mark(-1)
            await story(folder, mark)
        finally:
            os.close(raw)
            run("umount", str(folder))
    return list(_writes(work / "log.raw"))


def cuts(writes: list[Write], number: int, chance: random.Random) -> Iterator[Cut]:
    """The disk after power was cut at that many moments, in order."""
    first = next(i for i, write in enumerate(writes) if _mark_of(write) is not None)
    moments = sorted(chance.sample(range(first + 1, len(writes)), number))
    durable, written_until, acked = bytearray(DISK_BYTES), 0, -1
    for moment in moments:
        for index in range(written_until, moment):
            acked = _mark_of(writes[index], acked)
        flushes = (i for i in range(moment - 1, written_until - 1, -1) if writes[i].flushes_before)
        flushed = next(flushes, written_until)
        for write in writes[written_until:flushed]:
            durable[write.at : write.at + len(write.data)] = write.data
        written_until = flushed
        kind = chance.choice(["nothing", "everything", "some writes", "some sectors"])
        disk = bytearray(durable)
        for write in writes[flushed:moment]:
            _write_some(disk, write, kind, chance)
        yield Cut(disk, acked, kind)


@contextmanager
def mounted(disk: bytearray, work: Path) -> Iterator[Path]:
    """The file system as it comes up after the cut."""
    image, folder = work / "cut.raw", work / "cut"
    image.write_bytes(disk)
    folder.mkdir(exist_ok=True)
    run("mount", "-o", "loop,noatime", str(image), str(folder))
    try:
        yield folder
    finally:
        run("umount", str(folder))


@contextmanager
def _recorded_disk(work: Path) -> Iterator[str]:
    for name, size in (("base.raw", DISK_BYTES), ("log.raw", LOG_BYTES), ("disk", 0)):
        with (work / name).open("wb") as file:
            file.truncate(size)
    log = "driver=blklogwrites,node-name=disk,file=base,log=log,log-sector-size=512"
    command = ["qemu-storage-daemon"]
    for name in ("base", "log"):
        command += ["--blockdev", f"driver=file,node-name={name},filename={work / name}.raw"]
    command += ["--blockdev", log, "--export"]
    command += [f"type=fuse,id=export,node-name=disk,mountpoint={work / 'disk'},writable=on"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as daemon:
        try:
            _wait_for_export(work / "disk", daemon)
            # direct I/O or discards left file systems that could not be mounted (tried)
            disk = str(work / "disk")
            loop = run("losetup", "--find", "--show", "--direct-io=off", disk)
            try:
                yield loop
            finally:
                run("losetup", "--detach", loop)
        finally:
            daemon.terminate()


def _wait_for_export(disk: Path, daemon: "subprocess.Popen[str]") -> None:
    for _ in range(100):
        if disk.stat().st_size == DISK_BYTES:
            return
        if daemon.poll() is not None:
            said = daemon.stderr.read() if daemon.stderr else ""
            raise RuntimeError(f"qemu-storage-daemon ended: {said.strip()} (apt: {PACKAGES})")
        time.sleep(0.1)
    raise RuntimeError("qemu-storage-daemon did not export its disk in 10 s")


def _writes(log: Path) -> Iterator[Write]:
    with log.open("rb") as file:
        magic, _version, entries, sector_bytes = struct.unpack("<QQQI", file.read(28))
        if magic != _MAGIC:
            raise RuntimeError(f"{log} is no log of writes")
        at = sector_bytes
        for _ in range(entries):
            file.seek(at)
            sector, sectors, flags, _length = struct.unpack("<QQQQ", file.read(32))
            at += sector_bytes
            data = b""
            if not flags & _DISCARD:
                file.seek(at)
                data = file.read(sectors * sector_bytes)
                at += len(data)
            yield Write(sector * sector_bytes, data, bool(flags & _FLUSH))


def _mark_of(write: Write, otherwise: int | None = None) -> int | None:
    if write.at != MARK_AT or write.data[:8] != _MARKED:
        return otherwise
    number: int = _MARK.unpack_from(write.data)[1]
    return number


def _write_some(disk: bytearray, write: Write, kind: str, chance: random.Random) -> None:
    if kind == "nothing" or (kind == "some writes" and chance.random() < 0.5):
        return
    for start in range(0, len(write.data), SECTOR_BYTES):
        if kind != "some sectors" or chance.random() < 0.5:
            sector = write.data[start : start + SECTOR_BYTES]
            disk[write.at + start : write.at + start + len(sector)] = sector
