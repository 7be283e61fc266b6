"""The units as systemd reads them: sound, hardened, patient, and never waiting for a network."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
SERVICES = sorted(UNITS.glob("*.service"))
RESIDENT = ("edge-agent.service", "edge-setup.service", "zwave-js-server.service")

EXPOSURE_MAX = 20  # systemd-analyze counts in tenths
# Known to systemd 254 and later, as the image carries; the building machine may be older.
NEWER_KEYS = ("RestartSteps", "RestartMaxDelaySec")


@pytest.fixture(scope="session")
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    assert found, "systemd-analyze is missing (Debian: apt install systemd)"
    return found


@pytest.fixture(scope="session")
def stubbed_units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units, with programs that exist on this machine: verify looks for them."""
    folder = tmp_path_factory.mktemp("units")
    for unit in UNITS.iterdir():
        if unit.is_file() and unit.suffix in {".service", ".socket", ".timer", ".path"}:
            program = re.compile(r"^(Exec(?:Start|Stop|Condition)=)\S+", re.MULTILINE)
            (folder / unit.name).write_text(program.sub(r"\1/bin/true", unit.read_text()))
    return folder


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_python_reads_what_the_image_compiled(service: Path) -> None:
    """The root is read-only and holds bytecode for -OO alone: all else would compile each time."""
    programs = re.findall(r"^Exec\w+=(\S*python\S*.*)$", service.read_text(), re.MULTILINE)
    assert all(" -OO -m edge" in program for program in programs)


def test_systemd_finds_no_fault(analyze: str, stubbed_units: Path) -> None:
    units = sorted(str(unit) for unit in stubbed_units.iterdir())
    said = subprocess.run(
        [analyze, "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    ours = {Path(unit).name for unit in units}
    faults = [
        line
        for line in said.stderr.splitlines()
        if any(name in line for name in ours) and not any(key in line for key in NEWER_KEYS)
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_every_service_is_locked_in(analyze: str, service: Path) -> None:
    said = subprocess.run(
        [analyze, "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", str(service)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout.splitlines()[-1]


@pytest.mark.parametrize("unit", sorted(UNITS.glob("*.*")), ids=lambda path: path.name)
def test_no_unit_waits_for_a_network(unit: Path) -> None:
    assert "network-online" not in unit.read_text()


@pytest.mark.parametrize("name", RESIDENT)
def test_residents_start_again_without_limit_and_with_patience(name: str) -> None:
    text = (UNITS / name).read_text()
    assert "StartLimitIntervalSec=0" in text
    assert re.search(r"^Restart=(always|on-failure)$", text, re.M)
    assert "RestartSteps=" in text
    assert "RestartMaxDelaySec=" in text


def test_only_known_services_may_listen_on_the_network() -> None:
    listening = {
        unit.name
        for unit in UNITS.iterdir()
        if unit.suffix == ".socket" and re.search(r"^Listen\w+=\d", unit.read_text(), re.M)
    }
    assert listening == {"edge-setup.socket", "edge-setup-tls.socket"}


def test_the_agent_is_watched() -> None:
    agent = (UNITS / "edge-agent.service").read_text()
    assert "Type=notify" in agent
    assert "WatchdogSec=" in agent


def test_the_agent_may_ask_whether_the_clock_is_right() -> None:
    """Refused, it would never trust the clock, and never send anything."""
    agent = (UNITS / "edge-agent.service").read_text()
    assert "ProtectClock=no" in agent
    allowed = agent.index("SystemCallFilter=adjtimex clock_adjtime")
    assert allowed > agent.index("SystemCallFilter=~@privileged"), "later lines win"


def test_an_update_that_waits_over_a_start_waits_for_the_agents_sign() -> None:
    """Whether a device is away is known once the agent is up, not before."""
    assert "After=edge-agent.service" in (UNITS / "edge-update.service").read_text()


def test_every_unit_is_switched_on_by_name_or_started_by_another() -> None:
    preset = (UNITS / "lib" / "90-edge.preset").read_text().split()
    every_text = "".join(p.read_text() for p in UNITS.rglob("*") if p.is_file())
    for unit in UNITS.glob("*.*"):
        if "[Install]" in unit.read_text():
            assert unit.name in preset, f"{unit.name} is not in the preset"
        elif unit.suffix == ".service" and "@" not in unit.name:
            partner = {f"{unit.stem}{kind}" for kind in (".socket", ".timer", ".path")}
            named = any((UNITS / each).exists() for each in partner)
            elsewhere = every_text.replace(unit.read_text(), "")
            assert named or unit.name in elsewhere, f"nothing starts {unit.name}"


def test_the_driver_is_started_as_in_the_simulated_house() -> None:
    from tests.house import zwave_server

    unit = (UNITS / "zwave-js-server.service").read_text()
    started = re.search(r"^ExecStart=(.*)$", unit, re.M)
    assert started
    expected = zwave_server.command(
        Path("/opt/zwave/bin/node"),
        Path("/opt/zwave/server/bin/zwave-server.cjs"),
        Path("/dev/zwave"),
        Path("${CREDENTIALS_DIRECTORY}/driver.json"),
        3000,
    )
    assert started.group(1).split() == expected


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_serial_ports_plugged_in_later_are_allowed_too(service: Path) -> None:
    """By name systemd finds those only whose kernel module is loaded when the service starts."""
    assert not {"char-ttyUSB", "char-ttyACM"} & set(service.read_text().replace("=", " ").split())
