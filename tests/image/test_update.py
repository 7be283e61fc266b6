"""Updates on an emulated board: tried before they count, and gone back from when they fail.

The tests follow one board through its life: refusals, an update from a USB drive, one whose agent
does not run, one that loses its power on trial, one found at night that does not even start. What
the box knew before the first is looked for after each: readings, claim, the driver's cache.

The good update is a whole system. The others hold what their story needs: without the driver where
nothing of it runs, without a root where not even the first code does.
"""

import json
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image import watcher
from tests.image.conftest import Built
from tests.image.machine import Machine, Moment, usb_drive
from tests.image.maker import Maker
from tests.image.shelf import put, shelf_server, trust

INSTALL_PATIENCE_S = 1200.0
RESULT = "/data/update/result.json"
DRIVE_MIB = 640
PASSWORD = "correct horse battery"
READINGS = 500
PLANT_READINGS = f"""
import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from edge.clock import SystemClock
from edge.config import CLOCK_FLOOR
from edge.store.buffer import Buffer

async def plant():
    buffer = await Buffer.open(Path("/var/lib/edge/buffer.db"), SystemClock(CLOCK_FLOOR))
    for number in range({READINGS}):
        buffer.put("meter", datetime.now(UTC) - timedelta(seconds=number + 1), float(number))
    await buffer.commit()
    await buffer.close()

asyncio.run(plant())
"""
NO_DRIVER = "rm -rf $ROOT/opt/zwave;"
# What a newer system may leave behind: a driver's file of its own, a table and a column.
NEWER_STATE = """
import sqlite3
open('/var/lib/zwave/newer', 'w').write('newer')
open('/var/lib/zwave/kept', 'w').write('newer')
state = sqlite3.connect('/var/lib/edge/state.db')
state.execute('create table newer (what text)')
state.execute('alter table document add column newer text')
state.commit()
"""


@pytest.fixture(scope="module")
def folder(built: Built) -> Iterator[Path]:
    """Beside the built tree, so that further releases can share its files."""
    folder = built.work / "test-update"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def maker(built: Built, folder: Path) -> Maker:
    return Maker(built, folder)


@pytest.fixture(scope="module")
def box(started: Moment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with Machine.at(started, tmp_path_factory.mktemp("update") / "box") as machine:
        machine.run(f"date -s @{time.time():.0f}")  # it stood still while it was kept
        assert machine.post("/claim", password=PASSWORD)[0] == 303
        machine.run("echo cache >/data/system-a/zwave/kept; systemctl stop edge-agent.service")
        as_agent = "setpriv --reuid edge --regid edge --clear-groups env PYTHONDONTWRITEBYTECODE=1"
        machine.run(f"{as_agent} /opt/edge/bin/python -OO - <<'P'\n{PLANT_READINGS}\nP")
        machine.run("systemctl start edge-agent.service; sync")
        knows_all(machine)
        yield machine


def knows_all(box: Machine) -> None:
    """What the box knew before the first update: readings, who claimed it, the driver's cache."""
    watcher.begin(box)
    assert watcher.status(box)["buffer"]["readings"] >= READINGS
    assert box.run("cat /var/lib/zwave/kept") == "cache"
    box.wait_for_page()
    assert box.post("/log-in", password=PASSWORD)[0] == 303


def tried(box: Machine) -> None:
    """What was handed in ends in a trial start of the other system."""
    began, before = time.monotonic(), box.system
    assert box.go_on(INSTALL_PATIENCE_S) == "trial"
    assert box.system != before
    print(f"\n  installed {time.monotonic() - began:.0f} s after it was handed in")


class Drive:
    """A USB drive with bundles on it, plugged into the box, and how they are handed in from it."""

    def __init__(self, box: Machine, folder: Path) -> None:
        self._box = box
        self._folder = folder
        self._made = 0

    def bring(self, *bundles: Path) -> None:
        self._made += 1
        drive = usb_drive(self._folder / f"drive-{self._made}.img", DRIVE_MIB)
        for bundle in bundles:
            drive.add(1, bundle)
        self._box.plug_in_a_drive(drive.path)
        self._box.wait_until("mkdir -p /run/drive; mount -o ro /dev/sd?1 /run/drive")

    def take_away(self) -> None:
        self._box.run("umount /run/drive")
        self._box.pull_out_the_drive()

    def hand_in(self, bundle: Path) -> None:
        """As the agent does: the file appears, whole, under the name that systemd watches."""
        place = "/data/edge/update"
        self._box.run(f"install -d -o edge -g edge -m 700 {place}; rm -f {RESULT}")
        copy = f"cp /run/drive/{bundle.name} {place}/part && mv {place}/part {place}/bundle"
        self._box.run(copy, 600)


@pytest.fixture(scope="module")
def drive(box: Machine, folder: Path) -> Drive:
    return Drive(box, folder)


def result(box: Machine) -> dict[str, str]:
    said: dict[str, str] = json.loads(box.run(f"cat {RESULT}"))
    return said


def refused(box: Machine, drive: Drive, bundle: Path) -> str:
    drive.hand_in(bundle)
    box.wait_until(f"test -s {RESULT} && test ! -e /data/edge/update/bundle")
    said = result(box)
    assert said["outcome"] == "refused", said
    print(f"\n  {bundle.name}: {said['text']}")
    return said["text"]


def test_bad_updates_are_refused_with_a_clear_line(
    box: Machine, maker: Maker, drive: Drive, folder: Path
) -> None:
    stranger = folder / "stranger.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", stranger], check=True)
    unsigned = folder / "unsigned.update"
    with tarfile.open(unsigned, "w") as tar, tarfile.open(maker.small("whole", 1)) as whole:
        for member in whole.getmembers():
            if member.name != "manifest.sig":
                tar.addfile(member, whole.extractfile(member))
    cut = folder / "cut.update"
    cut.write_bytes((folder / "whole.update").read_bytes()[:300_000])
    photo = folder / "photo.update"
    photo.write_bytes(b"\xff\xd8\xff\xe0" * 100_000)
    bad = {
        maker.small("strangers", 9, key=stranger): "not signed by the maker",
        maker.small("toasters", 9, board="toaster"): "this update is for toaster",
        maker.small("older", -9): "older than what runs",
        maker.small("same", 0): "installed already",
        unsigned: "not an update for this box",
        cut: "download it again",
        photo: "not a whole update",
    }
    drive.bring(*bad)
    for bundle, sentence in bad.items():
        assert sentence in refused(box, drive, bundle)
    # The agent, which has no rights, can read the reason.
    assert box.run(f"setpriv --reuid edge --regid edge --clear-groups cat {RESULT}")
    drive.take_away()
    assert box.card.boot_partition(trial=False) == 2


def test_an_update_on_a_drive_waits_for_devices_that_are_away_and_is_tried_and_kept(
    box: Machine, maker: Maker, drive: Drive
) -> None:
    good = maker.system("good", 10, root="true")
    drive.bring(good)
    identity = box.run("cat /etc/machine-id; sha256sum /data/edge-keys/edge-key")
    # As the agent says it (edge/signs.py).
    box.run(f"rm -f {RESULT}; touch /run/edge/curtailing")
    began = time.monotonic()
    assert box.post("/updates/usb")[0] == 303
    box.wait_until("grep -q waiting /run/edge-update/progress.json")
    print(f"\n  copied from the drive in {time.monotonic() - began:.0f} s")
    assert box.try_run(f"test -e {RESULT}")[0] != 0
    drive.take_away()
    box.run("rm /run/edge/curtailing")
    tried(box)
    box.wait_until("systemctl is-active edge-confirm.service && test ! -e /run/edge-trial")
    assert result(box) == {"release": "good", "outcome": "installed", "text": ""}
    assert json.loads(box.run("cat /usr/lib/edge/release.json"))["release"] == "good"
    assert box.run("cat /etc/machine-id; sha256sum /data/edge-keys/edge-key") == identity
    assert box.card.boot_partition(trial=False) == 3, "a confirmed system starts from now on"
    knows_all(box)


def test_an_update_by_the_page_whose_agent_does_not_run_is_gone_back_from(
    box: Machine, maker: Maker, folder: Path
) -> None:
    (folder / "newer.py").write_text(NEWER_STATE)
    spoil = NO_DRIVER + (
        f"cp {folder}/newer.py $ROOT/usr/lib/edge/newer.py;"
        "cd $ROOT/usr/lib/systemd/system; rm edge-agent.service; mkdir edge-healthy.service.d;"
        "printf '[Unit]\\nRequiresMountsFor=/var/lib/edge\\n[Service]\\nType=oneshot\\n"
        "ExecStart=/usr/bin/python3 /usr/lib/edge/newer.py\\nExecStart=/bin/false\\n'"
        " >edge-agent.service;"
        "printf '[Service]\\nTimeoutStartSec=20\\n' >edge-healthy.service.d/hurry.conf"
    )
    spoilt = maker.system("spoilt", 20, root=spoil)
    began, before = time.monotonic(), box.system
    status, said = box.upload("/updates/bundle", spoilt)
    assert status == 204, said
    print(f"\n  uploaded in {time.monotonic() - began:.0f} s")
    tried(box)
    assert box.go_on(INSTALL_PATIENCE_S) == "restart"
    assert box.system == before
    knows_all(box)
    assert result(box)["outcome"] == "gone back"
    # What the failed one said at its end is still there to be read.
    told = box.run("gzip -dc /data/journal/last-boot.log.gz")
    assert "edge-give-way" in told
    # The newer one had its say, and the older one understands all that it finds.
    box.run("test -e /data/system-?/zwave/newer")
    assert box.run("ls /var/lib/zwave /var/lib/edge | grep -c newer || true") == "0"


def test_power_lost_on_trial_ends_in_the_old_system(
    box: Machine, maker: Maker, drive: Drive
) -> None:
    before = box.system
    drive.bring(maker.system("unlucky", 40, root=NO_DRIVER))
    assert box.post("/updates/usb")[0] == 303
    tried(box)
    assert "unlucky" in box.run("test -e /run/edge-trial && cat /usr/lib/edge/release.json")
    box.pull_the_plug()
    box.power_on()
    assert box.system == before
    knows_all(box)
    assert result(box)["outcome"] == "gone back"
    assert box.run("systemctl is-failed edge-confirm.service || true") != "failed"


def test_an_update_found_at_night_that_does_not_even_start_is_gone_back_from(
    box: Machine, maker: Maker, folder: Path
) -> None:
    dead = "cd $SYSTEM; rm initrd root.squashfs; echo no >initrd; echo no >root.squashfs"
    bundle = maker.system("dead", 30, files=dead)
    shelf = folder / "shelf"
    shelf.mkdir()
    bundle.rename(shelf / bundle.name)
    entry = {
        "version": maker.release["version"] + 30,
        "release": "dead",
        "bundle": bundle.name,
        "size": (shelf / bundle.name).stat().st_size,
    }
    (shelf / "latest.json").write_text(json.dumps({maker.release["board"]: entry}))
    box.run("systemctl is-active edge-update-check.timer")
    before = box.system
    certificate = folder / "shelf.pem"
    with shelf_server(shelf, certificate) as address:
        trust(box, certificate, "edge-update-check.service")
        put(box, address, "/usr/lib/edge/release-address")
        ask = "systemctl start edge-update-check.service"
        box.run("install -d -o edge -g edge -m 700 /data/edge/update")
        for reason in ("/data/edge/update/opted-out", "/run/edge/curtailing"):
            box.run(f"touch {reason}")
            box.run(ask, 300)
            assert box.run("ls /data/edge/update").replace("opted-out", "").strip() == ""
            box.run(f"rm {reason}")
        box.run(f"rm -f {RESULT}; systemctl --no-block start edge-update-check.service")
        tried(box)
    box.wait_ended()
    box.power_on()
    assert box.system == before
    box.wait_until(f"grep -q 'gone back' {RESULT}")
    assert "did not start" in result(box)["text"]
    assert box.run("cat /var/lib/zwave/kept") == "cache"
