import asyncio
import socket
from ipaddress import ip_address

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from edge.uplink.address import AddressRefused, Reach, parse_address, why_not
from edge.uplink.doorman import Doorman

INTERNET, HOME, HOUSE = Reach(), Reach(private=True), Reach(loopback=True)


@pytest.mark.parametrize(
    ("typed", "base"),
    [
        ("flexmeasures.example", "https://flexmeasures.example"),
        (" https://flexmeasures.example/ ", "https://flexmeasures.example"),
        ("https://flexmeasures.example/login", "https://flexmeasures.example"),
        ("https://flexmeasures.example/api/", "https://flexmeasures.example"),
        ("https://example.org:5000/energy", "https://example.org:5000/energy"),
        ("https://[2606:2800:220:1::1]:8443", "https://[2606:2800:220:1::1]:8443"),
    ],
)
def test_address_is_understood_as_people_type_it(typed: str, base: str) -> None:
    assert parse_address(typed, INTERNET).base == base


@pytest.mark.parametrize(
    ("typed", "kind"),
    [
        ("", "bad"),
        ("ftp://flexmeasures.example", "bad"),
        ("file:///etc/passwd", "bad"),
        ("https://", "bad"),
        ("https://[::1", "bad"),
        ("https://host:99999", "bad"),
        ("https://me:secret@flexmeasures.example", "bad"),
        ("https://flexmeasures.example/?next=x", "bad"),
        ("http://flexmeasures.example", "private"),
        ("https://192.168.1.9", "private"),
        ("https://10.0.0.1:5000", "private"),
        ("https://[fd00::1]", "private"),
        ("https://[::ffff:192.168.1.9]", "private"),
        ("https://100.64.1.1", "private"),
        ("https://flexmeasures.example:22", "refused"),
        ("https://localhost", "refused"),
        ("https://a.localhost.", "refused"),
        ("https://127.0.0.1", "refused"),
        ("https://127.1", "refused"),
        ("https://2130706433", "refused"),
        ("https://0x7f000001", "refused"),
        ("https://[::1]", "refused"),
        ("https://[::ffff:127.0.0.1]", "refused"),
        ("https://[64:ff9b::7f00:1]", "refused"),
        ("https://0.0.0.0", "refused"),
        ("https://169.254.169.254", "refused"),
        ("https://[fe80::1]", "refused"),
        ("https://224.0.0.1", "refused"),
    ],
)
def test_address_that_is_none_is_refused_in_words(typed: str, kind: str) -> None:
    with pytest.raises(AddressRefused) as caught:
        parse_address(typed, INTERNET)
    assert caught.value.kind == kind
    assert "secret" not in str(caught.value)


def test_ticking_opens_the_own_network_and_nothing_more() -> None:
    assert parse_address("http://192.168.1.9:5000", HOME).host == "192.168.1.9"
    for never in ("http://127.0.0.1", "http://169.254.169.254", "http://[::1]:5000"):
        with pytest.raises(AddressRefused):
            parse_address(never, HOME)


def test_loopback_needs_the_flag_of_the_simulated_house() -> None:
    assert parse_address("http://127.0.0.1:43210", HOUSE).base == "http://127.0.0.1:43210"
    with pytest.raises(AddressRefused):
        parse_address("https://192.168.1.9", HOUSE)


class Names(AbstractResolver):
    """A resolver that answers what it was told."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self.addresses
        ]

    async def close(self) -> None:
        pass


async def resolved(reach: Reach, *addresses: str) -> list[str]:
    return [found["host"] for found in await Doorman(reach, Names(*addresses)).resolve("name")]


async def test_name_that_leads_home_is_refused_at_each_connection() -> None:
    for inside in ("127.0.0.1", "192.168.1.9", "169.254.169.254", "::1", "::ffff:10.0.0.1"):
        with pytest.raises(AddressRefused, match="name"):
            await resolved(INTERNET, inside)
    assert await resolved(HOME, "192.168.231.77") == ["192.168.231.77"]


async def test_only_the_permitted_addresses_of_a_name_are_used() -> None:
    assert await resolved(INTERNET, "127.0.0.1", "93.184.215.14") == ["93.184.215.14"]


async def test_an_address_of_this_machine_is_the_box_itself() -> None:
    own = next(iter(_own_addresses()), None)
    if own is not None:
        with pytest.raises(AddressRefused, match="the box itself"):
            await resolved(Reach(private=True), own)
    with pytest.raises(AddressRefused, match="the box itself"):
        await resolved(Reach(private=True), "127.0.0.2")


def _own_addresses() -> list[str]:
    """Addresses of this machine beside loopback; sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return []
        return [probe.getsockname()[0]]


@pytest.mark.parametrize("public", ["93.184.215.14", "2606:2800:220:1::1", "::ffff:93.184.215.14"])
def test_public_addresses_need_no_tick(public: str) -> None:
    assert why_not(ip_address(public), INTERNET) is None


async def test_a_name_that_changes_its_mind_is_refused_at_the_connection() -> None:
    """DNS rebinding: public when it is looked at, the box itself when it is called."""
    knocked: list[object] = []

    async def inside(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        knocked.append(writer.get_extra_info("peername"))
        writer.close()

    listening = await asyncio.start_server(inside, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    turncoat = Names("93.184.215.14")
    doorman = Doorman(INTERNET, turncoat)
    assert await doorman.resolve("name.example")
    turncoat.addresses = ("127.0.0.1",)
    connector = aiohttp.TCPConnector(resolver=doorman, use_dns_cache=False)
    async with aiohttp.ClientSession(connector=connector) as session:
        with pytest.raises(AddressRefused, match="the box itself"):
            await session.get(f"http://name.example:{port}/")
    listening.close()
    assert knocked == []


def test_the_box_s_own_address_is_refused_as_a_number_too() -> None:
    for own in _own_addresses():
        with pytest.raises(AddressRefused, match="the box itself"):
            parse_address(f"https://{own}", HOME)
