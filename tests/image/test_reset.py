"""Preparing a card, and making it forget: files that people put on the first partition."""

import mmap
from pathlib import Path

from tests.image.conftest import Built
from tests.image.machine import Card, Machine

PREPARED = """
name = "attic"
claim_code = "CANARY-claim-code"
[wifi]
network = "CANARY-network"
password = "CANARY-wifi-password"
country = "NL"
"""
CANARIES = (b"CANARY-claim-code", b"CANARY-wifi-password", b"CANARY-in-the-store")


def holds(path: Path, text: bytes) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        return whole.find(text) >= 0


def test_a_prepared_card_is_followed_and_a_reset_forgets_all_of_it(
    built: Built, tmp_path: Path
) -> None:
    card = Card.flash(built.card, tmp_path / "card.img")
    card.write(1, "edge.toml", PREPARED.encode())
    with Machine(card, tmp_path) as box:
        box.wait_until("systemctl is-active edge-agent.service")
        assert box.run("hostname") == "attic"
        assert "CANARY-network" in box.run("nmcli -g NAME,802-11-wireless.ssid con show preset")
        assert box.run("stat -c '%a %U' /data/network/preset.nmconnection") == "600 root"
        assert box.run("ls /data/edge/preseed.json 2>/dev/null || echo gone") == "gone"
        left = card_text(box)
        assert "CANARY-claim-code" not in left
        assert "CANARY-wifi-password" not in left
        front = box.run("journalctl -b --no-pager -o cat | grep -c CANARY-[cw] || true")
        assert front == "0"
        box.run("for i in $(seq 200); do echo CANARY-in-the-store; done >/data/edge/notes; sync")
        before = box.run("cat /etc/machine-id; sha256sum /data/edge-keys/edge-key").split()
        # As the page asks for it: the agent leaves this file.
        box.run("systemd-run --no-block sh -c 'sleep 2; touch /data/edge/factory-reset'")
        assert box.go_on() == "restart"
        box.wait_until("systemctl is-active edge-agent.service")
        after = box.run("cat /etc/machine-id; sha256sum /data/edge-keys/edge-key").split()
        assert not {before[0], before[1]} & set(after)
        assert box.run("hostname") == "flexbox"
        box.run("sync")
    assert "edge-reset-factory" not in card.names(1)
    for canary in CANARIES:
        assert not holds(card.path, canary), canary


def test_wishes_in_files_of_imager_are_followed(built: Built, tmp_path: Path) -> None:
    card = Card.flash(built.card, tmp_path / "card.img")
    script = (
        "#!/bin/bash\ntouch /data/was-run\n"
        "/usr/lib/raspberrypi-sys-mods/imager_custom set_hostname cellar\n"
        "/usr/lib/raspberrypi-sys-mods/imager_custom set_wlan 'home' 'secret-word' 'BE'\n"
    )
    card.write(1, "firstrun.sh", script.encode())
    with Machine(card, tmp_path) as box:
        box.wait_until("systemctl is-active edge-identity.service")
        assert box.run("hostname") == "cellar"
        assert "psk=secret-word" in box.run("cat /data/network/preset.nmconnection")
        assert box.try_run("test -e /data/was-run")[0] != 0
        settings = box.run("cat /run/edge-settings/agent.toml")
        assert 'name = "cellar"' in settings
    assert "firstrun.sh" not in card.names(1)


def card_text(box: Machine) -> str:
    """All files of the first partition, as the guest sees them."""
    box.run("mkdir -p /run/look && mount -o ro $(readlink /run/edge-first) /run/look")
    try:
        names = box.run("ls /run/look")
        assert "edge.toml.applied" in names
        return box.run("cat /run/look/edge.toml.applied; ls /run/look")
    finally:
        box.run("umount /run/look")
