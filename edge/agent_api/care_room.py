"""The page's room for every day after: status, events, log, support bundle, backup, reset."""

import asyncio
import base64
import io
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from edge.agent_api import backup, web
from edge.agent_api.access import Access
from edge.agent_api.backup_desk import BackupDesk
from edge.agent_api.door import answer, asked
from edge.agent_api.entrance import visitor
from edge.agent_api.log_tail import LogTail, kept_logs
from edge.agent_api.refusals import NotAllowed
from edge.agent_api.reset import wish_factory_reset
from edge.agent_api.status import StatusDesk
from edge.contract.care import (
    BackupRequest,
    ConfirmRequest,
    EventsView,
    EventView,
    LogLines,
)
from edge.privileged import Privileged
from edge.store.settings import Events, Settings

EVENTS_SHOWN = 100
PASSPHRASE_HEADER = "x-edge-passphrase"  # noqa: S105 # its name

type Note = Callable[[str, str, dict[str, str]], Awaitable[None]]
type TakeIn = Callable[[], Awaitable[None]]


class CareRoom:
    """`take_in`: documents came from outside, and no part may write older ones over them; `end`
    ends the agent, systemd starts it."""

    def __init__(
        self,
        state_dir: Path,
        desk: StatusDesk,
        settings: Settings,
        events: Events,
        access: Access,
        backups: BackupDesk,
        privileged: Privileged,
        tail: LogTail,
        note: Note,
        take_in: TakeIn,
        end: Callable[[], None],
    ) -> None:
        self._state_dir = state_dir
        self._desk = desk
        self._settings = settings
        self._events = events
        self._access = access
        self._backups = backups
        self._privileged = privileged
        self._tail = tail
        self._note = note
        self._take_in = take_in
        self._end = end

    def routes(self) -> list[web.Route]:
        return [
            web.get("/status", self._status),
            web.get("/events", self._show_events),
            web.get("/log", self._log),
            web.post("/bundle", self._bundle),
            web.post("/backup", self._backup),
            web.post("/restore", self._restore),
            web.post("/reset", self._reset),
        ]

    async def _status(self, _: web.Request) -> web.Response:
        return answer(await self._desk.status())

    async def _show_events(self, _: web.Request) -> web.Response:
        return answer(await self._latest_events())

    async def _log(self, _: web.Request) -> web.Response:
        return answer(LogLines(lines=self._tail.lines()))

    async def _bundle(self, _: web.Request) -> web.Response:
        """Everything somebody who helps may need; no secret, no password, no session."""
        status = await self._desk.status()
        events = await self._latest_events()
        documents = {
            name: await self._settings.get(name)
            for name in await self._settings.names()
            if name not in backup.NEVER_KEPT
        }
        packed = await asyncio.to_thread(
            _packed,
            {
                "status.json": status.model_dump_json(indent=1),
                "events.json": events.model_dump_json(indent=1),
                "documents.json": json.dumps(documents, indent=1),
                "log.txt": "\n".join(self._tail.lines()),
                **await asyncio.to_thread(kept_logs),
            },
        )
        return _file(packed, "application/zip")

    async def _backup(self, request: web.Request) -> web.Response:
        wanted = await asked(request, BackupRequest)
        content = await self._backups.take(wanted.passphrase.get_secret_value())
        await self._note("backup", "a backup was taken", {})
        return _file(content, "application/json")

    async def _restore(self, request: web.Request) -> web.Response:
        content = await request.read(backup.BACKUP_BYTES_MAX)
        found = await self._backups.bring_back(content, _passphrase(request))
        await self._take_in()
        await self._note("restore", "a backup was brought back", {})
        self._end()  # who the box is and what it feeds is read at the start, by every part
        return answer(found)

    async def _reset(self, request: web.Request) -> web.Response:
        wanted = await asked(request, ConfirmRequest)
        await self._access.confirm(wanted.password.get_secret_value(), visitor(request))
        if self._privileged.is_there():  # on a box the whole data partition goes, keys first
            await self._privileged.act("factory-reset")
        else:
            await asyncio.to_thread(wish_factory_reset, self._state_dir)
            self._end()
        return web.Response(status=204)

    async def _latest_events(self) -> EventsView:
        return EventsView(
            events=[
                EventView(
                    at=event.at,
                    kind=event.kind,
                    text=event.text,
                    detail={key: str(value) for key, value in event.detail.items()},
                )
                for event in await self._events.latest(EVENTS_SHOWN)
            ]
        )


def _passphrase(request: web.Request) -> str:
    """Beside the file, in base64, since headers hold no umlauts. Raises NotAllowed."""
    try:
        return base64.b64decode(request.headers.get(PASSPHRASE_HEADER, ""), validate=True).decode()
    except ValueError:
        raise NotAllowed("passphrase_wrong", 403) from None


def _packed(files: dict[str, str]) -> bytes:
    import zipfile  # weighs 0.3 MB, and is asked once a year

    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return whole.getvalue()


def _file(content: bytes, kind: str) -> web.Response:
    return web.Response(content, content_type=kind)
