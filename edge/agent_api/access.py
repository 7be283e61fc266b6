"""Who may enter: the claim, the password, the sessions and how often one may try.

Owned by the agent, so that it outlives the page's sleep. The first visitor chooses the password,
only within a short time of boot: unplugging the box is the proof of standing beside it. A claimed
box never becomes claimable again except by a reset, whatever happens to its files.
"""

import asyncio
import base64
import ctypes
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from edge.agent_api.refusals import NotAllowed
from edge.agent_api.tries import Tries
from edge.clock import MILLISECOND, Clock
from edge.documents import Documents
from edge.files import write_atomically

SESSION_LIFE = timedelta(days=7)
SESSIONS_MAX = 20  # phones and laptops of one household; the oldest leaves first
TRIES_PER_ADDRESS = (5, timedelta(minutes=1))
TRIES_IN_ALL = (20, timedelta(hours=1))  # at this pace ten characters last for ever

# 16 MiB and about 0.2 s on a laptop: what a 512 MB board can afford per try.
HASH_COST = 2**14
_SCRYPT_R, _SCRYPT_P = 8, 5
_BROWSER_CHARACTERS_MAX = 120
_M_MMAP_THRESHOLD, _LARGE_BYTES = -3, 2**20


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks, as far as the page can see."""

    address: str
    browser: str = ""


type Note = Callable[[str, str, dict[str, str]], Awaitable[None]]
"""note(kind, text, detail): one line for the events on the page."""


class Access:
    """The box's only lock. `marker` is a file that says "claimed" should the store be lost."""

    def __init__(
        self,
        documents: Documents,
        clock: Clock,
        note: Note,
        *,
        marker: Path,
        window: timedelta = timedelta(minutes=15),
        code: str | None = None,
        hash_cost: int = HASH_COST,
    ) -> None:
        self._documents = documents
        self._clock = clock
        self._note = note
        self._marker = marker
        self._window = window
        self._code = code
        self._hash_cost = hash_cost
        self._lock = asyncio.Lock()
        self._hashing = asyncio.Lock()  # one at a time: each takes 16 MiB
        self._tries = Tries(clock, TRIES_PER_ADDRESS, TRIES_IN_ALL)

    @property
    def code_needed(self) -> bool:
        return self._code is not None

    async def is_claimed(self) -> bool:
        """Whether somebody owns the box; true for ever once it was."""
        return self._marker.exists() or await self._documents.get("claim") is not None

    async def is_lost(self) -> bool:
        """Whether the box was claimed but its password is gone: only a reset helps."""
        return self._marker.exists() and await self._documents.get("claim") is None

    def open_for(self) -> timedelta:
        """How much longer an unclaimed box can be claimed."""
        up = timedelta(milliseconds=self._clock.boottime_ms())
        return max(timedelta(0), self._window - up)

    async def first_claim(self) -> dict[str, Any] | None:
        """{at, address, browser} of the one claim."""
        found = await self._documents.get("claim")
        return None if found is None else {k: found[k] for k in ("at", "address", "browser")}

    async def claim(self, password: str, code: str, visitor: Visitor) -> str:
        """Make the box the visitor's and open a session; exactly one caller ever succeeds."""
        self._tries.spend(visitor.address)
        if await self.is_claimed():
            raise NotAllowed("claimed_already", 409)
        if not self.open_for():
            raise NotAllowed("claim_window_shut", 403)
        if self._code is not None and not _equal(code.strip().upper(), self._code.upper()):
            await self._say("claim refused", "A claim with a wrong code was refused", visitor)
            raise NotAllowed("claim_code_wrong", 403)
        async with self._lock:
            if await self.is_claimed():
                raise NotAllowed("claimed_already", 409)
            claim = {
                "password": await self._hash(password),
                "at": self._now_or_none(),
                "address": visitor.address,
                "browser": visitor.browser[:_BROWSER_CHARACTERS_MAX],
            }
            await self._documents.put("claim", claim)
            await asyncio.to_thread(write_atomically, self._marker, b"claimed\n")
        self._tries.forget(visitor.address)
        await self._say("claim", "The box was claimed", visitor)
        return await self._open_session(visitor)

    async def log_in(self, password: str, visitor: Visitor) -> str:
        """A new session for the right password. Raises NotAllowed."""
        self._tries.spend(visitor.address)
        claim = await self._documents.get("claim")
        if claim is None:
            raise NotAllowed("not_claimed", 409)
        if not await self._matches(password, claim["password"]):
            await self._say("log-in refused", "A log-in with a wrong password was refused", visitor)
            raise NotAllowed("password_wrong", 403)
        self._tries.forget(visitor.address)
        await self._say("log-in", "Somebody logged in", visitor)
        return await self._open_session(visitor)

    async def log_out(self, session: str) -> None:
        async with self._lock:
            sessions = await self._sessions()
            if sessions.pop(_digest(session), None) is not None:
                await self._documents.put("sessions", sessions)

    async def change_password(self, current: str, new: str, visitor: Visitor) -> str:
        """Set a new password and end every session; the answer is the caller's new one."""
        self._tries.spend(visitor.address)
        claim = await self._documents.get("claim")
        if claim is None or not await self._matches(current, claim["password"]):
            raise NotAllowed("password_wrong", 403)
        async with self._lock:
            claim["password"] = await self._hash(new)
            await self._documents.put("claim", claim)
            await self._documents.put("sessions", {})
        self._tries.forget(visitor.address)
        await self._say("password", "The password was changed; every session ended", visitor)
        return await self._open_session(visitor)

    async def admits(self, session: str) -> bool:
        """Whether `session` was opened here, has not ended and is not too old."""
        found = (await self._sessions()).get(_digest(session))
        if found is None:
            return False
        if found["boot"] == self._clock.boot_id():
            return self._clock.boottime_ms() < int(found["boot_until_ms"])
        if found["until"] is None:  # opened before the time was known, and restarted since
            return False
        return not self._clock.is_trusted() or self._clock.wall_now() < _moment(found["until"])

    async def confirm(self, password: str, visitor: Visitor) -> None:
        """Ask for the password once more before something that cannot be undone."""
        self._tries.spend(visitor.address)
        claim = await self._documents.get("claim")
        if claim is None or not await self._matches(password, claim["password"]):
            raise NotAllowed("password_wrong", 403)
        self._tries.forget(visitor.address)

    async def _open_session(self, visitor: Visitor) -> str:
        session = secrets.token_urlsafe(32)
        until = self._clock.wall_now() + SESSION_LIFE if self._clock.is_trusted() else None
        opened = {
            "boot": self._clock.boot_id(),
            "boot_until_ms": self._clock.boottime_ms() + SESSION_LIFE // MILLISECOND,
            "until": None if until is None else until.isoformat(),
            "address": visitor.address,
        }
        async with self._lock:
            sessions = await self._sessions()
            sessions[_digest(session)] = opened
            kept = list(sessions.items())[-SESSIONS_MAX:]
            await self._documents.put("sessions", dict(kept))
        return session

    async def _sessions(self) -> dict[str, dict[str, Any]]:
        return dict(await self._documents.get("sessions") or {})

    async def _hash(self, password: str) -> str:
        salt = secrets.token_bytes(16)
        async with self._hashing:
            digest = await asyncio.to_thread(_scrypt, password, salt, self._hash_cost)
        return f"scrypt:{self._hash_cost}:{_b64(salt)}:{_b64(digest)}"

    async def _matches(self, password: str, stored: str) -> bool:
        _, cost, salt, digest = stored.split(":")
        async with self._hashing:
            found = await asyncio.to_thread(_scrypt, password, base64.b64decode(salt), int(cost))
        return hmac.compare_digest(found, base64.b64decode(digest))

    def _now_or_none(self) -> str | None:
        return self._clock.wall_now().isoformat() if self._clock.is_trusted() else None

    async def _say(self, kind: str, text: str, visitor: Visitor) -> None:
        browser = visitor.browser[:_BROWSER_CHARACTERS_MAX]
        await self._note(kind, text, {"address": visitor.address, "browser": browser})


def _scrypt(password: str, salt: bytes, cost: int) -> bytes:
    _large_pieces_apart()
    return hashlib.scrypt(
        password.encode(), salt=salt, n=cost, r=_SCRYPT_R, p=_SCRYPT_P, maxmem=64 * 2**20
    )


@cache
def _large_pieces_apart() -> None:
    """Let the C library give back what a hash needed, 16 MiB. By itself it would keep them from
    the second hash on (mallopt(3), M_MMAP_THRESHOLD: a fixed threshold does not grow)."""
    tune = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc
    if tune is not None:
        tune(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def _digest(session: str) -> str:
    return hashlib.sha256(session.encode()).hexdigest()


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
