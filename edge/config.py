"""What the box is told from outside: one TOML file, read once at start.

What a person sets on the page lives in the store instead (store/settings.py). Nothing here is
secret. Every fault of the file is named at once; the file's keys are the fields below.
"""

import re
import socket
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.errors import ConfigFault

# No reading can be older than the software that took it; an image build sets its own date.
CLOCK_FLOOR = datetime(2026, 11, 1, tzinfo=UTC)

_MIB = 1024 * 1024
_NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def machines_name() -> str:
    """What this machine is called in its network; "flexbox" where that is no name for a box."""
    name = socket.gethostname().partition(".")[0].lower()
    return name if re.fullmatch(_NAME, name) else "flexbox"


class ClockConfig(_Section):
    """[clock]"""

    floor: datetime = CLOCK_FLOOR
    # The simulated house trusts the clock of the machine it runs on. No image carries this.
    trust_always: bool = False


class BufferConfig(_Section):
    """[buffer]"""

    commit_every_s: Annotated[float, Field(ge=0, le=600)] = 30
    bytes_max: Annotated[int, Field(ge=_MIB, le=64 * 1024 * _MIB)] = 1024 * _MIB

    @property
    def commit_every(self) -> timedelta:
        return timedelta(seconds=self.commit_every_s)


class ZWaveConfig(_Section):
    """[zwave]"""

    enabled: bool = True
    server_url: str = "ws://127.0.0.1:3000"
    stick: Path | None = None  # as handed to the driver; None = found by itself
    report_presets: bool = True  # sensible report groups for known meters
    signed_power: bool = True  # … and power with a sign, so that what the house gives back shows


class HouseConfig(_Section):
    """[house]: the main fuse bounds what a meter can plausibly say."""

    fuse_a: Annotated[float, Field(gt=0, le=1000)] = 25
    phases: Literal[1, 3] = 3
    volts: Annotated[float, Field(gt=50, le=500)] = 230


class FlexMeasuresConfig(_Section):
    """[flexmeasures]"""

    box_health: bool = True  # the box reports its own health as an asset of its own
    upload_every_s: Annotated[float, Field(ge=5, le=3600)] = 300
    backfill_spread_s: Annotated[float, Field(ge=0, le=3600)] = 900
    poll_every_s: Annotated[float, Field(ge=5, le=300)] = 30  # limits; schedules every other time
    # The simulated house serves FlexMeasures on loopback. No image carries this.
    allow_loopback: bool = False


class Config(_Section):
    """The whole file. Paths are on the box."""

    state_dir: Path = Path("/var/lib/edge")
    runtime_dir: Path = Path("/run/edge")
    name: Annotated[str, Field(pattern=_NAME)] = Field(default_factory=machines_name)
    release: str = "development"
    supported_until: str = ""
    claim_window_s: Annotated[float, Field(gt=0)] = 15 * 60
    clock: ClockConfig = ClockConfig()
    buffer: BufferConfig = BufferConfig()
    zwave: ZWaveConfig = ZWaveConfig()
    house: HouseConfig = HouseConfig()
    flexmeasures: FlexMeasuresConfig = FlexMeasuresConfig()

    @property
    def own_socket(self) -> Path:
        """For the command line: readable by the agent's own user and root only."""
        return self.runtime_dir / "agent.sock"

    @property
    def page_socket(self) -> Path:
        """For the setup page: every request on it needs a session."""
        return self.runtime_dir / "page.sock"

    def families_always_on(self) -> dict[str, dict[str, object]]:
        """Families these settings switch on, whatever the page says, with their own settings."""
        if not self.zwave.enabled:
            return {}
        return {
            "zwave": {
                "server_url": self.zwave.server_url,
                "report_presets": self.zwave.report_presets,
                "signed_power": self.zwave.signed_power,
                "backup_folder": str(self.state_dir / "zwave"),
            }
        }


def load(path: Path | None) -> Config:
    """The settings in `path`; the defaults without one. Raises ConfigFault naming every fault."""
    if path is None:
        return Config()
    try:
        return Config.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as problem:
        raise ConfigFault(f"{path} cannot be read: {problem.strerror}") from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise ConfigFault(f"{path} is not TOML: {problem}") from problem
    except ValidationError as problem:
        raise ConfigFault(
            *(f"{path}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in problem.errors())
        ) from problem
