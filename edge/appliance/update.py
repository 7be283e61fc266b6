"""Installs an update into the system that does not run, tries it, and keeps it or goes back.

    install BUNDLE   check, write the other partition, read it back, restart into it on trial
    confirm          the agent and the page answered: start this system from now on
    give-way         they did not: restart, which starts the one before

The firmware's trial start counts once (tryboot): a crash, a hang or a power cut on trial ends in
the old system. The running system and the data partition are never written by an update. While
a device is curtailed nothing is written and nothing restarts: the box must be there to let it go.
"""

import json
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

from edge.appliance import bundle, card
from edge.appliance.result import note
from edge.errors import EdgeError, Refused, Unreachable
from edge.files import write_atomically

RELEASE = Path("/usr/lib/edge/release.json")
PUBLIC_KEY = Path("/usr/lib/edge/update-key.pem")
PROGRESS = Path("/run/edge-update/progress.json")
CURTAILING = Path("/run/edge/curtailing")  # the agent's sign (edge/signs.py)
REBOOT_ARGUMENT = Path("/run/systemd/reboot-param")
DRIVER_STATE = {name: Path(f"/data/system-{name}/zwave") for name in card.SYSTEMS}

_SAY_EVERY_S = 1.0
_LOOK_EVERY_S = 5.0
_FORMAT_WITHIN_S = 120.0


def main(arguments: list[str]) -> int:
    match arguments:
        case ["install", path]:
            _install_and_restart(Path(path))
        case ["confirm"]:
            confirm()
        case ["give-way"]:
            give_way()
        case _:
            print("usage: update install BUNDLE | confirm | give-way", file=sys.stderr)
            return 2
    return 0


def _install_and_restart(path: Path) -> None:
    """Ends well in each case: a refusal is not a fault of the box, and is noted for the page."""
    try:
        _wait_while_curtailing()
        release = install(path)
    except (EdgeError, OSError, subprocess.SubprocessError) as problem:
        say("refused", text=str(problem))
        note({"release": "", "outcome": "refused", "text": str(problem)})
        print(f"update refused: {problem}", file=sys.stderr)
        return
    finally:
        path.unlink(missing_ok=True)  # taken once, and gone before the restart
    _wait_while_curtailing()
    note({"release": release, "outcome": "trying", "text": ""})
    say("restarting", release=release)
    restart(trial=True)


def _wait_while_curtailing() -> None:
    while CURTAILING.exists():
        say("waiting", text="a device is being curtailed; the update goes on when it is free")
        time.sleep(_LOOK_EVERY_S)


def install(path: Path) -> str:
    """Write the bundle's system into the other partition; its release. Raises Refused."""
    installed = json.loads(RELEASE.read_text(encoding="utf-8"))
    try:
        with tarfile.open(path, "r|") as tar:
            manifest = bundle.read_manifest(tar, PUBLIC_KEY.read_bytes())
            bundle.check_fit(manifest, installed)
            _write_system(tar, manifest, card.other(card.running_system()))
    except tarfile.TarError as problem:
        raise Refused("this file is not a whole update: download it again") from problem
    return manifest.release


def _write_system(tar: tarfile.TarFile, manifest: bundle.Manifest, system: str) -> None:
    device = card.SYSTEMS[system]
    say("formatting", release=manifest.release)
    subprocess.run(
        ["mkfs.vfat", "-F", "32", "-s", "8", "-n", "SYSTEM", str(device.resolve())],
        check=True,
        timeout=_FORMAT_WITHIN_S,
        stdout=subprocess.DEVNULL,
    )
    with card.mounted(device, writable=True) as place:
        bundle.copy_files(tar, manifest, place, _progress(manifest))
    with card.mounted(device, writable=False) as place:  # mounted anew: nothing from memory
        bundle.check_written(manifest, place)
    with card.mounted(device, writable=True) as place:
        line = place / "cmdline.txt"
        line.write_text(
            line.read_text(encoding="ascii").replace("edge.system=a", f"edge.system={system}"),
            encoding="ascii",
        )
    _copy_driver_state(card.other(system), system)


def _copy_driver_state(source: str, target: str) -> None:
    """The new system gets its own copy of what the driver knows; the old one's stays untouched."""
    shutil.rmtree(DRIVER_STATE[target], ignore_errors=True)
    if DRIVER_STATE[source].exists():
        subprocess.run(
            ["cp", "-a", str(DRIVER_STATE[source]), str(DRIVER_STATE[target])], check=True
        )


def confirm() -> None:
    """Start this system from now on."""
    with card.mounted(card.FIRST, writable=True) as first:
        card.start_with(first, card.running_system())
    card.TRIAL.unlink(missing_ok=True)
    release = json.loads(RELEASE.read_text(encoding="utf-8"))["release"]
    note({"release": release, "outcome": "installed", "text": ""})


def give_way() -> None:
    """On trial: restart into the system before. Otherwise nothing: there is no other to go to."""
    if not card.TRIAL.exists():
        return
    release = json.loads(RELEASE.read_text(encoding="utf-8"))["release"]
    text = "the new system did not answer; the one before runs again"
    note({"release": release, "outcome": "gone back", "text": text})
    restart(trial=False)


def restart(*, trial: bool) -> None:
    """Restart the board; on trial its firmware starts the other system, once."""
    if trial:
        REBOOT_ARGUMENT.parent.mkdir(exist_ok=True)
        REBOOT_ARGUMENT.write_text("0 tryboot", encoding="ascii")
    done = subprocess.run(["systemctl", "--no-block", "reboot"], check=False, timeout=60)
    if done.returncode:
        raise Unreachable("systemd does not take the restart; unplug and replug the box")


def _progress(manifest: bundle.Manifest) -> Callable[[int], None]:
    whole = sum(entry.size for entry in manifest.files) or 1
    said_s = 0.0

    def tell(written: int) -> None:
        nonlocal said_s
        if time.monotonic() - said_s > _SAY_EVERY_S:
            said_s = time.monotonic()
            say("writing", release=manifest.release, percent=100 * written // whole)

    return tell


def say(state: str, *, release: str = "", percent: int = 0, text: str = "") -> None:
    """For the page: {"state", "release", "percent", "text"}. A state is one of copying (from a
    drive), waiting, formatting, writing, restarting, refused."""
    said = {"state": state, "release": release, "percent": percent, "text": text}
    PROGRESS.parent.mkdir(exist_ok=True)
    write_atomically(PROGRESS, json.dumps(said).encode(), mode=0o644)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
