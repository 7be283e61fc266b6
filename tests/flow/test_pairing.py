"""Pairing with a real FlexMeasures: found or made once, never twice."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge.errors import EdgeError, Refused
from edge.model import Channel, Device, DeviceState, Direction, Kind, Quantity, Sensor, Slot, Term
from edge.store.outbox import OutboxSlot, SlotState
from edge.uplink.address import Reach, parse_address
from edge.uplink.connection import BadCertificate
from edge.uplink.flexmeasures import FlexMeasures
from edge.uplink.mapping import Feed, default_mapping, sensors_from_json, sensors_to_json
from edge.uplink.pairing import ClockNotSet, Pairing, SiteWish, StillHeard, look, pair
from edge.uplink.session import NoRights
from edge.uplink.trouble import trouble_of
from tests.house.fake_clock import FakeClock
from tests.house.flexmeasures import Account, FlexMeasuresServer

HOUSE = Reach(loopback=True)
HOME = SiteWish(name="Home")


def channel(device: str, endpoint: str, quantity: Quantity, **more: object) -> Channel:
    kind = Kind.COUNTER if quantity is not Quantity.ACTIVE_POWER else Kind.INSTANTANEOUS
    return Channel("zwave", device, endpoint, quantity, kind, **more)  # type: ignore[arg-type]


CHANNELS = [
    channel("7", "1", Quantity.ACTIVE_POWER),
    channel("7", "2", Quantity.ACTIVE_POWER),
    channel("7", "2", Quantity.ACTIVE_POWER, direction=Direction.EXPORT),
    channel("9", "0", Quantity.ACTIVE_POWER),
    channel("9", "1", Quantity.GAS, report_interval=timedelta(hours=1)),
    channel("9", "1", Quantity.WATER),
]
BY_KEY = {each.key: each for each in CHANNELS}
DEVICES = [
    Device("zwave", "7", "Meter", "ZW095", DeviceState.ALIVE),
    Device("zwave", "9", "Meter", "ZW175", DeviceState.ALIVE),
]

type Client = Callable[[Account], FlexMeasures]


@pytest.fixture
async def clients(flexmeasures_server: FlexMeasuresServer) -> AsyncIterator[Client]:
    opened: list[FlexMeasures] = []

    def client(user: Account) -> FlexMeasures:
        address = parse_address(flexmeasures_server.url, HOUSE)
        opened.append(FlexMeasures(address, user.email, lambda: user.password, FakeClock()))
        return opened[-1]

    yield client
    for each in opened:
        await each.close()


async def paired(
    client: FlexMeasures,
    box: str = "box-1",
    wish: SiteWish = HOME,
    feeds: list[Feed] | None = None,
    known: tuple[Sensor, ...] = (),
) -> Pairing:
    wanted = default_mapping(CHANNELS) if feeds is None else feeds
    return await pair(client, box, wish, DEVICES, wanted, BY_KEY, FakeClock(), known)


async def test_every_channel_gets_its_sensor_below_the_site(
    clients: Client, owner: Account
) -> None:
    client = clients(owner)
    pairing = await paired(client)
    assert pairing.refused == ()
    assets = {asset.asset_id: asset for asset in await client.assets()}
    assert sorted((assets[s.asset_id].name, s.name, s.unit) for s in pairing.sensors) == [
        ("Meter", "electricity-power 1", "kW"),
        ("Meter", "electricity-power 2", "kW"),
        ("Meter 2", "electricity-power", "kW"),
        ("Meter 2", "gas 1", "m³"),
        ("Meter 2", "water 1", "m³"),
    ]
    assert {assets[s.asset_id].parent_id for s in pairing.sensors} == {pairing.site.asset_id}


async def test_pairing_again_finds_everything_and_makes_nothing(
    clients: Client, owner: Account
) -> None:
    client = clients(owner)
    first = await paired(client)
    assets = await client.assets()
    again = await paired(clients(owner))  # the card was lost: nothing is known
    third = await paired(client, known=first.sensors)
    assert first.sensors == again.sensors == third.sensors
    assert await client.assets() == assets
    assert sensors_from_json(sensors_to_json(first.sensors)) == list(first.sensors)


async def test_plain_user_pairs_with_a_site_that_is_there(
    clients: Client, owner: Account, flexmeasures_server: FlexMeasuresServer
) -> None:
    user = await asyncio.to_thread(flexmeasures_server.make_user, owner)
    with pytest.raises(NoRights, match="choose one that is there") as caught:
        await paired(clients(user))
    assert trouble_of(caught.value) == "fm_no_rights"
    site = (await paired(clients(owner), feeds=[])).site
    seen = await look(clients(user), "box-1", FakeClock())
    assert [choice.asset.asset_id for choice in seen.choices] == [site.asset_id]
    assert not seen.may_create
    made = await paired(clients(user), wish=SiteWish(asset_id=site.asset_id))
    assert len(made.sensors) == 5


async def test_homes_below_another_asset_can_be_chosen_and_devices_cannot(
    clients: Client, owner: Account
) -> None:
    client = clients(owner)
    types = await client.asset_types()
    made: dict[str, int] = {}
    for name, kind, parent in [
        ("Street", "building", None),
        ("Number 1", "building", "Street"),
        ("Battery", "battery", "Street"),
    ]:
        asset = await client.create_asset(
            name, types[kind], owner.account_id, parent_id=made.get(parent or "")
        )
        made[name] = asset.asset_id
    pairing = await paired(client, wish=SiteWish(asset_id=made["Number 1"]))
    assert pairing.site.name == "Number 1"
    seen = await look(client, "box-1", FakeClock())
    assert {choice.asset.name for choice in seen.choices} == {"Street", "Number 1"}
    assert (await paired(client, wish=SiteWish(asset_id=made["Number 1"]))).sensors == (
        pairing.sensors
    )


async def test_assets_of_a_dead_box_are_adopted_and_nothing_is_doubled(
    clients: Client, owner: Account
) -> None:
    client = clients(owner)
    dead = await paired(client, "box-dead")
    seen = await look(client, "box-new", FakeClock())
    assert [choice.left_by for choice in seen.choices] == [{"box-dead"}]
    assert not seen.choices[0].still_heard
    wish = SiteWish(asset_id=dead.site.asset_id, adopt=True)
    heir = await paired(client, "box-new", wish)
    assert heir.sensors == dead.sensors
    assert len(await client.assets()) == 3
    assert (await look(client, "box-new", FakeClock())).choices[0].left_by == frozenset()


async def test_box_that_sends_is_not_robbed_unless_somebody_knows(
    clients: Client, owner: Account
) -> None:
    """Also where it began to send only after somebody looked."""
    client = clients(owner)
    alive = await paired(client, "box-alive")
    lately = FakeClock().wall_now() - timedelta(minutes=10)
    slot = Slot(alive.sensors[0].sensor_id, lately, timedelta(minutes=5), 1.5)
    waiting = OutboxSlot(1, slot, None, SlotState.WAITING, 0, None, None, None)
    await client.post_slots(alive.sensors[0], [waiting])
    assert (await look(client, "box-new", FakeClock())).choices[0].still_heard
    wish = SiteWish(asset_id=alive.site.asset_id, adopt=True)
    before = await client.assets()
    with pytest.raises(StillHeard) as caught:
        await paired(client, "box-new", wish)
    assert trouble_of(caught.value) == "fm_box_lives"
    assert await client.assets() == before
    heir = await paired(client, "box-new", replace(wish, although_heard=True))
    assert heir.sensors == alive.sensors


async def test_two_boxes_in_one_site_keep_apart(clients: Client, owner: Account) -> None:
    client = clients(owner)
    one, two = await paired(client, "box-1"), await paired(client, "box-2")
    assert one.site.asset_id == two.site.asset_id
    assert not {s.sensor_id for s in one.sensors} & {s.sensor_id for s in two.sensors}


async def test_sensor_deleted_on_the_server_is_made_anew(clients: Client, owner: Account) -> None:
    client = clients(owner)
    first = await paired(client)
    gone = tuple(replace(sensor, sensor_id=10**6) for sensor in first.sensors)
    assert (await paired(client, known=gone)).sensors == first.sensors


async def test_existing_sensor_keeps_unit_sign_and_resolution(
    clients: Client, owner: Account
) -> None:
    client = clients(owner)
    site = (await paired(client, feeds=[])).site
    quarter = timedelta(minutes=15)
    theirs = await client.create_sensor(site.asset_id, "mains", "MW", quarter, {})
    feed = replace(default_mapping(CHANNELS)[1], sensor_id=theirs.sensor_id)
    (sensor,) = (await paired(client, feeds=[feed])).sensors
    assert (sensor.unit, sensor.event_resolution) == ("MW", quarter)
    assert [term.sign for term in sensor.terms] == [-1, 1]  # it counts production positive
    assert not sensor.created_by_box


@pytest.mark.parametrize(
    ("unit", "resolution", "reason"),
    [
        ("°C", timedelta(minutes=5), "is no '°C'"),
        ("EUR/kWh", timedelta(minutes=5), "cannot compute the unit 'EUR/kWh'"),
        ("kW", timedelta(0), "instantaneous"),
    ],
)
async def test_existing_sensor_that_does_not_fit_is_refused_with_the_reason(
    clients: Client, owner: Account, unit: str, resolution: timedelta, reason: str
) -> None:
    client = clients(owner)
    site = (await paired(client, feeds=[])).site
    theirs = await client.create_sensor(site.asset_id, "theirs", unit, resolution, {})
    feed = Feed("zwave/9", "x", "kW", resolution, (Term(CHANNELS[3].key),), theirs.sensor_id)
    pairing = await paired(client, feeds=[feed])
    assert pairing.sensors == ()
    assert reason in pairing.refused[0]


async def test_clock_that_is_not_trusted_pairs_nothing(clients: Client, owner: Account) -> None:
    with pytest.raises(ClockNotSet) as caught:
        await look(clients(owner), "box-1", FakeClock(trusted=False))
    assert trouble_of(caught.value) == "fm_clock"


@pytest.mark.parametrize(
    ("email", "word"), [("", "fm_wrong_password"), ("nobody@example.com", "fm_unknown_user")]
)
async def test_wrong_log_in_says_which_half_is_wrong(
    clients: Client, owner: Account, email: str, word: str
) -> None:
    stranger = replace(owner, email=email or owner.email, password="wrong")
    with pytest.raises(Refused) as caught:
        await look(clients(stranger), "box-1", FakeClock())
    assert trouble_of(caught.value) == word


async def test_site_that_is_not_shown_is_refused(clients: Client, owner: Account) -> None:
    with pytest.raises(Refused, match="shows no site 1000000"):
        await paired(clients(owner), wish=SiteWish(asset_id=10**6))


@pytest.mark.parametrize(
    ("typed", "word"),
    [
        ("https://no-such-host.invalid", "fm_no_host"),
        ("http://127.0.0.1:{closed}", "fm_unreachable"),
        ("https://127.0.0.1:{plain}", "fm_certificate"),
        ("http://127.0.0.1:{plain}", "fm_not_flexmeasures"),
    ],
)
async def test_wrong_address_says_what_is_wrong(
    clients: Client, owner: Account, typed: str, word: str
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\nContent-Type: text/html\r\n\r\n")
        writer.write(b"<h1>Router</h1>")
        writer.close()

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = unused.getsockname()[1]
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        plain = server.sockets[0].getsockname()[1]
        address = parse_address(typed.format(closed=closed, plain=plain), HOUSE)
        async with FlexMeasures(address, owner.email, lambda: "", FakeClock()) as client:
            with pytest.raises(EdgeError) as caught:
                await look(client, "box-1", FakeClock())
    assert trouble_of(caught.value) == word


@pytest.mark.parametrize("version", ["0.32.1", "2.0.0", "nightly"])
async def test_flexmeasures_of_an_unknown_version_is_refused_by_its_number(
    owner: Account, version: str
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        said = b'{"versions": ["v3_0"]}'
        about = f"Content-Length: {len(said)}\r\nFlexMeasures-Version: {version}\r\n"
        writer.write(f"HTTP/1.1 200 OK\r\n{about}Content-Type: application/json\r\n\r\n".encode())
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        address = parse_address(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", HOUSE)
        async with FlexMeasures(address, owner.email, lambda: "", FakeClock()) as client:
            with pytest.raises(EdgeError, match=version) as caught:
                await look(client, "box-1", FakeClock())
    assert trouble_of(caught.value) == "fm_unsupported_version"


async def test_certificate_that_proves_nothing_is_refused(owner: Account, tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path / "certificate.pem"))
    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        address = parse_address(f"https://127.0.0.1:{port}", HOUSE)
        async with FlexMeasures(address, owner.email, lambda: "", FakeClock()) as client:
            with pytest.raises(BadCertificate, match="self-signed certificate") as caught:
                await look(client, "box-1", FakeClock())
    assert trouble_of(caught.value) == "fm_certificate"


def self_signed(path: Path) -> Path:
    """Write a key and a certificate that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    content = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(content + certificate.public_bytes(pem))
    return path
