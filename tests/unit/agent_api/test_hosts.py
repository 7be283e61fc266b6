"""The names and addresses the box answers to."""

from pathlib import Path

from edge.agent_api.hosts import own_hosts

FIB_TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 192.168.1.0/24 2 0 2
        |-- 192.168.1.0
           /24 link UNICAST
        |-- 192.168.1.17
           /32 host LOCAL
        |-- 192.168.1.255
           /32 link BROADCAST
"""
IF_INET6 = "fe80000000000000020c29fffe1a2b3c 02 40 20 80     eth0\n"


def test_own_names_and_addresses_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "fib_trie").write_text(FIB_TRIE, encoding="ascii")
    (tmp_path / "if_inet6").write_text(IF_INET6, encoding="ascii")
    hosts = own_hosts("FlexBox", tmp_path)
    assert {"flexbox", "flexbox.local", "localhost", "127.0.0.1", "::1"} <= set(hosts)
    assert "192.168.1.17" in hosts
    assert "fe80::20c:29ff:fe1a:2b3c" in hosts
    assert "192.168.1.255" not in hosts
    assert "evil.example" not in hosts


def test_a_machine_without_these_tables_still_has_its_names(tmp_path: Path) -> None:
    assert "flexbox.local" in own_hosts("flexbox", tmp_path)


def test_a_second_box_of_the_same_name_answers_as_the_house_calls_it(tmp_path: Path) -> None:
    hosts = own_hosts("flexbox", tmp_path)
    assert "flexbox-2.local" in hosts
    assert "flexbox-2.evil.example" not in hosts
