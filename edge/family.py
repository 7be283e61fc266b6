"""What every device family has in common towards the agent and the page.

A family is a module (or package) of edge/devices with `fields`, `check` and `create`: see
FamilyModule. What it asks of a person is typed here, so that the page renders all families in one
frame; what it finds comes back as channels, devices and choices. Knows no family.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from edge.clock import Clock
from edge.errors import ConfigFault
from edge.model import Channel, Device, Intake, Meter

type GetSecret = Callable[[str], str | None]
"""get_secret("smappee.password"): the secret, or None where nobody entered one."""


class FieldKind(StrEnum):
    TEXT = "text"
    PASSWORD = "password"  # noqa: S105  # kept among the credentials, never in the configuration
    CHOICE = "choice"


@dataclass(frozen=True, slots=True)
class Field:
    """One thing a family asks. `label` is a key of the page's texts, so is label + ".hint".

    `choices` of a CHOICE are keys too: label + "." + choice. `only_if` names another field and the
    value that makes this one matter. A PASSWORD's value is the secret `family.name`.
    """

    name: str
    kind: FieldKind
    label: str
    required: bool = True
    default: str = ""
    choices: tuple[str, ...] = ()
    only_if: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several things found of which the person may want some: config[field] lists values.

    Where `field` is one the family asks for (an address), the one value ticked answers it.
    """

    field: str
    value: str
    label: str
    preselected: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """What `check` saw on the other side. `preselected` holds keys of channels the person's own
    set-up already marks as theirs (Home Assistant's energy dashboard); None: no such wish known."""

    channels: tuple[Channel, ...]
    devices: tuple[Device, ...] = ()
    choices: tuple[Choice, ...] = ()
    preselected: frozenset[str] | None = None


class Notebook(Protocol):
    """Small documents that outlive the process; store/settings.py fulfils it."""

    async def get(self, name: str) -> Any: ...

    async def put(self, name: str, value: Any) -> None: ...


class Family(Meter, Protocol):
    """Every family measures; those that switch fulfil model.Switch too."""


@runtime_checkable
class HasHistory(Protocol):
    """A family whose other side remembers: it can offer again what it offered long ago."""

    async def offer_history(self, held_since: Mapping[str, datetime | None]) -> None:
        """Offer soon what there still is of these channels, by key with the time of the oldest
        reading the box holds of each (None: it holds none). May be asked for again."""


class FamilyModule(Protocol):
    """What a module of edge/devices offers to the agent."""

    @property
    def fields(self) -> tuple[Field, ...]:
        """What the page asks for; pure."""

    @property
    def check(self) -> "Check":
        """Try a configuration before it is kept. Raises EdgeError with what to do about it."""

    @property
    def create(self) -> "Create":
        """Build the family; touches nothing outside. Raises ConfigFault naming every fault.

        Called in a thread: what the family needs is imported here, however long that takes."""


class Check(Protocol):
    async def __call__(
        self, config: Mapping[str, Any], get_secret: GetSecret, clock: Clock
    ) -> Found: ...


class Create(Protocol):
    def __call__(
        self,
        config: Mapping[str, Any],
        get_secret: GetSecret,
        intake: Intake,
        clock: Clock,
        notebook: Notebook,
    ) -> Family: ...


class Answers:
    """Reads a family's configuration and collects what is wrong with it, to say it all at once."""

    def __init__(
        self, family: str, fields: tuple[Field, ...], config: Mapping[str, Any], secret: GetSecret
    ) -> None:
        self._family = family
        self._fields = {field.name: field for field in fields}
        self._config = config
        self._secret = secret
        self.faults: list[str] = []

    def text(self, name: str) -> str:
        """The answer to a TEXT or CHOICE field, or its default."""
        field = self._fields[name]
        value: object = self._config.get(name, field.default)
        if isinstance(value, list) and len(value) <= 1:
            value = value[0] if value else ""
        if not isinstance(value, str):
            self.faults.append(f"{self._family}: {name} must be one text, not {value!r}")
            return field.default
        value = value.strip() or field.default
        if not value and field.required:
            self.faults.append(f"{self._family}: {name} is missing")
        elif field.choices and value not in field.choices:
            self.faults.append(
                f"{self._family}: {name} is {value!r}; it must be one of {', '.join(field.choices)}"
            )
        return value

    def secret(self, name: str) -> str:
        """The answer to a PASSWORD field."""
        value = self._secret(f"{self._family}.{name}") or self._fields[name].default
        if not value and self._fields[name].required:
            self.faults.append(f"{self._family}: {name} is missing")
        return value

    def numbers(self, name: str) -> tuple[int, ...]:
        """A list of ids that is not a field of the page but a choice among things found."""
        value = self._config.get(name, [])
        try:
            return tuple(int(item) for item in value)
        except (TypeError, ValueError):
            self.faults.append(f"{self._family}: {name} must be a list of numbers, not {value!r}")
            return ()

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of names that is not a field of the page but a choice among things found."""
        value = self._config.get(name, [])
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            self.faults.append(f"{self._family}: {name} must be a list of texts, not {value!r}")
            return ()
        return tuple(value)

    def settle(self) -> None:
        """Raise ConfigFault if anything was wrong."""
        if self.faults:
            raise ConfigFault(*self.faults)
