"""Updates on an emulated board: tried before they count, and gone back from when they fail."""

import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.image.conftest import PROJECT, Built
from tests.image.machine import Card, Machine

DOOR = "/run/edge-doors/door"
INSTALL_PATIENCE_S = 900.0


class Maker:
    """Makes further releases of the built system, good and bad ones."""

    def __init__(self, built: Built, folder: Path) -> None:
        self._built = built
        self._folder = folder
        self.release = json.loads((built.system / "release.json").read_text())

    def bundle(self, name: str, newer_by: int, *, broken: str = "", key: Path | None = None) -> str:
        """An update as file `name`. `broken`: a shell command that spoils its root ($ROOT)."""
        folder = self._folder / f"{name}.d"
        root, system = folder / "root", folder / "system"
        release = {**self.release, "release": name}
        release["version"] += newer_by
        folder.mkdir()
        subprocess.run(["cp", "-al", self._built.root, root], check=True)  # as links: no space
        subprocess.run(["cp", "-al", self._built.system, system], check=True)
        for path in (root / "usr/lib/edge/release.json", system / "release.json"):
            path.unlink()
            path.write_text(json.dumps(release))
        if broken:
            subprocess.run(["sh", "-euc", broken], env={"ROOT": str(root)}, check=True)
        (system / "root.squashfs").unlink()
        squeeze = ["-comp", "zstd", "-Xcompression-level", "1", "-b", "256K", "-quiet"]
        made = ["mksquashfs", root, system / "root.squashfs", "-noappend", "-no-progress", *squeeze]
        subprocess.run(made, check=True)
        signing = key or Path(self._built.step("key", "path").stdout.strip())
        maker = [PROJECT / ".venv/bin/python", PROJECT / "image/step/bundle.py"]
        subprocess.run([*maker, system, signing, self._folder / name], check=True)
        shutil.rmtree(folder)
        return name


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
def shelf(folder: Path) -> Iterator[int]:
    """The port of a web server that hands out the folder's files to the guest."""
    handler = partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def box(built: Built, folder: Path) -> Iterator[Machine]:
    with Machine(Card.flash(built.card, folder / "card.img"), folder / "box") as machine:
        machine.wait_until("systemctl is-active edge-agent.service")
        machine.run("echo measured >/data/edge/kept; echo cache >/data/system-a/zwave/kept; sync")
        yield machine


def hand_in(box: Machine, shelf: int, name: str) -> None:
    """As the agent does: the file appears, whole, under the name that systemd watches."""
    box.run("install -d -o edge -g edge -m 700 /data/edge/update")
    fetch = (
        f"import urllib.request as u; u.urlretrieve('http://10.0.2.2:{shelf}/{name}', '/data/p')"
    )
    box.run(f'python3 -c "{fetch}"', 300)
    box.run("mv /data/p /data/edge/update/bundle")


def result(box: Machine) -> dict[str, str]:
    said: dict[str, str] = json.loads(box.run("cat /data/edge/update/result.json"))
    return said


def refused(box: Machine, shelf: int, name: str) -> str:
    box.run("rm -f /data/edge/update/result.json")
    hand_in(box, shelf, name)
    box.wait_until("test -s /data/edge/update/result.json")
    box.wait_until("test ! -e /data/edge/update/bundle")
    said = result(box)
    assert said["outcome"] == "refused", said
    return said["text"]


def test_bad_updates_are_refused_with_a_clear_line(
    box: Machine, maker: Maker, shelf: int, folder: Path
) -> None:
    stranger = folder / "stranger.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", stranger], check=True)
    assert "not signed by the maker" in refused(
        box, shelf, maker.bundle("strangers", 9, key=stranger)
    )
    assert "older than what runs" in refused(box, shelf, maker.bundle("older", -9))
    whole = folder / maker.bundle("good", 10)
    (folder / "cut").write_bytes(whole.read_bytes()[:50_000_000])
    assert "download it again" in refused(box, shelf, "cut")
    assert box.system == "a"


def test_a_good_update_is_tried_and_kept(box: Machine, shelf: int) -> None:
    hand_in(box, shelf, "good")
    assert box.go_on(INSTALL_PATIENCE_S) == "trial"
    assert box.system == "b"
    box.wait_until("systemctl is-active edge-confirm.service && test ! -e /run/edge-trial")
    assert result(box)["outcome"] == "installed"
    assert box.run("cat /data/edge/kept /var/lib/zwave/kept").split() == ["measured", "cache"]
    box.pull_the_plug()
    box.power_on()
    assert box.system == "b", "a confirmed system starts from now on"
    assert json.loads(box.run("cat /usr/lib/edge/release.json"))["release"] == "good"


def test_an_update_whose_agent_does_not_run_is_gone_back_from(
    box: Machine, maker: Maker, shelf: int
) -> None:
    spoil = (
        "cd $ROOT/usr/lib/systemd/system; rm edge-agent.service; mkdir edge-healthy.service.d;"
        "printf '[Service]\\nExecStart=/bin/false\\n' >edge-agent.service;"
        "printf '[Service]\\nTimeoutStartSec=60\\n' >edge-healthy.service.d/hurry.conf"
    )
    hand_in(box, shelf, maker.bundle("spoilt", 20, broken=spoil))
    assert box.go_on(INSTALL_PATIENCE_S) == "trial"
    assert box.system == "a"
    assert box.go_on(INSTALL_PATIENCE_S) == "restart"
    assert box.system == "b"
    box.wait_until("systemctl is-active edge-agent.service")
    assert result(box)["outcome"] == "gone back"
    assert box.run("cat /data/edge/kept /var/lib/zwave/kept").split() == ["measured", "cache"]


def test_an_update_that_does_not_even_start_is_gone_back_from(
    box: Machine, maker: Maker, shelf: int
) -> None:
    hand_in(box, shelf, maker.bundle("dead", 30, broken="rm $ROOT/usr/lib/systemd/systemd"))
    assert box.go_on(INSTALL_PATIENCE_S) == "trial"
    assert box.go_on(INSTALL_PATIENCE_S) == "restart"
    assert box.system == "b"
    box.wait_until("systemctl is-active edge-agent.service")


def test_power_lost_on_trial_ends_in_the_old_system(box: Machine, maker: Maker, shelf: int) -> None:
    hand_in(box, shelf, maker.bundle("unlucky", 40))
    assert box.go_on(INSTALL_PATIENCE_S) == "trial"
    assert box.system == "a"
    box.pull_the_plug()
    box.power_on()
    assert box.system == "b"
    box.wait_until("systemctl is-active edge-agent.service")
