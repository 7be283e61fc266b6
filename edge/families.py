"""The device families this box uses: built from the person's settings, kept running, rebuilt when
those change. A family nobody set up costs nothing: its module is never imported.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from datetime import datetime
from functools import partial
from typing import Any, cast

from edge.clock import Clock
from edge.credentials import Credentials
from edge.devices import FAMILIES, load
from edge.documents import Documents
from edge.family import Family, HasHistory
from edge.health import Health
from edge.later import later
from edge.model import Device, Intake, Switch
from edge.supervise import keep_running, until

_DOCUMENT = "families"


class Families:
    """Every family by name, whether in use or not."""

    def __init__(
        self,
        settings: Documents,
        credentials: Credentials,
        intake: Intake,
        clock: Clock,
        health: Health,
        always: Mapping[str, Mapping[str, Any]],
        held_since: Callable[[Collection[str]], Awaitable[datetime | None]],
    ) -> None:
        """`always`: families the box's own settings switch on, with their configuration.
        `held_since`: when the oldest reading was taken that the box has of channels."""
        self._settings = settings
        self._credentials = credentials
        self._intake = intake
        self._clock = clock
        self._health = health
        self._always = dict(always)
        self._held_since = held_since
        self._changed = {name: asyncio.Event() for name in FAMILIES}
        self._built: dict[str, tuple[Mapping[str, Any], Family]] = {}

    def jobs(self) -> dict[str, Callable[[], Coroutine[None, None, None]]]:
        """One supervised job per family, for the agent's TaskGroup."""

        def job(name: str) -> Callable[[], Coroutine[None, None, None]]:
            return lambda: keep_running(
                name,
                lambda: self._session(name),
                self._clock,
                self._health.report,
                self._changed[name],
                unreadable=self._health.keep_sample,
            )

        return {name: job(name) for name in FAMILIES}

    def running(self, name: str) -> Family | None:
        """The family called `name`, if this box uses it."""
        built = self._built.get(name)
        return built[1] if built else None

    def devices(self) -> list[Device]:
        """Every device of every family in use."""
        return [device for _, family in self._built.values() for device in family.devices()]

    def switches(self) -> dict[str, Switch]:
        """The families in use that switch."""
        return {
            name: cast("Switch", family)
            for name, (_, family) in self._built.items()
            if hasattr(family, "turn_off")
        }

    async def history_wanted(self, channel_keys: Collection[str]) -> None:
        """These channels feed a sensor for the first time: families offer what they still have."""
        for name, (_, family) in list(self._built.items()):
            own = [key for key in channel_keys if key.startswith(f"{name}/")]
            if own and isinstance(family, HasHistory):
                await family.offer_history({key: await self._held_since([key]) for key in own})

    async def configuration(self, name: str) -> Mapping[str, Any] | None:
        """What the person set for a family; None where it is not in use."""
        chosen = await self._settings.get(_DOCUMENT) or {}
        return chosen.get(name, self._always.get(name))

    async def configure(
        self, name: str, configuration: Mapping[str, Any] | None, secrets: Mapping[str, str]
    ) -> None:
        """Use a family with these settings from now on, or (None) no longer.

        Secrets are kept apart as `family.field`.
        """
        for field, secret in secrets.items():
            self._credentials.put(f"{name}.{field}", secret)
        chosen = dict(await self._settings.get(_DOCUMENT) or {})
        if configuration is None:
            chosen.pop(name, None)
            self._forget_secrets(name)
        else:
            chosen[name] = dict(configuration)
        await self._settings.put(_DOCUMENT, chosen)
        self._built.pop(name, None)
        self._changed[name].set()

    def _forget_secrets(self, name: str) -> None:
        for secret in self._credentials.names():
            if secret.startswith(f"{name}."):
                self._credentials.delete(secret)

    async def _session(self, name: str) -> None:
        changed = self._changed[name]
        changed.clear()
        configuration = await self.configuration(name)
        if configuration is None:
            self._built.pop(name, None)
            self._health.report(name, "not in use")
            await changed.wait()
            return
        built = self._built.get(name)
        if built is None or built[0] != configuration:
            create = partial(
                load(name).create,
                configuration,
                self._credentials.get,
                self._intake,
                self._clock,
                self._settings,
            )
            family = await later(create)
            self._built[name] = (configuration, family)
        await until(changed, self._built[name][1].run())
