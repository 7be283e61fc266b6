"""What the person asked for, from environment variables; every fault is named at once."""

import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

REPOSITORY = Path(__file__).resolve().parents[3]
OWN_DATA = REPOSITORY / "tests/house/data/refit_house2_2014-03_1min.csv.gz"


class WishFault(Exception):
    """Something asked for that cannot be; one line per fault."""


@dataclass(frozen=True)
class Wishes:
    """STICK, FLEXMEASURES_URL, EMAIL, HOUSE_DATA, STATE, RUN_FOR, CLAIMED, OTHERS, HA, ports."""

    stick: Path | None
    flexmeasures_url: str | None
    email: str | None
    household: Path
    state: Path
    run_for: timedelta | None
    claimed: bool
    others: bool  # Smappee and a P1 port; OTHERS=0 leaves them out
    home_assistant: bool
    page_port: int
    flexmeasures_port: int
    zwave_port: int


def wishes(variables: Mapping[str, str]) -> Wishes:
    """Read them. Raises WishFault naming all that cannot be followed."""
    faults: list[str] = []

    def given(name: str) -> str | None:
        return variables.get(name) or None

    def path(name: str, what: str) -> Path | None:
        text = given(name)
        if text is None:
            return None
        if not Path(text).exists():
            faults.append(f"{name}={text}: there is no such {what}")
        elif what == "port" and not Path(text).is_char_device():
            faults.append(f"{name}={text}: a stick's port is a device, such as /dev/ttyACM0")
        return Path(text)

    ports: dict[int, str] = {}

    def port(name: str, usual: int) -> int:
        text = given(name) or str(usual)
        if not text.isdecimal() or not 1 <= int(text) <= 65535:
            faults.append(f"{name}={text}: a port is a number from 1 to 65535")
            return usual
        if not _is_free(int(text)):
            faults.append(f"port {text} is in use; choose another with {name}=…")
        if (other := ports.setdefault(int(text), name)) != name:
            faults.append(f"{other} and {name} are both {text}")
        return int(text)

    url, email = given("FLEXMEASURES_URL"), given("EMAIL")
    if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        faults.append(f"FLEXMEASURES_URL={url}: an address looks like https://company.example")
    if bool(url) != bool(email):
        faults.append("FLEXMEASURES_URL and EMAIL go together")
    run_for = None
    if text := given("RUN_FOR"):
        with suppress(ValueError, OverflowError):
            run_for = timedelta(seconds=float(text))
        if run_for is None or run_for <= timedelta(0):
            faults.append(f"RUN_FOR={text}: a number of seconds above 0")
    asked = Wishes(
        stick=path("STICK", "port"),
        flexmeasures_url=url,
        email=email,
        household=path("HOUSE_DATA", "file") or OWN_DATA,
        state=Path(given("STATE") or REPOSITORY / "build/state").absolute(),
        run_for=run_for,
        claimed=bool(given("CLAIMED")),
        others=given("OTHERS") != "0",
        home_assistant=bool(given("HA")),
        page_port=port("PAGE_PORT", 8080),
        flexmeasures_port=0 if url else port("FLEXMEASURES_PORT", 5050),
        zwave_port=port("ZWAVE_PORT", 3000),
    )
    if faults:
        raise WishFault("\n".join(faults))
    return asked


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
