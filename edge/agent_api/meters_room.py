"""The page's room for the device families: what they ask, what they find, every device."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from edge.agent_api import web
from edge.agent_api.door import answer, asked
from edge.agent_api.names import display_names
from edge.agent_api.network_room import NetworkRoom
from edge.agent_api.refusals import NotAllowed
from edge.clock import Clock
from edge.contract.setup import (
    DeviceView,
    FamilyFound,
    FamilyRequest,
    FamilyView,
    FieldView,
    FoundChoice,
    MetersView,
)
from edge.credentials import Credentials
from edge.devices import FAMILIES, load
from edge.families import Families
from edge.family import Choice, Field, FieldKind, Found
from edge.health import Health
from edge.intake import ReadingIntake
from edge.model import Device, Quantity

type Note = Callable[[str, str, dict[str, str]], Awaitable[None]]


class MetersRoom:
    """Routes over families.py and every family's own fields and check."""

    def __init__(
        self,
        families: Families,
        credentials: Credentials,
        intake: ReadingIntake,
        health: Health,
        clock: Clock,
        network: NetworkRoom,
        note: Note,
    ) -> None:
        self._families = families
        self._credentials = credentials
        self._intake = intake
        self._health = health
        self._clock = clock
        self._network = network
        self._note = note

    def routes(self) -> list[web.Route]:
        return [
            web.get("/meters", self._show),
            web.post("/families/{name}/check", self._check),
            web.put("/families/{name}", self._keep),
            web.delete("/families/{name}", self._leave),
        ]

    async def _show(self, _: web.Request) -> web.Response:
        return answer(
            MetersView(
                families=[await self._family(name) for name in FAMILIES],
                devices=self._devices(),
                stick=self._network.stick() if "zwave" in FAMILIES else None,
                gone=self._network.gone(),
            )
        )

    async def _check(self, request: web.Request) -> web.Response:
        name = _known(request)
        wanted = await asked(request, FamilyRequest)
        before = await self._families.configuration(name)
        found = await load(name).check(
            self._configuration(name, wanted, before), self._secret(name, wanted), self._clock
        )
        return answer(_found(found, before or {}))

    async def _keep(self, request: web.Request) -> web.Response:
        name = _known(request)
        wanted = await asked(request, FamilyRequest)
        before = await self._families.configuration(name) or {}
        # What was found is ticked anew each time; where nothing is, nothing is wanted of it.
        before = {key: value for key, value in before.items() if not isinstance(value, list)}
        configuration = self._configuration(name, wanted, before)
        fields = {field.name for field in load(name).fields if field.kind is FieldKind.PASSWORD}
        secrets = {
            field: secret.get_secret_value()
            for field, secret in wanted.secrets.items()
            if field in fields
        }
        await self._families.configure(name, configuration, secrets)
        await self._note("family", f"{name} is used", {"family": name})
        return web.Response(status=204)

    async def _leave(self, request: web.Request) -> web.Response:
        name = _known(request)
        await self._families.configure(name, None, {})
        await self._note("family", f"{name} is no longer used", {"family": name})
        return web.Response(status=204)

    async def _family(self, name: str) -> FamilyView:
        configuration = await self._families.configuration(name)
        part = self._health.parts.get(name)
        kept = set(self._credentials.names())
        return FamilyView(
            family=name,
            in_use=configuration is not None,
            state=part.state if part else "",
            fields=[_field(name, each, configuration or {}, kept) for each in load(name).fields],
        )

    def _configuration(
        self, name: str, wanted: FamilyRequest, before: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """What was entered over what was there; only fields the family knows are taken."""
        fields = {f.name for f in load(name).fields if f.kind is not FieldKind.PASSWORD}
        entered = {key: value for key, value in wanted.values.items() if key in fields}
        return {**(before or {}), **entered, **wanted.chosen}

    def _secret(self, name: str, wanted: FamilyRequest) -> Callable[[str], str | None]:
        def get(full: str) -> str | None:
            entered = wanted.secrets.get(full.removeprefix(f"{name}."))
            return self._credentials.get(full) if entered is None else entered.get_secret_value()

        return get

    def _devices(self) -> list[DeviceView]:
        known = self._families.devices()
        names = display_names(known)
        return [self._device(each, names[each.key]) for each in known]

    def _device(self, device: Device, name: str) -> DeviceView:
        return DeviceView(
            key=device.key,
            family=device.family,
            device=device.device,
            name=name,
            model=device.model,
            state=str(device.state),
            last_seen=device.last_seen,
            is_switch=device.is_switch,
            is_on=device.is_on,
            power_w=self._power_w(device.key),
            details=device.details,
            may=self._network.may(device),
        )

    def _power_w(self, device_key: str) -> float | None:
        """All the power a device shows now, each clamp once."""
        found = [
            latest.value
            for key, channel in self._intake.channels().items()
            if channel.device_key == device_key
            and channel.quantity is Quantity.ACTIVE_POWER
            and channel.repeats is None
            and (latest := self._intake.latest(key)) is not None
        ]
        return sum(found) if found else None


def _known(request: web.Request) -> str:
    name = request.values["name"]
    if name not in FAMILIES:
        raise NotAllowed("not_found", 404)
    return name


def _field(
    family: str, field: Field, configuration: Mapping[str, Any], kept: set[str]
) -> FieldView:
    is_secret = field.kind is FieldKind.PASSWORD
    return FieldView(
        name=field.name,
        kind=field.kind.value,
        label=field.label,
        required=field.required,
        choices=list(field.choices),
        only_if=field.only_if,
        value="" if is_secret else str(configuration.get(field.name, field.default))[:200],
        is_kept=is_secret and f"{family}.{field.name}" in kept,
    )


def _found(found: Found, before: Mapping[str, Any]) -> FamilyFound:
    """`before`: the configuration in use; what was chosen then is chosen now."""

    def is_wanted(choice: Choice) -> bool:
        chosen = before.get(choice.field)
        return choice.value in chosen if isinstance(chosen, list) else choice.preselected

    return FamilyFound(
        devices=[each.name or each.model or each.device for each in found.devices],
        channels=len(found.channels),
        choices=[
            FoundChoice(
                field=choice.field,
                value=choice.value,
                label=choice.label,
                preselected=is_wanted(choice),
            )
            for choice in found.choices
        ],
    )
