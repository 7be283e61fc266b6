"""The box in an emulator, with a firmware that starts system A or B as a board's firmware does.

The image's own kernel, first code and command line run; the test only adds a console and a root
shell on a port that no board has.
"""

import contextlib
import itertools
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

FIRST_AT = 4 * 1024 * 1024  # where the card's first partition begins
SYSTEM_PARTITIONS = {2: "a", 3: "b"}

# unsafe: what the guest wrote is kept by this machine's memory, also when the emulator is killed.
_CARD_DRIVE = "format=raw,discard=unmap,cache=unsafe"
STICK_DEVICE = "usb-serial,id=stick,chardev=stick,always-plugged=on"
BOOT_PATIENCE_S = 1800.0  # an emulated board is some twenty times slower than a real one
# A real board's devices are there within 90 s, and its first process has a turn every 15 s; an
# emulated one's on a busy machine are not and has not. And without random addresses the kernel
# keeps one set of page tables; with two, each system call makes the emulator forget all addresses
# it knows, and a start computes a third more.
PATIENT_KERNEL = "systemd.default_device_timeout_sec=600 systemd.watchdog_sec=180 nokaslr"
SHELL_PATIENCE_S = 120.0
ANSWER_PATIENCE_S = 60.0
UPLOAD_PATIENCE_S = 1800.0
# Who calls before the guest has its network is called back ever later: 3, 6, 12, 24 s.
FIRST_PATIENCE_S = 3.0
_POLL_S = 0.2
_CHUNK_BYTES = 4 * 1024 * 1024


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port: int = chosen.getsockname()[1]
        return port


def qemu() -> str:
    found = shutil.which("qemu-system-aarch64")
    assert found, "qemu-system-aarch64 is missing (Debian: apt install qemu-system-arm)"
    return found


def _next_data(file: int, at: int) -> int:
    """Where something was written next; beyond all where nothing is."""
    try:
        return os.lseek(file, at, os.SEEK_DATA)
    except OSError:  # only a hole is left
        return sys.maxsize


class Card:
    """A disk image as a card: its partitions, and the files on the FAT ones (by mtools)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def flash(cls, image: Path, path: Path, mib: int = 2048) -> "Card":
        """A fresh card of `mib` MiB with the image on it."""
        subprocess.run(["cp", "--sparse=always", str(image), str(path)], check=True)
        with path.open("r+b") as card:
            card.truncate(mib * 1024 * 1024)
        return cls(path)

    def copy(self, path: Path) -> "Card":
        subprocess.run(["cp", "--sparse=always", str(self.path), str(path)], check=True)
        return Card(path)

    def start_of(self, number: int) -> int:
        """First byte of partition `number`, from the partition table."""
        with self.path.open("rb") as card:
            card.seek(446 + 16 * (number - 1) + 8)
            return int.from_bytes(card.read(4), "little") * 512

    def size_of(self, number: int) -> int:
        with self.path.open("rb") as card:
            card.seek(446 + 16 * (number - 1) + 12)
            return int.from_bytes(card.read(4), "little") * 512

    def part(self, number: int, path: Path) -> Path:
        """A copy of partition `number` alone; what was never written stays a hole."""
        start, size = self.start_of(number), self.size_of(number)
        with self.path.open("rb") as whole, path.open("wb") as part:
            part.truncate(size)
            at = start
            while (at := _next_data(whole.fileno(), at)) < start + size:
                end = min(os.lseek(whole.fileno(), at, os.SEEK_HOLE), start + size)
                whole.seek(at)
                part.seek(at - start)
                while at < end:
                    at += part.write(whole.read(min(end - at, _CHUNK_BYTES)))
        return path

    def read(self, number: int, name: str) -> bytes:
        done = subprocess.run(
            ["mtype", "-i", f"{self.path}@@{self.start_of(number)}", f"::/{name}"],
            capture_output=True,
            check=True,
        )
        return done.stdout

    def write(self, number: int, name: str, content: bytes) -> None:
        subprocess.run(
            ["mcopy", "-o", "-i", f"{self.path}@@{self.start_of(number)}", "-", f"::/{name}"],
            input=content,
            check=True,
        )

    def add(self, number: int, file: Path) -> None:
        """A copy of a file of this machine, under its own name."""
        place = f"{self.path}@@{self.start_of(number)}"
        subprocess.run(["mcopy", "-o", "-i", place, str(file), "::/"], check=True)

    def names(self, number: int) -> set[str]:
        done = subprocess.run(
            ["mdir", "-b", "-i", f"{self.path}@@{self.start_of(number)}", "::/"],
            capture_output=True,
            text=True,
            check=True,
        )
        return {line.removeprefix("::/").strip() for line in done.stdout.splitlines()}

    def boot_partition(self, *, trial: bool) -> int:
        """Which partition a board's firmware would start from, by autoboot.txt."""
        section, found = "all", 1
        for line in self.read(1, "autoboot.txt").decode().split():
            if line.startswith("["):
                section = line.strip("[]")
            elif line.startswith("boot_partition=") and (
                section == "all" or (trial and section == "tryboot")
            ):
                found = int(line.partition("=")[2])
        return found


@dataclass(frozen=True)
class Moment:
    """A running board, kept in a folder: what was in its memory and on its card."""

    folder: Path

    @property
    def memory(self) -> Path:
        return self.folder / "memory"

    @property
    def card(self) -> Card:
        return Card(self.folder / "card.img")


def usb_drive(path: Path, mib: int) -> Card:
    """An empty drive as shops sell them: one partition, FAT. 300 MiB or more: FAT32 has no less."""
    with path.open("wb") as file:
        file.truncate(mib * 1024 * 1024)
    table = b"label: dos\nstart=2048, type=c\n"
    subprocess.run(["sfdisk", "-q", str(path)], input=table, check=True)
    offset = ["--offset=2048", "-F", "32", "-s", "8"]
    done = ["mkfs.vfat", *offset, str(path), str((mib - 1) * 1024)]
    subprocess.run(done, check=True, stdout=subprocess.DEVNULL)
    return Card(path)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Cookies and hosts of the guest mean nothing here: we follow by hand."""


class Machine:
    """A board with `card` in it. `stick` is a serial port of this machine, plugged in by USB.

    `clock`: what its battery clock shows at each start ("1970-01-01": as if there were none).
    Without `names` nothing on the internet can be found by name, such as time servers.
    """

    CONSOLE = "ttyAMA0"
    SHELL = "hvc0"
    TREES: tuple[str, ...] = ()  # device trees that the firmware hands to the kernel

    def __init__(
        self,
        card: Card,
        folder: Path,
        *,
        stick: Path | None = None,
        network: bool = True,
        memory_mib: int = 1024,
        clock: str = "utc",
        names: bool = True,
        more_kernel: str = PATIENT_KERNEL,
        more_devices: tuple[str, ...] = (),
    ) -> None:
        self.card = card
        self.folder = folder
        self.stick = stick
        self.network = network
        self.memory_mib = memory_mib
        self.clock = clock
        self.names = names
        self.more_kernel = more_kernel
        self.more_devices = more_devices
        self.http_port = free_port()
        self.name = "flexbox"  # under which it is called; a prepared card may say another
        self._cookie = ""
        self.trial_next = False
        self.system = ""
        self.started_s = 0.0
        self._qemu: subprocess.Popen[bytes] | None = None
        self._shell: socket.socket | None = None
        self._heard = b""
        self._starts = 0
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        if self._qemu is None:
            self.power_on()
        return self

    def __exit__(self, *_: object) -> None:
        self.power_off()

    @property
    def console_file(self) -> Path:
        return self.folder / f"console-{self._starts}.log"

    def processor_s(self) -> float:
        """What the emulator took of this machine's processors since power came."""
        assert self._qemu is not None
        said = Path(f"/proc/{self._qemu.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(said[11]) + int(said[12])) / os.sysconf("SC_CLK_TCK")

    def console(self) -> str:
        return self.console_file.read_text(errors="replace") if self.console_file.exists() else ""

    def power_on(self, memory: Path | None = None) -> None:
        """Firmware: choose the partition, load kernel, first code and command line from it.

        With `memory` of a Moment the machine goes on from there instead.
        """
        self._starts += 1
        number = self.card.boot_partition(trial=self.trial_next)
        self.trial_next = False  # a trial counts for one start
        self.system = SYSTEM_PARTITIONS[number]
        for name in (*("vmlinuz", "initrd"), *self.TREES):
            (self.folder / name).write_bytes(self.card.read(number, name))
        line = self.card.read(number, "cmdline.txt").decode().strip()
        line = line.replace("console=tty1", f"console={self.CONSOLE}")
        shell = self.folder / "shell"
        shell.unlink(missing_ok=True)
        (self.folder / "monitor").unlink(missing_ok=True)
        command = [
            *(qemu(), *self._board(), *self._devices(shell)),
            *("-kernel", str(self.folder / "vmlinuz"), "-initrd", str(self.folder / "initrd")),
            *("-append", f"{line} systemd.debug_shell={self.SHELL} {self.more_kernel}"),
        ]
        if memory is not None:
            command += ["-incoming", f"exec:cat {memory}"]
        with (self.folder / "qemu.log").open("ab") as log:
            self._qemu = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self.started_s = time.monotonic()
        self._shell = None

    def _board(self) -> list[str]:
        return [
            *("-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", str(self.memory_mib)),
            *("-accel", "tcg,thread=multi", "-display", "none", "-no-reboot"),
        ]

    def _devices(self, shell: Path) -> list[str]:
        forward = f"hostfwd=tcp:127.0.0.1:{self.http_port}-:80"
        isolated = "" if self.network else ",restrict=on"
        isolated += "" if self.names else ",dns=10.0.2.200"
        wanted = [
            *("-drive", f"file={self.card.path},if=none,id=card,{_CARD_DRIVE}"),
            *("-device", "virtio-blk-pci,drive=card"),
            *("-netdev", f"user,id=lan,{forward}{isolated}"),
            *("-device", "virtio-net-pci,netdev=lan,romfile=", "-rtc", f"base={self.clock}"),
            *("-device", "virtio-rng-pci", "-device", "i6300esb", "-device", "qemu-xhci"),
            *("-serial", f"file:{self.console_file}"),
            *("-monitor", f"unix:{self.folder / 'monitor'},server=on,wait=off"),
            *("-chardev", f"socket,id=shell,path={shell},server=on,wait=off"),
            *("-device", "virtio-serial-pci", "-device", "virtconsole,chardev=shell"),
        ]
        if self.stick is not None:
            wanted += ["-chardev", f"serial,id=stick,path={self.stick}"]
            wanted += ["-device", STICK_DEVICE]
        return [*wanted, *self.more_devices]

    # --- what a person does -----------------------------------------------------------------------

    def pull_the_plug(self) -> None:
        """As a power cut: the emulator is killed in mid-write."""
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()
        self._hang_up()

    def power_off(self) -> None:
        if self._qemu is not None and self._qemu.poll() is None:
            self._qemu.terminate()
            try:
                self._qemu.wait(20)
            except subprocess.TimeoutExpired:
                self.pull_the_plug()
        self._hang_up()

    def wait_ended(self, patience_s: float = BOOT_PATIENCE_S) -> str:
        """Wait until the guest restarts or stops; how: "trial", "restart" or "off"."""
        assert self._qemu is not None
        self._qemu.wait(patience_s)
        self._hang_up()
        said = self.console()
        if re.search(r"Restarting system with command '0 tryboot'", said):
            self.trial_next = True
            return "trial"
        return "restart" if "Restarting system" in said else "off"

    def go_on(self, patience_s: float = BOOT_PATIENCE_S) -> str:
        """The guest restarts itself: wait for that, and be its firmware."""
        how = self.wait_ended(patience_s)
        self.power_on()
        return how

    def plug_in_a_drive(self, image: Path, *, writable: bool = False) -> None:
        """A USB drive, as `image`."""
        readonly = "off" if writable else "on"
        self._monitor(f"drive_add 0 if=none,id=drive,format=raw,readonly={readonly},file={image}")
        self._monitor("device_add usb-storage,id=usb-drive,drive=drive")

    def pull_out_the_drive(self) -> None:
        self._monitor("device_del usb-drive")

    def give_a_stick(self, port: Path) -> None:
        """Into a running board: a serial port of this machine, plugged in by USB."""
        self._monitor(f"chardev-add serial,id=stick,path={port}")
        self.stick = port
        self.plug_the_stick()

    def plug_a_keyboard(self) -> None:
        self._monitor("device_add usb-kbd")

    def pull_the_stick(self) -> None:
        self._monitor("device_del stick")

    def plug_the_stick(self) -> None:
        self._monitor(f"device_add {STICK_DEVICE}")

    def unplug_network(self) -> None:
        self._monitor("set_link lan off")

    def plug_network(self) -> None:
        self._monitor("set_link lan on")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """The board stands still, its clock too: the card is as a power cut now leaves it."""
        self._monitor("stop")
        try:
            yield
        finally:
            self._monitor("cont")

    def moment(self, folder: Path) -> "Moment":
        """The board as it is now, to go on from as often as wanted. Not with a stick in it."""
        folder.mkdir()
        with self.frozen():
            self._monitor("migrate_set_parameter max-bandwidth 100G")
            self._monitor(f'migrate "exec:cat >{folder / "memory"}"')
            self.card.copy(folder / "card.img")
        return Moment(folder)

    @classmethod
    def at(cls, moment: "Moment", folder: Path, **more: Any) -> Self:
        """A board that goes on from `moment`, with a copy of its card; `more` as for Machine."""
        folder.mkdir(parents=True, exist_ok=True)
        machine = cls(moment.card.copy(folder / "card.img"), folder, **more)
        machine.power_on(moment.memory)
        # It was frozen when it was kept, and takes no notice while it still comes to itself.
        while "running" not in machine._monitor("info status"):
            machine._monitor("cont")
            time.sleep(_POLL_S)
        return machine

    def _monitor(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(120)
            while not (self.folder / "monitor").exists():
                self._still_on()
                time.sleep(_POLL_S)
            monitor.connect(str(self.folder / "monitor"))
            said = b""
            for line in (b"", command.encode() + b"\n"):
                monitor.sendall(line)
                said = b""
                while not said.endswith(b"(qemu) "):
                    said += monitor.recv(4096)
        text = said.decode(errors="replace")
        assert "Error" not in text, text
        return text

    # --- what is seen from outside ----------------------------------------------------------------

    def get(
        self, path: str = "/", host: str = "", patience_s: float = ANSWER_PATIENCE_S
    ) -> tuple[int, str]:
        """Status and body of a page, as a browser on the LAN would fetch it."""
        return self._fetch(path, None, host, patience_s=patience_s)

    def post(self, path: str, **fields: str) -> tuple[int, str]:
        """Send a form of the page: status, and where the browser is sent next or the body. Who
        claimed the box or logged in stays so."""
        return self._fetch(path, urllib.parse.urlencode(fields).encode())

    def upload(self, path: str, file: Path) -> tuple[int, str]:
        """Send a file as the page's script does."""
        with file.open("rb") as body:
            return self._fetch(path, body, length=file.stat().st_size)

    def _fetch(
        self,
        path: str,
        body: bytes | BinaryIO | None,
        host: str = "",
        length: int | None = None,
        patience_s: float = ANSWER_PATIENCE_S,
    ) -> tuple[int, str]:
        host = host or f"{self.name}.local"
        headers = {"Host": host, "Accept": "text/html", "Cookie": self._cookie}
        if body is not None:
            headers |= {"Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
        if length is not None:
            headers |= {"Content-Length": str(length), "Content-Type": "application/octet-stream"}
        url = f"http://127.0.0.1:{self.http_port}{path}"
        patience_s = patience_s if length is None else UPLOAD_PATIENCE_S
        opener = urllib.request.build_opener(_NoRedirect())
        try:
            asked = urllib.request.Request(url, body, headers)
            with opener.open(asked, timeout=patience_s) as answer:
                return answer.status, answer.read().decode(errors="replace")
        except urllib.error.HTTPError as other:
            to = other.headers.get("Location", "")
            if "Set-Cookie" in other.headers:
                self._cookie = other.headers["Set-Cookie"].partition(";")[0]
            if other.code == 303 and body is None:
                return self._fetch(to, None, host, patience_s=patience_s)
            return other.code, to or other.read().decode(errors="replace")

    def wait_for_page(self, patience_s: float = BOOT_PATIENCE_S) -> float:
        """Seconds from power to the first good answer of the page."""
        last = "nothing"
        end = time.monotonic() + patience_s
        for tried in itertools.count():
            if time.monotonic() > end:
                break
            self._still_on()
            with contextlib.suppress(OSError):
                status, body = self.get(patience_s=FIRST_PATIENCE_S + tried)
                if status == 200:
                    return time.monotonic() - self.started_s
                last = f"{status} {body[:200]}"
            time.sleep(1)
        raise TimeoutError(f"no page within {patience_s:.0f} s (last: {last}); {self.console_file}")

    def settle(self, patience_s: float = BOOT_PATIENCE_S) -> None:
        """Until all units are up: none failed, none left out to break a cycle."""
        wait = f"timeout {patience_s:.0f} systemctl is-system-running --wait"
        state = self.try_run(wait, patience_s + 20)[1].splitlines()[-1:]
        failed = self.run("systemctl list-units --failed --no-legend --plain --no-pager")
        assert state == ["running"], f"{state}: {failed}"
        assert not self.try_run("journalctl -b --no-pager -o cat | grep -i 'ordering cycle'")[1]

    # --- what is seen from inside -----------------------------------------------------------------

    def run(self, command: str, patience_s: float = SHELL_PATIENCE_S) -> str:
        """Run a command in the guest as root; its output. Raises AssertionError where it fails."""
        code, said = self.try_run(command, patience_s)
        assert code == 0, f"{command!r} ended with {code}:\n{said}"
        return said

    def add_settings(self, text: str) -> None:
        """More for the agent's settings, for this start and from the agent's next on."""
        self.run(
            "cp /usr/lib/edge/agent.toml /run/agent.toml && "
            f"printf %b {shlex.quote(text)} >>/run/agent.toml && "
            "mount --bind /run/agent.toml /usr/lib/edge/agent.toml"
        )

    def try_run(self, command: str, patience_s: float = SHELL_PATIENCE_S) -> tuple[int, str]:
        self._connect(BOOT_PATIENCE_S)
        number = time.monotonic_ns()
        begin, end = f"B{number}", f"E{number}"
        self._heard = b""
        # Split by quotes: a terminal that echoes what is typed is not taken for an answer.
        self._say(f"echo B''{number}\n{{ {command}\n}} 2>&1; printf '\\n%s %s\\n' E''{number} $?\n")
        said = self._hear(rb"\n" + end.encode() + rb" (\d+)\r?\n", patience_s)
        code = int(re.findall(rb"(\d+)\r?\n$", said)[-1])
        text = said.decode(errors="replace").replace("\r", "")
        return code, text.rpartition(f"{begin}\n")[2].rsplit(f"\n{end}", 1)[0].strip()

    def wait_until(self, command: str, patience_s: float = BOOT_PATIENCE_S) -> str:
        """Repeat a command in the guest until it succeeds; its output."""
        end = time.monotonic() + patience_s
        while True:
            code, said = self.try_run(command)
            if code == 0:
                return said
            if time.monotonic() > end:
                raise TimeoutError(f"{command!r} still ends with {code}:\n{said}")
            time.sleep(2)

    def _connect(self, patience_s: float) -> None:
        if self._shell is not None:
            return
        end = time.monotonic() + patience_s
        while True:
            self._still_on()
            shell = socket.socket(socket.AF_UNIX)
            shell.settimeout(_POLL_S)
            try:
                shell.connect(str(self.folder / "shell"))
            except OSError:
                shell.close()
                if time.monotonic() > end:
                    raise
                time.sleep(_POLL_S)
            else:
                break
        self._shell = shell
        # A plain shell without prompts: one that edits lines echoes what is typed. What is typed
        # before the shell is there may be lost, so it is said again until its own answer comes.
        quiet = "stty -echo; exec env PS1= PS2= SYSTEMD_COLORS=0 SYSTEMD_PAGER=cat /bin/sh\n"
        for attempt in itertools.count():
            self._heard = b""
            self._say(f"{quiet}echo here''-{attempt}-i-am\n")
            try:
                self._hear(rb"here-%d-i-am\r?\n" % attempt, 5)
            except TimeoutError:
                if time.monotonic() > end:
                    raise
            else:
                return

    def _say(self, text: str) -> None:
        assert self._shell is not None
        self._shell.sendall(text.encode())

    def _hear(self, pattern: bytes, patience_s: float) -> bytes:
        assert self._shell is not None
        end = time.monotonic() + patience_s
        while True:
            found = re.search(pattern, self._heard)
            if found:
                said, self._heard = self._heard[: found.end()], self._heard[found.end() :]
                return said
            if time.monotonic() > end:
                raise TimeoutError(f"{pattern!r} not heard; last: {self._heard[-400:]!r}")
            self._still_on()
            with contextlib.suppress(TimeoutError):
                self._heard += self._shell.recv(65536)

    def _hang_up(self) -> None:
        if self._shell is not None:
            self._shell.close()
            self._shell = None

    def _still_on(self) -> None:
        assert self._qemu is not None
        if self._qemu.poll() is not None:
            raise RuntimeError(f"the emulator ended; see {self.console_file}")


class Pi3(Machine):
    """QEMU's Raspberry Pi 3B: its own device tree, card slot, USB and serial port.

    It resets at once when its watchdog is armed, and knows no Ethernet: a USB one stands in.
    """

    CONSOLE = "ttyS1,115200"
    SHELL = "ttyS1"
    TREES = ("bcm2837-rpi-3-b.dtb",)
    KERNEL = f"{PATIENT_KERNEL} systemd.watchdog_sec=off modprobe.blacklist=cdc_subset"

    def _board(self) -> list[str]:
        self.more_kernel = self.KERNEL
        return [
            *("-M", "raspi3b", "-dtb", str(self.folder / self.TREES[0])),
            *("-accel", "tcg,thread=multi", "-display", "none", "-no-reboot"),
        ]

    def _devices(self, shell: Path) -> list[str]:
        return [
            *("-drive", f"file={self.card.path},format=raw,if=sd"),
            *("-netdev", f"user,id=lan,hostfwd=tcp:127.0.0.1:{self.http_port}-:80"),
            *("-device", "usb-net,netdev=lan", "-monitor", "none", "-serial", "null"),
            *("-chardev", f"socket,id=shell,path={shell},server=on,wait=off"),
            *("-serial", "chardev:shell"),
        ]
