"""What a person may settle before the first start: edge.toml, or Raspberry Pi Imager's wishes.

Pure: text in, wishes out. A FlexMeasures account needs a claim code: without one, whoever opens the
page first would own a box that already knows a password.
"""

import re
import shlex
import tomllib
import uuid
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from edge.appliance import NAME
from edge.errors import ConfigFault

_SECRET_LINE = re.compile(r'^(\s*(?:"?claim_code"?|"?password"?)\s*=\s*).*$', re.MULTILINE)
_NETWORK_NAMESPACE = uuid.UUID("a2a1b7d0-58f6-4f3f-9f0e-0d6c1c2f9b10")

type Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")]


class _Wish(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Wifi(_Wish):
    """[wifi]"""

    network: Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[^\x00-\x1f]*$")]
    password: SecretStr = SecretStr("")
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] | None = None
    hidden: bool = False

    def as_connection(self) -> str:
        """NetworkManager's file for it."""
        name = uuid.uuid5(_NETWORK_NAMESPACE, self.network)
        lines = ["[connection]", "id=preset", f"uuid={name}", "type=wifi", "autoconnect=true"]
        lines += ["[wifi]", f"ssid={_in_keyfile(self.network)}", "mode=infrastructure"]
        lines += ["hidden=true"] if self.hidden else []
        password = self.password.get_secret_value()
        if password:
            lines += ["[wifi-security]", "key-mgmt=wpa-psk", f"psk={_in_keyfile(password)}"]
        return "\n".join([*lines, "[ipv4]", "method=auto", "[ipv6]", "method=auto", ""])


class Account(_Wish):
    """[flexmeasures]"""

    url: Text
    email: Text
    password: SecretStr


class Preseed(_Wish):
    """The whole file."""

    name: Annotated[str, Field(pattern=rf"^{NAME.pattern}$")] | None = None
    claim_code: Annotated[SecretStr, Field(min_length=6, max_length=64)] | None = None
    stick: (
        Annotated[str, Field(pattern=r"^/dev/([A-Za-z0-9_:+-][A-Za-z0-9._:+-]*/?){1,6}$")] | None
    ) = None
    wifi: Wifi | None = None
    flexmeasures: Account | None = None

    @model_validator(mode="after")
    def _account_needs_code(self) -> "Preseed":
        if self.flexmeasures is not None and self.claim_code is None:
            raise ValueError("a FlexMeasures account needs a claim_code in the same file")
        return self

    def for_agent(self) -> dict[str, Any]:
        """What the agent applies: {"claim_code", "flexmeasures": {url, email, password}}."""
        wished: dict[str, Any] = {}
        if self.claim_code is not None:
            wished["claim_code"] = self.claim_code.get_secret_value()
        if self.flexmeasures is not None:
            account = self.flexmeasures
            wished["flexmeasures"] = {
                "url": account.url,
                "email": account.email,
                "password": account.password.get_secret_value(),
            }
        return wished


def from_edge_toml(text: str) -> Preseed:
    """Raises ConfigFault naming every fault, never a value."""
    try:
        return Preseed.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as problem:
        raise ConfigFault(f"edge.toml is not TOML: {problem}") from None
    except ValidationError as problem:
        raise ConfigFault(
            *(
                f"{'.'.join(map(str, each['loc'])) or 'edge.toml'}: {each['msg']}"
                for each in problem.errors()
            )
        ) from None


def from_imager(script: str) -> Preseed:
    """The wishes in Imager's firstrun.sh. The script is read, never run; odd ones are left out."""
    wished: dict[str, Any] = {}
    for line in script.splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue
        if len(words) < 3 or not words[0].endswith("/imager_custom"):
            continue
        match words[1:]:
            case ["set_hostname", name] if NAME.fullmatch(name.lower()):
                wished["name"] = name.lower()
            case ["set_wlan", *rest]:
                wifi = _imager_wifi(rest)
                if wifi is not None:
                    wished["wifi"] = wifi
    return Preseed.model_validate(wished)


def without_secrets(text: str) -> str:
    """The file as it may stay on the card."""
    return _SECRET_LINE.sub(r'\1"taken out"', text)


def _imager_wifi(words: list[str]) -> Wifi | None:
    plain = [word for word in words if word != "-h"]
    if len(plain) not in (2, 3):
        return None
    try:
        return Wifi(
            network=plain[0],
            password=SecretStr(plain[1]),
            country=plain[2] if len(plain) == 3 else None,
            hidden="-h" in words,
        )
    except ValidationError:
        return None


def _in_keyfile(value: str) -> str:
    """A value in a NetworkManager key file: backslash and outer blanks are escaped."""
    escaped = value.replace("\\", "\\\\")
    if escaped.startswith(" "):
        escaped = "\\s" + escaped[1:]
    if escaped.endswith(" "):
        escaped = escaped[:-1] + "\\s"
    return escaped.replace(";", "\\;")
