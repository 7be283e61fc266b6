"""The messages of the setup page's first minutes: who may enter, and with which password.

A password travels towards the agent only, as a SecretStr: no repr, log or error shows it.
"""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_serializer

from edge.contract import Message

PASSWORD_CHARACTERS_MIN = 10  # chosen by the person, never preset, never left out
PASSWORD_CHARACTERS_MAX = 200  # hashing longer ones only costs time

type NewPassword = Annotated[
    SecretStr, Field(min_length=PASSWORD_CHARACTERS_MIN, max_length=PASSWORD_CHARACTERS_MAX)
]
type AnyPassword = Annotated[SecretStr, Field(min_length=1, max_length=PASSWORD_CHARACTERS_MAX)]


class Secretive(Message):
    """A request that carries secrets: shown only where it is turned into JSON for the agent."""

    @field_serializer("*", when_used="json", check_fields=False)
    def _reveal(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._reveal(each) for name, each in value.items()}
        return value.get_secret_value() if isinstance(value, SecretStr) else value


class FirstClaim(Message):
    """Who made this box theirs. Stays on show for as long as the claim holds."""

    at: datetime | None
    address: str
    browser: str


class Front(Message):
    """What anybody on the network may know of the box: no more than the claim page needs."""

    name: str
    release: str
    supported_until: str
    hosts: list[str]
    claimed: bool
    claim_lost: bool
    claim_open_s: float
    claim_code_needed: bool
    clock_trusted: bool


class ClaimRequest(Secretive):
    password: NewPassword
    code: Annotated[str, Field(max_length=64)] = ""


class LogInRequest(Secretive):
    password: AnyPassword


class ChangePasswordRequest(Secretive):
    current: AnyPassword
    new: NewPassword


class Certificate(Message):
    """What the page answers https with. `key` is a secret, and the page's process its only reader.

    `fingerprint` is what a visitor compares with what the browser shows.
    """

    chain: str
    key: str
    fingerprint: str


class Standing(Message):
    """How far the set-up is and whether something needs a person: what every page shows on top.

    `live` once FlexMeasures accepted a first reading; `attention` counts what needs a person.
    """

    paired: bool
    meters: int
    mapped: int
    live: bool
    attention: int


class SessionAnswer(Message):
    """The cookie's content, opaque to the page."""

    session: str
    seconds: int
