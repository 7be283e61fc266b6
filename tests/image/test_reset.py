"""Preparing a card, and making it forget: files that people put on the first partition.

One prepared card lives through most of this file, on a board without battery clock in a house that
blocks time servers: its settings are followed, the time comes from a web server, its password is
forgotten, then everything.
"""

import json
import mmap
import select
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.house.flexmeasures import FlexMeasuresServer
from tests.image import watcher
from tests.image.conftest import Built
from tests.image.home import port_of_a_web_server
from tests.image.machine import Card, Machine
from tests.image.shelf import HOST, put, shelf_server, trust

PREPARED = """
name = "attic"
claim_code = "CANARY-claim-code"
[wifi]
network = "CANARY-network"
password = "CANARY-wifi-password"
country = "NL"
[flexmeasures]
url = "http://{address}"
email = "box@house.example"
password = "CANARY-account-password"
"""
IMAGERS_SCRIPT = """#!/bin/bash
touch /data/was-run
/usr/lib/raspberrypi-sys-mods/imager_custom set_hostname cellar
/usr/lib/raspberrypi-sys-mods/imager_custom set_wlan 'home' 'secret-word' 'BE'
"""
SECRETS = (b"CANARY-claim-code", b"CANARY-wifi-password", b"CANARY-account-password")
IN_THE_STORE = b"CANARY-in-the-store"
PASSWORD = "correct horse battery"
EMAIL = "box@house.example"
KEPT_TIME = "/var/lib/systemd/timesync/clock"
PAIRED_WITHIN_S = 600.0


def holds(path: Path, text: bytes) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        return whole.find(text) >= 0


@pytest.fixture(scope="module")
def account_port() -> int:
    """Where the prepared card says that FlexMeasures is."""
    return port_of_a_web_server()


@pytest.fixture(scope="module")
def box(
    built: Built, tmp_path_factory: pytest.TempPathFactory, account_port: int
) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("prepared")
    card = Card.flash(built.card, folder / "card.img")
    card.write(1, "edge.toml", PREPARED.format(address=f"{HOST}:{account_port}").encode())
    with Machine(card, folder, clock="1970-01-01", names=False) as machine:
        machine.name = "attic"
        machine.wait_for_page()
        yield machine


def test_a_prepared_card_is_followed_once_and_its_secrets_are_taken_out(box: Machine) -> None:
    assert box.run("hostname") == "attic"
    assert "CANARY-network" in box.run("nmcli -g 802-11-wireless.ssid con show preset")
    assert box.run("stat -c '%a %U' /data/network/preset.nmconnection") == "600 root"
    assert box.run("ls /data/edge/preseed.json 2>/dev/null || echo gone") == "gone"
    left = files_for_people(box)
    assert "edge.toml.applied" in left
    assert "\nedge.toml\n" not in left
    assert "network = " in left
    for secret in SECRETS:
        assert secret.decode() not in left
    assert box.run("journalctl -b --no-pager -o cat | grep -c 'CANARY-[acw]' || true") == "0"
    for place in ("/data/edge", "/data/edge-keys", "/run/edge"):
        found = box.run(f"grep -rlE '{b'|'.join(SECRETS).decode()}' {place} || true")
        assert not found, found


def test_a_clock_without_battery_is_set_by_a_web_server_and_the_prepared_account_pairs(
    built: Built, box: Machine, tmp_path: Path, account_port: int
) -> None:
    release = json.loads((built.system / "release.json").read_text())
    floor = datetime.fromtimestamp(release["version"], UTC)
    shown = guest_time(box)
    print(f"\n  floor {floor:%F %T}, the box's clock {shown:%F %T}, ours {datetime.now(UTC):%F %T}")
    assert floor <= shown < floor + timedelta(hours=1)
    certificate = tmp_path / "shelf.pem"
    with (
        shelf_server(tmp_path, certificate) as address,
        socket.create_server(("127.0.0.1", account_port)) as early,
    ):
        trust(box, certificate, "edge-clock.service")
        put(box, address, "/usr/lib/edge/release-address")
        watcher.begin(box)
        assert watcher.status(box)["clock"]["trusted"] is False
        called, _, _ = select.select([early], [], [], 0)
        assert not called, "nothing leaves the box before it knows the time"
        box.run("systemctl start edge-clock.service", 300)
        assert abs(guest_time(box) - datetime.now(UTC)) < timedelta(seconds=30)
    with FlexMeasuresServer(port=account_port) as server:
        password = "CANARY-account-password"
        server.ensure_user("House", EMAIL, password, admin=True)
        end = time.monotonic() + PAIRED_WITHIN_S
        while not (paired := watcher.status(box))["flexmeasures"]["paired"]:
            assert time.monotonic() < end, paired
            time.sleep(2)
    assert paired["clock"]["trusted"] is True
    assert paired["flexmeasures"]["paired_as"] == EMAIL
    assert paired["flexmeasures"]["site"] == "attic"


def test_a_forgotten_password_is_forgotten_by_the_box_too_and_nothing_else(box: Machine) -> None:
    assert box.post("/claim", password=PASSWORD, code="wrong-code")[0] == 403
    assert box.post("/claim", password=PASSWORD, code="CANARY-claim-code")[0] == 303
    assert box.get("/")[0] == 200
    assert box.post("/log-in", password=PASSWORD)[0] == 303
    plant(box)
    before = identity(box)
    known = datetime.fromtimestamp(int(box.run(f"stat -c %Y {KEPT_TIME}")), UTC)
    assert abs(known - datetime.now(UTC)) < timedelta(minutes=20)
    box.pull_the_plug()
    box.card.write(1, "edge-reset-password", b"")
    box.power_on()
    box.wait_for_page()
    assert "edge-reset-password" not in files_for_people(box)
    status, where = box.post("/log-in", password=PASSWORD)
    assert status != 303, where
    assert 'action="/claim"' in box.get("/claim")[1]
    assert box.run("head -1 /data/edge/notes; hostname").split() == [IN_THE_STORE.decode(), "attic"]
    assert identity(box) == before
    watcher.begin(box)
    assert watcher.status(box)["flexmeasures"]["paired"] is True
    # A restart begins where the last one ended, not at the image's date.
    assert guest_time(box) >= known


def test_a_factory_reset_leaves_nothing_on_the_whole_card(box: Machine) -> None:
    plant(box)
    before = identity(box)
    assert holds(box.card.path, IN_THE_STORE)
    # As the page asks for it: the agent leaves this file.
    box.run("systemd-run --no-block sh -c 'sleep 2; touch /data/edge/factory-reset'")
    assert box.wait_ended() == "restart"
    box.card.write(1, "firstrun.sh", IMAGERS_SCRIPT.encode())  # for the test after this one
    box.power_on()
    box.name = "cellar"
    box.wait_for_page()
    assert 'action="/claim"' in box.get("/claim")[1]
    watcher.begin(box)
    assert watcher.status(box)["flexmeasures"]["paired"] is False
    assert not set(before) & set(identity(box))
    left = files_for_people(box)
    assert "edge-reset-factory" not in left
    assert "edge.toml.applied" not in left
    box.run("sync")
    with box.frozen():
        for canary in (*SECRETS, IN_THE_STORE):
            assert not holds(box.card.path, canary), canary


def test_wishes_in_files_of_imager_are_followed(box: Machine) -> None:
    assert box.run("hostname") == "cellar"
    assert "psk=secret-word" in box.run("cat /data/network/preset.nmconnection")
    assert box.try_run("test -e /data/was-run")[0] != 0
    box.wait_until("""edge status --json | grep -qE '"name": ?"cellar"'""")
    assert "firstrun.sh" not in files_for_people(box)


def plant(box: Machine) -> None:
    """Something of the house's, among the agent's own files."""
    box.run(f"for i in $(seq 200); do echo {IN_THE_STORE.decode()}; done >/data/edge/notes; sync")


def identity(box: Machine) -> list[str]:
    """What makes this box itself."""
    said = box.run("cat /etc/machine-id; sha256sum </data/edge-keys/edge-key")
    return [line.split()[0] for line in said.splitlines()]


def guest_time(box: Machine) -> datetime:
    return datetime.fromtimestamp(int(box.run("date +%s")), UTC)


def files_for_people(box: Machine) -> str:
    """Names and texts on the first partition, as the guest sees them."""
    box.run("mkdir -p /run/look && mount -o ro $(readlink /run/edge-first) /run/look")
    try:
        return box.run("ls /run/look; cat /run/look/edge.toml.applied 2>/dev/null || true")
    finally:
        box.run("umount /run/look")
