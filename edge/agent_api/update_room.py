"""The page's room for the system of the box: what runs, what came of the last update, a newer one.

A bundle is written to the data partition as it arrives; systemd sees the finished file and installs
it (systemd/README.md), or the act "usb-install" fetches it from a drive. Root checks signature and
board, waits while a device is away, and notes the result where this room reads it.
"""

import asyncio
import base64
import hashlib
import json
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from edge.agent_api import web
from edge.agent_api.door import answer, asked
from edge.agent_api.refusals import NotAllowed
from edge.clock import Clock
from edge.contract.appliance import NightlyRequest, UpdateResult, UpdatesView
from edge.privileged import Privileged

BUNDLE_BYTES_MAX = 480 * 1024 * 1024  # a system's partition holds 512 MiB
LEFT_FREE_BYTES = 64 * 1024 * 1024  # readings go on while an update arrives
_FIRST_MEMBER = b"manifest.json\0"  # a bundle is a tar file that begins with its list of contents
_BUSY = ("waiting", "copying", "formatting", "writing", "restarting")
_DEVELOPMENT = "-development"
_STUCK_AFTER = timedelta(minutes=15)  # the updater is silent for a while when it reads back

type Note = Callable[[str, str, dict[str, str]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Places:
    """Where the system and its updater leave what is shown. `update` is the agent's own folder."""

    update: Path
    system: Path = Path("/usr/lib/edge")
    progress: Path = Path("/run/edge-update/progress.json")
    result: Path = Path("/data/update/result.json")

    @property
    def bundle(self) -> Path:
        return self.update / "bundle"

    @property
    def opted_out(self) -> Path:
        return self.update / "opted-out"


class UpdateRoom:
    """`anything_away` says whether a device is away from its normal state."""

    def __init__(
        self,
        places: Places,
        release: str,
        supported_until: str,
        privileged: Privileged,
        anything_away: Callable[[], bool],
        clock: Clock,
        note: Note,
    ) -> None:
        self._places = places
        self._release = release
        self._supported_until = supported_until
        self._privileged = privileged
        self._anything_away = anything_away
        self._clock = clock
        self._note = note
        self._is_receiving = False

    def routes(self) -> list[web.Route]:
        return [
            web.get("/updates", self._show),
            web.post("/updates/bundle", self._receive),
            web.post("/updates/usb", self._from_drive),
            web.put("/updates/nightly", self._choose_nightly),
        ]

    async def _show(self, _: web.Request) -> web.Response:
        return answer(await asyncio.to_thread(self._view))

    def _view(self) -> UpdatesView:
        places = self._places
        said = _document(places.progress)
        return UpdatesView(
            possible=self._privileged.is_there(),
            release=self._release,
            board=str(_document(places.system / "release.json").get("board", "")),
            supported_until=self._supported_until,
            signer=_print(places.system / "update-key.pem"),
            is_development=self._release.endswith(_DEVELOPMENT),
            busy=self._busy(said),
            coming=str(said.get("release", "")),
            percent=min(100, max(0, int(said.get("percent", 0)))),
            held_back=self._anything_away(),
            nightly_offered=bool(_text(places.system / "release-address").strip()),
            nightly=not places.opted_out.exists(),
            result=_result(places.result),
        )

    def _busy(self, said: dict[str, Any]) -> Any:
        if said.get("state") in _BUSY and not self._is_stuck():
            return said["state"]
        return "handed_in" if self._places.bundle.exists() else ""

    def _is_stuck(self) -> bool:
        """The updater was killed without a word."""
        said_at = _noted_at(self._places.progress)
        return said_at is None or self._clock.wall_now() - said_at > _STUCK_AFTER

    async def _receive(self, request: web.Request) -> web.Response:
        """A bundle as the body, of a stated length."""
        self._refuse_now()
        size = request.content_length
        if size is None or size > BUNDLE_BYTES_MAX:
            raise NotAllowed("update_too_large", 413)
        self._is_receiving = True
        part = self._places.update / "bundle.part"
        try:
            await asyncio.to_thread(_make_room, part, size)
            with part.open("wb") as file:
                await _write(request.pieces(), file, size)
            part.replace(self._places.bundle)  # handed in: systemd sees it
        finally:
            self._is_receiving = False
            part.unlink(missing_ok=True)
        await self._note("update", "an update was handed in", {})
        return web.Response(status=204)

    async def _from_drive(self, _: web.Request) -> web.Response:
        self._refuse_now()
        await self._privileged.act("usb-install")
        await self._note("update", "an update is looked for on a USB drive", {})
        return web.Response(status=204)

    async def _choose_nightly(self, request: web.Request) -> web.Response:
        wanted = await asked(request, NightlyRequest)
        await asyncio.to_thread(self._keep_nightly, on=wanted.on)
        return web.Response(status=204)

    def _keep_nightly(self, *, on: bool) -> None:
        self._places.update.mkdir(mode=0o700, exist_ok=True)
        if on:
            self._places.opted_out.unlink(missing_ok=True)
        else:
            self._places.opted_out.touch()

    def _refuse_now(self) -> None:
        if not self._privileged.is_there():
            raise NotAllowed("update_no_box", 409)
        if self._is_receiving or self._busy(_document(self._places.progress)):
            raise NotAllowed("update_busy", 409)


def _make_room(part: Path, size: int) -> None:
    part.parent.mkdir(mode=0o700, exist_ok=True)
    part.unlink(missing_ok=True)
    if shutil.disk_usage(part.parent).free < size + LEFT_FREE_BYTES:
        raise NotAllowed("update_no_room", 409)


async def _write(pieces: AsyncIterator[bytes], file: IO[bytes], size: int) -> None:
    """To the card as it comes, never more than was announced. Raises NotAllowed."""
    written = 0
    async for piece in pieces:
        if not written and not piece.startswith(_FIRST_MEMBER):
            raise NotAllowed("update_unreadable", 422)
        written += len(piece)
        await asyncio.to_thread(file.write, piece)
    if written != size:
        raise NotAllowed("update_unreadable", 422)
    await asyncio.to_thread(_settle, file)


def _settle(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _result(path: Path) -> UpdateResult | None:
    held = _document(path)
    if not held:
        return None
    try:
        return UpdateResult(
            release=str(held["release"]),
            outcome=str(held["outcome"]).replace(" ", "_"),  # type: ignore[arg-type]
            text=str(held["text"])[:500],
            at=_noted_at(path),
        )
    except (KeyError, ValueError):
        return None


def _noted_at(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return None


def _print(key: Path) -> str:
    """The SHA-256 of a public key, in groups: to be compared by eye."""
    body = "".join(line for line in _text(key).splitlines() if not line.startswith("-----"))
    try:
        digest = hashlib.sha256(base64.b64decode(body, validate=True)).hexdigest()
    except ValueError:
        return ""
    return " ".join(digest[at : at + 4] for at in range(0, 32, 4)) if body else ""


def _document(path: Path) -> dict[str, Any]:
    """A small JSON file of the updater's; empty while there is none."""
    try:
        found = json.loads(_text(path) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
