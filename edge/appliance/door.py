"""The doors: one line of JSON in, one privileged act, one line of JSON out.

systemd starts this for each connection to /run/edge-doors/door, which only the agent may open. A
request is {"act": name, …}; an answer {"ok": true, …} or {"ok": false, "text": sentence}. What is
not in the table below is refused; nothing of a request becomes a shell command.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge.appliance import NAME, seal
from edge.appliance.identity import Places
from edge.errors import EdgeError, Refused
from edge.files import write_atomically

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
        print("act:", request["act"], file=sys.stderr)  # for the journal
        return {"ok": True, **act(request, places)}
    except (ValueError, KeyError) as problem:
        return {"ok": False, "text": f"the request cannot be read ({type(problem).__name__})"}
    except (EdgeError, OSError, subprocess.SubprocessError) as problem:
        return {"ok": False, "text": str(problem)}


def _wifi_list(_: Request, places: Places) -> Answer:
    fields = "IN-USE,SSID,SIGNAL,SECURITY"
    said = _nmcli("-t", "-f", fields, "device", "wifi", "list", "--rescan", "auto")
    found: dict[str, dict[str, Any]] = {}
    for line in said.splitlines():
        in_use, network, signal, security = _terse(line)
        seen = {"network": network, "signal": int(signal), "open": not security}
        known = found.setdefault(network, {**seen, "joined": False})
        if seen["signal"] > known["signal"]:  # the nearest of a network's stations
            known.update(seen)
        known["joined"] = known["joined"] or in_use == "*"
    found.pop("", None)  # hidden ones
    return {"networks": list(found.values()), "kept": _wifi_file(places).exists()}


def _wifi_join(request: Request, places: Places) -> Answer:
    """Join, or stay where the box was: a wrong password must not cost it its network."""
    from edge.appliance.preseed import Wifi

    wishes = ("network", "password", "country", "hidden")
    wifi = Wifi.model_validate({name: request[name] for name in wishes if request.get(name)})
    file = _wifi_file(places)
    before = file.read_bytes() if file.exists() else None
    write_atomically(file, wifi.as_connection().encode())
    try:
        _nmcli("connection", "reload")
        _nmcli("--wait", "45", "connection", "up", "preset")
    except (Refused, subprocess.SubprocessError):
        if before is None:
            file.unlink()
        else:
            write_atomically(file, before)
        _nmcli("connection", "reload")
        if before is not None:
            _nmcli("--wait", "0", "connection", "up", "preset")
        raise
    return {}


def _wifi_forget(_: Request, places: Places) -> Answer:
    _wifi_file(places).unlink(missing_ok=True)
    _nmcli("connection", "reload")
    return {}


def _wifi_file(places: Places) -> Path:
    return places.data / "network" / "preset.nmconnection"


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


def _usb_install(_: Request, __: Places) -> Answer:
    _systemctl("start", "edge-usb-update.service")
    return {}


def _restart(_: Request, __: Places) -> Answer:
    from edge.appliance import update  # no other act has a use for it, and each waits for imports

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
    "usb-install": _usb_install,
    "restart": _restart,
    "factory-reset": _factory_reset,
}


def _systemctl(verb: str, unit: str) -> None:
    subprocess.run(["systemctl", "--no-block", verb, unit], check=True, timeout=_ACT_WITHIN_S)


def _nmcli(*arguments: str) -> str:
    done = subprocess.run(
        ["nmcli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=_ACT_WITHIN_S,
        env={**os.environ, "LC_ALL": "C"},  # the page knows its sentences in English
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
