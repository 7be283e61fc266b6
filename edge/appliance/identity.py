"""At a first start the box's own keys; at any, what the first partition asks for.

Makes what is unique to this box once (the key that seals secrets, the driver's network keys), and
carries out the files a person left on the first partition. Secrets found there are taken out of the
file. A fault in one never stops a start. Network, agent and driver wait for it, so it imports
little, and its unit starts it only where there is something to do.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edge.appliance import card, result, seal
from edge.errors import ConfigFault
from edge.files import write_atomically

if TYPE_CHECKING:
    from edge.appliance.preseed import Preseed

AGENT = 701  # user and group numbers of systemd/lib/sysusers.conf
_PRESEED_FILE = "edge.toml"
_IMAGER_FILE = "firstrun.sh"
_RESET_PASSWORD = "edge-reset-password"  # noqa: S105  (the name of a file)
_NETWORK = "preset.nmconnection"


class Places(NamedTuple):
    """Where things lie on the box."""

    data: Path = Path("/data")

    @property
    def state(self) -> Path:
        return self.data / "edge"

    @property
    def keys(self) -> Path:
        return self.data / "edge-keys"


def main() -> int:
    places = Places()
    make_keys(places, seal.with_systemd)
    if card.WISHED.exists():  # written to as seldom as can be: it is what every start needs
        try:
            with card.mounted(card.FIRST, writable=True) as first:
                follow_wishes(first, places)
            socket.sethostname((places.data / "hostname").read_text(encoding="ascii").strip())
        except (OSError, subprocess.SubprocessError) as problem:
            _say(f"the first partition cannot be used: {problem}")
    result.note_return(on_trial=card.TRIAL.exists())
    return 0


def make_keys(places: Places, seal_as: Callable[[str, bytes, Path], None]) -> None:
    """The keys of this box, made once: sealed, so that a copy of the card's files tells nothing."""
    places.keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (places.keys / "edge-key").exists():
        seal_as("edge-key", os.urandom(32), places.keys / "edge-key")
    if not (places.keys / "driver.json").exists():
        settings = json.dumps(driver_settings()).encode()
        seal_as("driver.json", settings, places.keys / "driver.json")


def driver_settings() -> dict[str, Any]:
    """The Z-stick driver's settings with fresh network keys."""

    def fresh(*names: str) -> dict[str, str]:
        return {name: os.urandom(16).hex() for name in names}

    return {
        "logConfig": {"enabled": False},
        # "slow": what devices said is written every five minutes, not every second. After a power
        # cut the driver asks them again.
        "storage": {"cacheDir": "/var/lib/zwave/cache", "throttle": "slow"},
        "securityKeys": fresh(
            "S0_Legacy", "S2_Unauthenticated", "S2_Authenticated", "S2_AccessControl"
        ),
        "securityKeysLongRange": fresh("S2_Authenticated", "S2_AccessControl"),
    }


def follow_wishes(first: Path, places: Places) -> None:
    """Carry out the files of the first partition, each once."""
    for wish in sorted(first.glob(f"{_RESET_PASSWORD}*")):
        write_atomically(places.state / "reset-password", b"")
        _give_to_agent(places.state / "reset-password")
        wish.unlink()
    settings, imager = first / _PRESEED_FILE, first / _IMAGER_FILE
    if not settings.is_file() and not imager.is_file():
        return
    # Loaded only then: it brings pydantic, which a board takes seconds for.
    from edge.appliance.preseed import from_edge_toml, from_imager, without_secrets

    if settings.is_file():
        text = settings.read_text(encoding="utf-8", errors="replace")
        try:
            _apply(from_edge_toml(text), places)
        except ConfigFault as problem:
            # The person looks at the card again: what was wrong stands beside the file.
            write_atomically(first / "edge.toml.wrong.txt", f"{problem}\n".encode())
            _say(f"edge.toml: {problem}")
        _replace(settings, first / "edge.toml.applied", without_secrets(text))
    if imager.is_file():
        _apply(from_imager(imager.read_text(encoding="utf-8", errors="replace")), places)
        _overwrite(imager)


def _apply(wanted: "Preseed", places: Places) -> None:
    if wanted.name is not None:
        write_atomically(places.data / "hostname", f"{wanted.name}\n".encode(), mode=0o644)
    if wanted.stick is not None:
        write_atomically(places.keys / "stick", f"{wanted.stick}\n".encode())
    if wanted.wifi is not None:
        folder = places.data / "network"
        folder.mkdir(mode=0o700, exist_ok=True)
        write_atomically(folder / _NETWORK, wanted.wifi.as_connection().encode())
        if wanted.wifi.country:
            country = places.data / "wifi-country"
            write_atomically(country, wanted.wifi.country.encode(), mode=0o644)
    for_agent = wanted.for_agent()
    if for_agent:
        write_atomically(places.state / "preseed.json", json.dumps(for_agent).encode())
        _give_to_agent(places.state / "preseed.json")


def _say(line: str) -> None:
    print(line, file=sys.stderr)  # for the journal


def _give_to_agent(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, AGENT, AGENT)


def _replace(old: Path, new: Path, text: str) -> None:
    write_atomically(new, text.encode())
    _overwrite(old)


def _overwrite(path: Path) -> None:
    """A file with secrets goes. Its bytes are overwritten; a card may keep older copies even so."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        file.write(b"\0" * size)
        file.flush()
        os.fsync(file.fileno())
    path.unlink()


if __name__ == "__main__":
    sys.exit(main())
