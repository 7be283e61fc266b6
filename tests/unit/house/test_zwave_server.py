"""How the real zwave-server is called and configured."""

import shlex
from pathlib import Path

from tests.house.child import ROOT
from tests.house.zwave_server import command, configure

KEY_NAMES = {"S0_Legacy", "S2_Unauthenticated", "S2_Authenticated", "S2_AccessControl"}


def test_device_comes_before_every_flag_of_the_server() -> None:
    line = command(Path("node"), Path("bundle.cjs"), Path("/dev/stick"), Path("/c.json"), 3000)
    assert line[line.index("bundle.cjs") + 1] == "/dev/stick"
    assert line[line.index("--host") + 1] == "127.0.0.1"
    assert "--disable-dns-sd" in line


def test_network_keys_are_made_once_and_kept_from_others(tmp_path: Path) -> None:
    first = configure(tmp_path / "driver")
    assert set(first["securityKeys"]) == KEY_NAMES
    assert len({*first["securityKeys"].values(), *first["securityKeysLongRange"].values()}) == 6
    assert (tmp_path / "driver" / "config.json").stat().st_mode & 0o777 == 0o600
    assert configure(tmp_path / "driver") == first
    assert configure(tmp_path / "another")["securityKeys"] != first["securityKeys"]


def test_box_and_house_call_it_alike() -> None:
    unit = (ROOT / "systemd" / "zwave-js-server.service").read_text()
    called = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
    assert shlex.split(called.removeprefix("ExecStart=")) == command(
        Path("/opt/zwave/bin/node"),
        Path("/opt/zwave/server/bin/zwave-server.cjs"),
        Path("/dev/zwave"),
        Path("${CREDENTIALS_DIRECTORY}/driver.json"),
        3000,
    )
