"""The image on an emulated board: it starts, answers, locks its doors, and starts again."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.conftest import Built
from tests.image.machine import Card, Machine, Moment

# The page, mDNS, and DHCP's answers (held by NetworkManager while it has a lease).
MAY_LISTEN = {("tcp", 80), ("tcp", 443), ("udp", 5353), ("udp", 68), ("udp", 546)}
LAMPS = {  # the agent's word: what the kernel then does with the lamp
    "unclaimed": ("heartbeat", ""),
    "healthy": ("default-on", ""),
    "offline": ("timer", "100 1900"),
    "person": ("timer", "125 125"),
}


@pytest.fixture(scope="module")
def box(started: Moment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A fresh card after its first start; stays on for this file's tests."""
    with Machine.at(started, tmp_path_factory.mktemp("boot")) as machine:
        yield machine


def test_the_data_partition_took_the_whole_card(box: Machine) -> None:
    box.wait_until("systemctl is-active edge-grow-data.service")
    size_mib = int(box.run("df --output=size -BM /data | tail -1").strip().rstrip("M"))
    card_mib = box.card.path.stat().st_size // 1024**2
    assert size_mib > (card_mib - 1220) * 0.95


def test_only_the_allowed_ports_are_open(box: Machine) -> None:
    for line in box.run("ss -Hlntu").splitlines():
        kind, _, _, _, local, *_ = line.split()
        address, _, port = local.rpartition(":")
        if address.startswith(("127.", "[::1]")):
            continue
        named = box.run(f"ss -Hlntup sport = :{port}")
        # avahi asks from a port of its own; the firewall lets nothing in there.
        assert (kind, int(port)) in MAY_LISTEN or "avahi-daemon" in named, line


def test_the_firewall_lets_in_the_page_and_its_name_alone(box: Machine) -> None:
    rules = box.run("nft list chain inet box input")
    assert "policy drop" in rules
    accepted = set(re.findall(r"(tcp|udp) dport (\d+) accept", rules))
    assert accepted == {
        ("tcp", "80"),
        ("tcp", "443"),
        ("udp", "5353"),
        ("udp", "68"),
        ("udp", "546"),
    }


def test_the_root_cannot_be_written(box: Machine) -> None:
    assert box.try_run("touch /usr/touched")[0] != 0
    assert box.try_run("touch /etc/touched")[0] != 0


def test_the_log_lies_in_memory_and_a_watchdog_watches(box: Machine) -> None:
    assert box.run("ls /var/log/journal 2>/dev/null || echo none") in {"none", ""}
    assert box.run("cat /sys/class/watchdog/watchdog0/state") == "active"
    assert "zram0" in box.run("cat /proc/swaps")


def test_keys_lie_sealed_on_the_card(box: Machine) -> None:
    for name in ("edge-key", "driver.json"):
        assert box.try_run(f"grep -q securityKeys /data/edge-keys/{name}")[0] != 0
    opened = box.run("systemd-creds decrypt --name=driver.json /data/edge-keys/driver.json -")
    assert len(json.loads(opened)["securityKeys"]) == 4
    assert box.run("stat -c %a /data/edge-keys /data/edge").split() == ["700", "700"]


def test_the_page_cannot_reach_what_is_the_agents(box: Machine) -> None:
    box.wait_for_page()
    page = box.run("systemctl show -p MainPID --value edge-setup.service")
    assert box.try_run(f"nsenter -t {page} -m ls /var/lib/edge/state.db")[0] != 0
    listed = box.run(f"nsenter -t {page} -n ip -br -c=never link").splitlines()
    assert [line.split()[0] for line in listed] == ["lo"]


def test_the_lamp_follows_the_agents_word(box: Machine) -> None:
    """A keyboard's light stands in for the board's lamp, which is not emulated."""
    box.plug_a_keyboard()
    box.wait_until("ls /sys/class/leds | grep -q numlock")
    box.run(
        "mkdir -p /run/leds && ln -s $(readlink -f /sys/class/leds/*numlock) /run/leds/ACT && "
        "mount --bind /run/leds /sys/class/leds"
    )
    for word, (trigger, times) in LAMPS.items():
        box.run(f"echo {word} >/run/edge/lamp.new && mv /run/edge/lamp.new /run/edge/lamp")
        box.wait_until(f"grep -qF '[{trigger}]' /run/leds/ACT/trigger")
        if times:
            box.wait_until(
                f'test "$(cd /run/leds/ACT; echo $(cat delay_on delay_off))" = "{times}"'
            )
    box.run("umount /sys/class/leds")


def test_a_restart_keeps_the_boxs_identity(box: Machine) -> None:
    before = box.run("cat /etc/machine-id; sha256sum /data/edge-keys/edge-key")
    box.run("touch /var/forgotten; systemctl --no-block reboot")
    assert box.go_on() == "restart"
    seconds = box.wait_for_page()
    print(f"\n  later start: page after {seconds:.0f} s")
    box.settle()
    assert box.run("cat /etc/machine-id; sha256sum /data/edge-keys/edge-key") == before
    assert box.try_run("test -e /var/forgotten")[0] != 0


def test_a_power_cut_and_no_network_are_no_reason_not_to_start(box: Machine) -> None:
    box.run("touch /data/edge/kept; sync /data/edge/kept")
    box.pull_the_plug()
    box.network = False
    box.power_on()
    box.settle()
    box.run("test -e /data/edge/kept")
    assert box.run("systemctl is-active edge-agent.service") == "active"
    box.network = True


def test_two_boxes_have_nothing_in_common(built: Built, box: Machine, tmp_path: Path) -> None:
    mine = box.run("cat /etc/machine-id; cat /data/edge-keys/*")
    box.power_off()
    with Machine(Card.flash(built.card, tmp_path / "card.img"), tmp_path) as other:
        other.wait_until("test -s /data/edge-keys/driver.json")
        theirs = other.run("cat /etc/machine-id; cat /data/edge-keys/*")
    assert not set(mine.splitlines()) & set(theirs.splitlines())
