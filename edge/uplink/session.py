"""Our place at FlexMeasures: the token, and what may go wrong with any request at all.

The token lives in memory only. It is renewed in good time, by itself where it still can be and with
the password where not. Knows no URL but the one it is handed for tokens.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta

from edge.clock import MILLISECOND, Clock
from edge.errors import Refused
from edge.uplink.address import Address
from edge.uplink.connection import Away, Connection
from edge.uplink.pacing import Allowance
from edge.uplink.remote import NotFlexMeasures, whole
from edge.uplink.verdict import Answer, Meaning, meaning_of, retry_after

VERSION_HEADER = "FlexMeasures-Version"
RENEW_AFTER = timedelta(hours=3)  # tokens live six hours unless the host says otherwise

type PasswordSource = Callable[[], str | None]


class LogInRefused(Refused):
    """FlexMeasures does not let us in. `unknown_user`: it is not the password that is wrong."""

    def __init__(self, message: str, *, unknown_user: bool = False) -> None:
        super().__init__(message)
        self.unknown_user = unknown_user


class NoRights(Refused):
    """The user may not do this."""


class Session:
    """One user on one server."""

    def __init__(
        self,
        address: Address,
        email: str,
        password_source: PasswordSource,
        clock: Clock,
        token_path: str,
        connection: Connection,
    ) -> None:
        self.address = address
        self.email = email
        self.version = ""
        self.allowance: Allowance | None = None
        self._password_source = password_source
        self._clock = clock
        self._token_path = token_path
        self._connection = connection
        self._token: str | None = None
        self._token_from_ms = 0
        self._logging_in = asyncio.Lock()

    async def close(self) -> None:
        await self._connection.close()

    async def log_in(self) -> int:
        """Get a token with the password; our user id. Raises LogInRefused."""
        password = self._password_source()
        if not password:
            raise LogInRefused("the box has no password for FlexMeasures; pair it again")
        body = {"email": self.email, "password": password}
        return self._take_token(await self.exchange("POST", self._token_path, body=body))

    async def ask(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: object = None
    ) -> Answer:
        """A request that must be granted; its answer is JSON. Raises everything there is."""
        answer = await self.with_token(method, path, query=query, body=body)
        self.raise_unless_done(answer)
        return answer

    async def with_token(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: object = None
    ) -> Answer:
        """A request as our user. A token that is refused is renewed once."""
        token = await self._valid_token()
        answer = await self.exchange(method, path, query=query, body=body, token=token)
        if meaning_of(answer, 1) is Meaning.LOGGED_OUT:
            token = await self._valid_token(refused=token)
            answer = await self.exchange(method, path, query=query, body=body, token=token)
            if meaning_of(answer, 1) is Meaning.LOGGED_OUT:
                raise LogInRefused("FlexMeasures refuses the token it has just given; pair again")
        return answer

    async def _valid_token(self, refused: str | None = None) -> str:
        """A token that is not `refused`; renewed in good time, by itself where it still can be."""
        async with self._logging_in:
            if self._token is None or self._token == refused:
                await self.log_in()
            elif self._clock.boottime_ms() - self._token_from_ms > RENEW_AFTER / MILLISECOND:
                await self._renew(self._token)
            if self._token is None:
                raise LogInRefused("FlexMeasures gives no token")
            return self._token

    async def _renew(self, token: str) -> None:
        """A token that is still valid gets a new one; FlexMeasures then ignores the password."""
        body = {"email": self.email, "password": "renewed-by-token"}
        answer = await self.exchange("POST", self._token_path, body=body, token=token)
        if answer.status == 200:
            self._take_token(answer)
        else:
            await self.log_in()

    def _take_token(self, answer: Answer) -> int:
        self.raise_if_away(answer)
        if not isinstance(answer.content, dict):
            raise NotFlexMeasures(
                f"{self.address.host} answers, but it is not FlexMeasures", answer.text
            )
        if answer.status == 404:
            raise LogInRefused(f"FlexMeasures knows no user {self.email}", unknown_user=True)
        token = answer.field("auth_token")
        if answer.status != 200 or not token:
            raise LogInRefused(f"FlexMeasures refuses the password of {self.email}")
        self._token = str(token)
        self._token_from_ms = self._clock.boottime_ms()
        return whole(answer.content, "user_id")

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        token: str | None = None,
    ) -> Answer:
        answer = await self._connection.exchange(method, path, query=query, body=body, token=token)
        self.version = (answer.headers or {}).get(VERSION_HEADER, self.version)
        self.allowance = _allowance(answer) or self.allowance
        return answer

    def raise_if_away(self, answer: Answer) -> None:
        if answer.status == 429:
            said = f"FlexMeasures asks {self.email} to be slower"
        elif answer.status in (408, 425) or answer.status >= 500:
            said = f"FlexMeasures has trouble of its own ({answer.status})"
        else:
            return
        raise Away(
            said,
            may_have_arrived=answer.status >= 500,
            retry_after=retry_after(answer),
            status=answer.status,
        )

    def raise_unless_done(self, answer: Answer) -> None:
        self.raise_if_away(answer)
        if answer.content is None:
            raise NotFlexMeasures(
                f"{self.address.host} answers, but not as FlexMeasures does", answer.text
            )
        if answer.status == 403:
            raise NoRights(f"FlexMeasures does not give {self.email} the right to do this")
        if answer.status >= 400:
            raise Refused(f"FlexMeasures says: {answer.message}")


def _allowance(answer: Answer) -> Allowance | None:
    """What the rate limiter says on every answer (there Retry-After tells when it starts anew)."""
    headers = answer.headers or {}
    told = [headers.get(name, "") for name in ("X-RateLimit-Limit", "X-RateLimit-Remaining")]
    told.append(headers.get("Retry-After", ""))
    if not all(text.isdigit() for text in told):
        return None
    limit, remaining, reset_s = map(int, told)
    return Allowance(limit, remaining, timedelta(seconds=reset_s))
