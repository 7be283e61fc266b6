"""`edge status` of the guest, again and again, by one program that stays.

Starting a program for each question would take an emulated board seconds.
"""

import base64
import gzip
import json
from typing import Any

from tests.image.machine import Machine

type Status = dict[str, Any]

_FILE = "/run/status.json"
_PROGRAM = """
import http.client, os, socket, time
while True:
    try:
        asked = http.client.HTTPConnection("localhost")
        asked.sock = socket.socket(socket.AF_UNIX)
        asked.sock.settimeout(30)
        asked.sock.connect("/run/edge/agent.sock")
        asked.request("GET", "/status")
        said = asked.getresponse().read()
        with open("/run/status.new", "wb") as file:
            file.write(said)
        os.rename("/run/status.new", "/run/status.json")
    except OSError:
        pass
    time.sleep(1)
"""


def begin(box: Machine) -> None:
    """Once after each start; returns when there is a first answer."""
    box.run(f"cat >/run/watcher.py <<'P'\n{_PROGRAM}\nP")
    box.run("systemd-run -q --unit=watcher python3 -OO -S /run/watcher.py")
    box.wait_until(f"test -s {_FILE}")


def end(box: Machine) -> None:
    box.run("systemctl stop watcher.service")


def status(box: Machine) -> Status:
    """What the agent said a moment ago; packed, for an emulated line loses some of long texts."""
    packed = box.run(f"gzip -c {_FILE} | base64 -w 0", 240)
    said: Status = json.loads(gzip.decompress(base64.b64decode(packed)))
    return said
