"""The door to smappy's cloud half: what it cannot do itself happens here; it stays as published.

smappy 0.2.16 has no time-outs, does not know 401, never falls back from a dead refresh token, is
not thread-safe, tells expiry by the wall clock and returns whatever body comes. Here it runs one
call at a time in a thread of its own, over a session whose every answer has an end, with its
tokens kept on the clock that nobody sets; all that goes wrong comes out as an EdgeError.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import requests
import requests.adapters
import smappy.smappy

from edge.certificates import trust_for
from edge.clock import Clock
from edge.errors import EdgeError, Malformed, Refused, Unreachable

PUBLISHED = "https://app1pub.smappee.net/dev/v2/"  # what smappy has built in
ANSWER_BYTES_MAX = 8 * 1024 * 1024  # a day of 5-minute records is 60 kB
RETRY_AFTER_MAX = timedelta(hours=1)
RENEW_AT = 0.9  # of a token's life

# What a body of the wrong shape makes of smappy: "x"["y"], None + 1, json that is HTML.
SHAPE_FAULTS = (LookupError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the cloud may take, in seconds."""

    connect_s: float = 10.0
    silence_s: float = 20.0  # inside one answer
    answer_s: float = 40.0  # a whole answer
    call_s: float = 150.0  # refused token, refresh, log-in, the question again


class _Trusting(requests.adapters.HTTPAdapter):
    """Believes the certificates the box believes. requests would read a megabyte of its own for
    every connection, and keep it."""

    def build_connection_pool_key_attributes(
        self, request: Any, verify: Any, cert: Any = None
    ) -> Any:
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {**pool, "ssl_context": trust_for(str(request.url))}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """The context of the pool says it all."""


class BoundedSession(requests.Session):
    """A session whose answers end: in time, and in size."""

    def __init__(self, patience: Patience | None = None) -> None:
        super().__init__()
        self._patience = patience or Patience()
        self.mount("https://", _Trusting())
        self.trust_env = False  # a .netrc would replace the token

    def request(self, method: str, url: str, **arguments: Any) -> requests.Response:  # type: ignore[override]
        ends_s = time.monotonic() + self._patience.answer_s
        timeout = (self._patience.connect_s, self._patience.silence_s)
        arguments |= {"timeout": timeout, "stream": True}
        answer = super().request(method, url, **arguments)
        body = bytearray()
        with answer:
            for piece in answer.iter_content(65536):
                body += piece
                if time.monotonic() > ends_s or len(body) > ANSWER_BYTES_MAX:
                    raise requests.Timeout("the answer has no end")
        answer._content = bytes(body)
        return answer


class _Wire(threading.local):
    """Stands where smappy looks for `requests`; each thread serves the account it entered."""

    Session = BoundedSession

    def __init__(self) -> None:
        self.session: requests.Session = BoundedSession()
        self.base_url = PUBLISHED

    def get(self, url: str, **arguments: Any) -> requests.Response:
        return self.session.get(self._here(url), **arguments)

    def post(self, url: str, **arguments: Any) -> requests.Response:
        return self.session.post(self._here(url), **arguments)

    def _here(self, url: str) -> str:
        return self.base_url + url.removeprefix(PUBLISHED)


_wire = _Wire()
smappy.smappy.requests = _wire


class _Smappee(smappy.Smappee):  # type: ignore[misc]  # smappy has no types
    """Keeps the refresh token out of smappy's sight, so that it never asks the wall clock."""

    refresh_token: Any
    spare_token: Any = None
    expires_in_s = 0.0

    def _set_token_expiration_time(self, expires_in: float) -> None:
        self.expires_in_s = float(expires_in)
        self.spare_token, self.refresh_token = self.refresh_token, None


@dataclass(frozen=True, slots=True)
class Login:
    """A person's access to the cloud. `base_url` ends in the version: …/dev/v3/."""

    base_url: str
    client_id: str
    username: str
    client_secret: str = field(repr=False)
    password: str = field(repr=False)


class Account:
    """One person's Smappee cloud. `ask` is the only way in."""

    def __init__(self, login: Login, clock: Clock, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self._login = login
        self._clock = clock
        self._smappee = _Smappee(login.client_id, login.client_secret)
        self._session = BoundedSession(self._patience)
        self._one_at_a_time = threading.Lock()
        self._renew_at_ms = 0
        self._not_before_ms = 0

    async def ask[T](self, question: Callable[[Any], T]) -> T:
        """Run `question(smappy)`, logged in. Raises Unreachable, Refused or Malformed."""
        pause_ms = self._not_before_ms - self._clock.boottime_ms()
        if pause_ms > 0:
            raise Unreachable(f"Smappee asked for a pause of {pause_ms // 1000 + 1} s")
        try:
            return await in_thread(lambda: self._ask(question), self._patience.call_s)
        except requests.HTTPError as problem:
            self._obey_retry_after(problem.response)
            raise in_words(problem) from problem

    def _ask[T](self, question: Callable[[Any], T]) -> T:
        with self._one_at_a_time:
            _wire.session, _wire.base_url = self._session, self._login.base_url
            if self._smappee.access_token is None or self._clock.boottime_ms() > self._renew_at_ms:
                self._renew()
            try:
                return question(self._smappee)
            except requests.HTTPError as problem:
                if problem.response.status_code != requests.codes.unauthorized:
                    raise
            self._renew()
            return question(self._smappee)

    def _renew(self) -> None:
        """Fresh tokens: by the refresh token, or where that is dead by the password."""
        smappee, login = self._smappee, self._login
        smappee.refresh_token, smappee.spare_token = smappee.spare_token, None
        try:
            if smappee.refresh_token:
                smappee.re_authenticate()
        except requests.HTTPError as problem:
            if not _is_refusal(problem):
                raise
            smappee.refresh_token = None
        if not smappee.spare_token:
            try:
                smappee.authenticate(login.username, login.password)
            except requests.HTTPError as problem:
                if not _is_refusal(problem):
                    raise
                raise Refused(
                    "Smappee refuses the user name, password, client id or client secret: "
                    "enter them again"
                ) from problem
        self._renew_at_ms = self._clock.boottime_ms() + int(smappee.expires_in_s * RENEW_AT * 1000)

    def _obey_retry_after(self, answer: requests.Response) -> None:
        if answer.status_code in (429, 503):
            wanted = answer.headers.get("Retry-After", "")
            pause_s = float(wanted) if wanted.isdigit() else 60.0
            pause_s = min(pause_s, RETRY_AFTER_MAX.total_seconds())
            self._not_before_ms = self._clock.boottime_ms() + int(pause_s * 1000)


async def in_thread[T](call: Callable[[], T], limit_s: float) -> T:
    """Run a blocking call in a thread that no stop has to wait for. Raises EdgeError only;
    requests.HTTPError passes, the caller knows what it means."""
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[T] = loop.create_future()

    def settle(act: Callable[[], None]) -> None:
        def unless_given_up() -> None:
            if not answered.done():
                act()

        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits any more
            loop.call_soon_threadsafe(unless_given_up)

    def work() -> None:
        try:
            answer = call()
        except (requests.RequestException, EdgeError, *SHAPE_FAULTS) as problem:
            fault = problem
            settle(lambda: answered.set_exception(fault))
        else:
            settle(lambda: answered.set_result(answer))

    threading.Thread(target=work, name="smappee", daemon=True).start()
    try:
        return await asyncio.wait_for(answered, limit_s)
    except TimeoutError as problem:
        raise Unreachable("Smappee did not answer in time") from problem
    except requests.HTTPError:
        raise
    except (requests.RequestException, *SHAPE_FAULTS) as problem:
        raise in_words(problem) from problem


def in_words(problem: Exception) -> EdgeError:
    """What a failure of smappy or requests means to the box."""
    match problem:
        case requests.HTTPError(response=answer):
            status = answer.status_code
            if status >= 500 or status == 429:
                return Unreachable(f"Smappee is not available now (HTTP {status})")
            if status == requests.codes.unauthorized:
                return Refused("Smappee refuses fresh tokens: enter the account again")
            if status in (403, 404):
                return Refused(
                    f"Smappee does not show this to the account (HTTP {status}): choose the "
                    "service locations again"
                )
            return Malformed(f"Smappee refuses the question (HTTP {status})", answer.text)
        case requests.exceptions.JSONDecodeError():
            return Malformed("Smappee answered something that is not JSON", problem.doc)
        case requests.RequestException():
            return Unreachable(f"Smappee cannot be reached ({type(problem).__name__})")
        case _:
            return Malformed(f"Smappee answered in an unknown shape ({problem!r})", str(problem))


def _is_refusal(problem: requests.HTTPError) -> bool:
    return problem.response.status_code in (400, 401, 403)
