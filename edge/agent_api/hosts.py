"""Under which names and addresses a browser may call the box: the answer to DNS rebinding.

A foreign name that is made to point at the box still arrives with its own name in the Host
header. Only our host name (bare, .local and as routers hand it out) and our own addresses pass.
"""

import ipaddress
import socket
from pathlib import Path

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ROUTER_SUFFIXES = ("local", "lan", "home", "fritz.box", "home.arpa")
# avahi calls a second box of the same name flexbox-2.local, and tells only the house.
_TAKEN_SUFFIXES = range(2, 10)
_HOSTS_MAX = 64  # names and addresses of a box with several networks


def own_hosts(name: str, proc_net: Path = Path("/proc/self/net")) -> list[str]:
    """Every host a request may name, in lower case, without port or brackets."""
    names = {name.lower(), socket.gethostname().lower().partition(".")[0]}
    found = [*_LOOPBACK]
    for each in sorted(names):
        found += [each, *(f"{each}.{suffix}" for suffix in _ROUTER_SUFFIXES)]
        found += [f"{each}-{number}.local" for number in _TAKEN_SUFFIXES]
    found += sorted(_own_ipv4(proc_net / "fib_trie") | _own_ipv6(proc_net / "if_inet6"))
    return list(dict.fromkeys(found))[:_HOSTS_MAX]


def _own_ipv4(table: Path) -> set[str]:
    """The addresses the kernel's routing table calls local (proc(5))."""
    found: set[str] = set()
    last = ""
    for line in _lines(table):
        if "|-- " in line:
            last = line.rpartition("|-- ")[2].strip()
        elif "host LOCAL" in line and last:
            found.add(last)
    return found


def _own_ipv6(table: Path) -> set[str]:
    """Each line begins with 32 hex digits of an address of ours (proc(5))."""
    return {
        str(ipaddress.IPv6Address(bytes.fromhex(line.split()[0])))
        for line in _lines(table)
        if line.strip()
    }


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
