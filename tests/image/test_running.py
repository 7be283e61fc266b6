"""A box that runs already: another one of its name, a drive for its backups."""

from collections.abc import Iterator

import pytest

from tests.image.machine import Machine, Moment, usb_drive

# Another machine in the house that insists on being flexbox.local.
RIVAL = r"""
import socket, struct
name = b"\x07flexbox\x05local\x00"
hears = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
hears.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
hears.bind(("", 5353))
group = socket.inet_aton("224.0.0.251") + socket.inet_aton("10.9.9.2")
hears.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
hears.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.9.9.2"))
hears.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
while True:
    asked, _ = hears.recvfrom(9000)
    if name in asked and not asked[2] & 0x80:
        record = name + struct.pack(">HHIH", 1, 0x8001, 120, 4) + bytes([10, 9, 9, 2])
        answer = struct.pack(">HHHHHH", 0, 0x8400, 0, 1, 0, 0) + record
        hears.sendto(answer, ("224.0.0.251", 5353))
"""


@pytest.fixture(scope="module")
def box(started: Moment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with Machine.at(started, tmp_path_factory.mktemp("running") / "box") as machine:
        yield machine


def test_a_second_box_of_the_same_name_takes_a_free_one_and_answers_to_it(box: Machine) -> None:
    box.run(f"cat >/run/rival.py <<'P'\n{RIVAL}\nP")
    box.run(
        "ip netns add rival; ip link add house0 type veth peer name rival0 netns rival;"
        "ip -n rival addr add 10.9.9.2/24 dev rival0; ip -n rival link set rival0 up;"
        "systemd-run -q --unit=rival ip netns exec rival python3 /run/rival.py; sleep 5;"
        "ip addr add 10.9.9.1/24 dev house0; ip link set house0 up"
    )
    box.wait_until("journalctl -u avahi-daemon --no-pager | grep -q flexbox-2", 300)
    print("\n  " + box.run("journalctl -u avahi-daemon --no-pager -o cat | grep flexbox-2"))
    assert box.get(host="flexbox-2.local")[0] == 200
    assert box.get(host="flexbox-2.example")[0] == 421


def test_the_last_backup_is_copied_to_a_drive(
    box: Machine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    drive = usb_drive(tmp_path_factory.mktemp("drive") / "drive.img", 300)
    place = "/data/edge/backup"
    box.run(f"install -d -o edge -g edge -m 700 {place}; echo sealed >{place}/latest")
    box.plug_in_a_drive(drive.path, writable=True)
    box.wait_until("test -b /dev/sda1")
    box.run("systemctl start edge-backup.service", 300)
    box.pull_out_the_drive()
    assert "flexbox-backup" in " ".join(drive.names(1))
