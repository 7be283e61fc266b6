"""Which FlexMeasures addresses the box may speak to.

The address is typed by a person, and the box stands inside the house: without these rules it could
be made to knock on the router, on itself or on a neighbour's NAS. They are applied to the address
as typed and again to every address its name resolves to, at each connection (doorman.py).
"""

import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from edge.errors import Refused

type IPAddress = IPv4Address | IPv6Address

_TRANSLATED = IPv6Network("64:ff9b::/96")  # NAT64: an IPv4 address in its last four bytes
# Where web servers are, not databases.
_PORTS = (range(80, 81), range(443, 444), range(5000, 6000), range(8000, 9000))


class AddressRefused(Refused):
    """The address is none the box may speak to; the message says why and what helps.

    `kind`: "bad" (no address), "private" (ticking helps) or "refused" (never).
    """

    def __init__(self, message: str, kind: str = "bad") -> None:
        super().__init__(message)
        self.kind = kind


_PRIVATE = "lies in a private network; tick that the server stands in your own network"


@dataclass(frozen=True, slots=True)
class Reach:
    """`private`: the person ticked that the server stands in their own network. `loopback`: the
    simulated house started the box so; no image does."""

    private: bool = False
    loopback: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    """An address that passed the rules: `base` without a slash at its end."""

    base: str
    host: str
    reach: Reach


def parse_address(typed: str, reach: Reach) -> Address:
    """Understand what a person typed. Raises AddressRefused.

    A bare host means https. Plain http is taken inside the own network only, because the password
    would cross the internet in the open.
    """
    text = typed.strip()
    if "://" not in text:
        text = f"https://{text}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise AddressRefused("this is not an address of the web") from None
    if parts.scheme not in ("https", "http") or not host:
        raise AddressRefused("this is not an address of the web")
    if parts.username or parts.password:
        raise AddressRefused("leave name and password out of the address")
    if parts.query or parts.fragment:
        raise AddressRefused("the address of the server is enough, without ? or #")
    if parts.scheme == "http" and not (reach.private or reach.loopback):
        raise AddressRefused(
            "plain http would show the password to everyone on the way; use https, or tick that"
            " the server stands in your own network",
            "private",
        )
    if port is not None and not any(port in ports for ports in _PORTS) and not reach.loopback:
        raise AddressRefused(f"port {port} is none that FlexMeasures is served on", "refused")
    literal = as_ip(host)
    if literal is not None and (reason := why_not(literal, reach)):
        raise AddressRefused(f"{host} {reason}", kind_of(reason))
    if literal is not None and not literal.is_loopback and is_own(literal):
        raise AddressRefused(f"{host} is the box itself", "refused")  # no resolver will look
    if literal is None and host.rstrip(".").endswith("localhost") and not reach.loopback:
        raise AddressRefused(f"{host} is the box itself", "refused")
    path = parts.path.rstrip("/").removesuffix("/api").removesuffix("/login")
    return Address(f"{parts.scheme}://{parts.netloc}{path}", host, reach)


def why_not(address: IPAddress, reach: Reach) -> str | None:
    """What speaks against this address; None where the box may speak to it."""
    address = _inner(address)
    if address.is_loopback:
        return None if reach.loopback else "is the box itself"
    if (
        address.is_unspecified
        or address.is_multicast
        or address.is_link_local
        or (address.is_reserved and not address.is_global)
    ):
        return "is no address of a server"
    if address.is_global:
        return None
    if reach.private:
        return None
    return _PRIVATE


def kind_of(reason: str) -> str:
    return "private" if reason == _PRIVATE else "refused"


def as_ip(host: str) -> IPAddress | None:
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        # Resolvers also read 0x7f.1, 2130706433 and 127.1 as addresses.
        try:
            return IPv4Address(socket.inet_aton(host))
        except OSError:
            return None


def _inner(address: IPAddress) -> IPAddress:
    """The IPv4 address that an IPv6 address stands for, if any."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address.sixtofour:
            return address.sixtofour
        if address in _TRANSLATED:
            return IPv4Address(address.packed[-4:])
    return address


def is_own(address: IPAddress) -> bool:
    """Whether this machine itself answers there: only own addresses can be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True
