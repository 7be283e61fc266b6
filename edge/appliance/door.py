"""The doors: one line of JSON in, one privileged act, one line of JSON out.

systemd starts this for each connection to /run/edge-doors/door, which only the agent may open. A
request is {"act": name, …}; an answer {"ok": true, …} or {"ok": false, "text": sentence}. What is
not in the table below is refused; nothing of a request becomes a shell command.
"""

import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from edge.appliance import NAME, seal, update
from edge.appliance.identity import Places
from edge.errors import EdgeError, Refused
from edge.files import write_atomically

log = logging.getLogger(__name__)

REQUEST_BYTES_MAX = 64 * 1024
_ACT_WITHIN_S = 90.0
_DEVICE = re.compile(r"/dev/[A-Za-z0-9._:/+-]{1,200}")
_KEYS = {
    "securityKeys": ("S0_Legacy", "S2_Unauthenticated", "S2_Authenticated", "S2_AccessControl"),
    "securityKeysLongRange": ("S2_Authenticated", "S2_AccessControl"),
}
_KEY = re.compile(r"[0-9a-fA-F]{32}")

type Request = dict[str, Any]
type Answer = dict[str, Any]


def main() -> int:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    said = sys.stdin.readline(REQUEST_BYTES_MAX)
    print(json.dumps(answer(said, Places())), flush=True)
    return 0


def answer(said: str, places: Places) -> Answer:
    """Carry out one request; never raises for what a request may hold."""
    try:
        request = json.loads(said)
        act = ACTS.get(str(request["act"])) if isinstance(request, dict) else None
        if act is None:
            raise Refused("no such act")
        log.info("act: %s", request["act"])
        return {"ok": True, **act(request, places)}
    except (ValueError, KeyError) as problem:
        return {"ok": False, "text": f"the request cannot be read ({type(problem).__name__})"}
    except (EdgeError, OSError, subprocess.SubprocessError) as problem:
        return {"ok": False, "text": str(problem)}


def _wifi_list(_: Request, __: Places) -> Answer:
    said = _nmcli("-t", "-f", "SSID,SIGNAL,SECURITY", "device", "wifi", "list", "--rescan", "auto")
    found: dict[str, dict[str, object]] = {}
    for line in said.splitlines():
        network, signal, security = _terse(line)
        if network and (network not in found or int(signal) > int(str(found[network]["signal"]))):
            found[network] = {"network": network, "signal": int(signal), "open": not security}
    return {"networks": list(found.values())}


def _wifi_join(request: Request, places: Places) -> Answer:
    from edge.appliance.preseed import Wifi

    wifi = Wifi.model_validate(
        {name: request[name] for name in ("network", "password", "country") if request.get(name)}
    )
    write_atomically(places.data / "network" / "preset.nmconnection", wifi.as_connection().encode())
    _nmcli("connection", "reload")
    _nmcli("--wait", "45", "connection", "up", "preset")
    return {}


def _wifi_forget(_: Request, places: Places) -> Answer:
    (places.data / "network" / "preset.nmconnection").unlink(missing_ok=True)
    _nmcli("connection", "reload")
    return {}


def _name(request: Request, places: Places) -> Answer:
    name = str(request["name"])
    if not NAME.fullmatch(name):
        raise Refused("a name has letters, digits and hyphens only")
    write_atomically(places.data / "hostname", f"{name}\n".encode(), mode=0o644)
    return {"after_restart": True}


def _stick(request: Request, places: Places) -> Answer:
    device = str(request["device"])
    if not _DEVICE.fullmatch(device) or ".." in device:
        raise Refused("this is not the path of a port")
    # edge-stick.path sees the file change and has udev look again.
    write_atomically(places.keys / "stick", f"{device}\n".encode())
    return {}


def _driver_keys(_: Request, places: Places) -> Answer:
    held = json.loads(seal.opened("driver.json", places.keys / "driver.json"))
    return {group: held[group] for group in _KEYS}


def _driver_keys_restore(request: Request, places: Places) -> Answer:
    held = json.loads(seal.opened("driver.json", places.keys / "driver.json"))
    for group, names in _KEYS.items():
        wanted = request[group]
        if set(wanted) != set(names) or not all(_KEY.fullmatch(str(k)) for k in wanted.values()):
            raise Refused("these are not the network keys of a Z-stick")
        held[group] = dict(wanted)
    seal.with_systemd("driver.json", json.dumps(held).encode(), places.keys / "driver.json")
    _systemctl("try-restart", "zwave-js-server.service")
    return {}


def _install(_: Request, places: Places) -> Answer:
    if not (places.state / "update" / "bundle").is_file():
        raise Refused("no update was handed in")
    _systemctl("start", "edge-update.service")
    return {}


def _restart(_: Request, __: Places) -> Answer:
    update.restart(trial=False)
    return {}


def _factory_reset(_: Request, __: Places) -> Answer:
    _systemctl("start", "edge-reset.service")
    return {}


ACTS: dict[str, Callable[[Request, Places], Answer]] = {
    "wifi-list": _wifi_list,
    "wifi-join": _wifi_join,
    "wifi-forget": _wifi_forget,
    "name": _name,
    "stick": _stick,
    "driver-keys": _driver_keys,
    "driver-keys-restore": _driver_keys_restore,
    "install": _install,
    "restart": _restart,
    "factory-reset": _factory_reset,
}


def _systemctl(verb: str, unit: str) -> None:
    subprocess.run(["systemctl", "--no-block", verb, unit], check=True, timeout=_ACT_WITHIN_S)


def _nmcli(*arguments: str) -> str:
    done = subprocess.run(
        ["nmcli", *arguments], capture_output=True, text=True, check=False, timeout=_ACT_WITHIN_S
    )
    if done.returncode:
        raise Refused(done.stderr.strip() or "NetworkManager refused")
    return done.stdout


def _terse(line: str) -> list[str]:
    """The fields of one line of nmcli -t, which escapes colons and backslashes."""
    fields = re.split(r"(?<!\\):", line)
    return [re.sub(r"\\(.)", r"\1", field) for field in fields]


if __name__ == "__main__":
    sys.exit(main())
