"""A device that came back under another number takes the place of the one that is gone."""

from collections.abc import Sequence

import pytest

from edge.agent_api.inheritance import Inheritance
from edge.agent_api.refusals import NotAllowed
from edge.contract.setup import GoneDevice
from edge.errors import Refused
from edge.intake import ReadingIntake
from edge.model import Channel, Device, DeviceState, Kind, Quantity, Sensor, Term
from edge.uplink.mapping import EVENT_RESOLUTION, moved
from tests.house.fake_clock import FakeClock
from tests.house.paper_notebook import PaperNotebook

THERE, GONE, UNFED = "7e570001-3", "7e570001-9", "7e570001-8"


def power(device: str, name: str) -> Channel:
    return Channel("zwave", device, "0", Quantity.ACTIVE_POWER, Kind.INSTANTANEOUS, name=name)


class Sink:
    boot = 1

    def put(self, *_: object) -> None:
        """Nobody reads it."""


class Network:
    """The family, the account and its upkeep, as far as an inheritance goes."""

    def __init__(self) -> None:
        self.adopted: list[tuple[str, str, str]] = []
        self.refusal: Refused | None = None
        feeds = (Term(power(GONE, "").key),)
        self.fed: Sequence[Sensor] = [Sensor(5, "boiler", "kW", EVENT_RESOLUTION, feeds)]

    def devices(self) -> list[Device]:
        return [Device("zwave", THERE, "ZW175", "ZW175", DeviceState.ALIVE)]

    def sensors(self) -> Sequence[Sensor]:
        return self.fed

    async def adopt(self, device: str, old_device: str, name: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.adopted.append((device, old_device, name))

    async def move_feeds(self, device_key: str, old_key: str) -> None:
        self.fed = moved(self.fed, device_key, old_key)


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def intake() -> ReadingIntake:
    found = ReadingIntake(Sink(), PaperNotebook(), FakeClock())
    found.announce([power(THERE, "ZW175"), power(UNFED, "a lamp"), power(GONE, "Boiler")])
    found.announce([Channel("p1", "1", "0", Quantity.ACTIVE_POWER, Kind.INSTANTANEOUS)])
    return found


@pytest.fixture
def inheritance(network: Network, intake: ReadingIntake) -> Inheritance:
    return Inheritance(network, intake, network)  # type: ignore[arg-type]


def test_what_feeds_a_sensor_and_is_gone_comes_first(inheritance: Inheritance) -> None:
    assert inheritance.gone() == [
        GoneDevice(key=f"zwave/{GONE}", name="Boiler"),
        GoneDevice(key=f"zwave/{UNFED}", name="a lamp"),
    ]


async def test_heir_gets_name_and_channels_and_leaves_none_of_its_own(
    inheritance: Inheritance, network: Network, intake: ReadingIntake
) -> None:
    await inheritance.hand_over(network, f"zwave/{THERE}", f"zwave/{GONE}")
    assert network.adopted == [(THERE, GONE, "Boiler")]
    assert power(THERE, "").key not in intake.channels()
    assert power(GONE, "").key in intake.channels()
    assert [sensor.sensor_id for sensor in network.fed] == [5]


async def test_nobody_takes_the_place_of_one_that_is_there(
    inheritance: Inheritance, network: Network
) -> None:
    with pytest.raises(NotAllowed):
        await inheritance.hand_over(network, f"zwave/{THERE}", f"zwave/{THERE}")
    assert network.adopted == []


async def test_heir_that_is_refused_keeps_its_own(
    inheritance: Inheritance, network: Network, intake: ReadingIntake
) -> None:
    network.refusal = Refused("it still belongs to the network")
    with pytest.raises(Refused):
        await inheritance.hand_over(network, f"zwave/{THERE}", f"zwave/{GONE}")
    assert power(THERE, "").key in intake.channels()
