"""What the card was prepared with: a claim code, and an account to pair with.

The image leaves both in one file of the state folder (edge/appliance/identity.py). Here they become
secrets of the box, the file goes, and the account is paired as soon as FlexMeasures can be reached.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from edge.clock import Clock
from edge.credentials import Credentials
from edge.uplink.account import Account
from edge.uplink.pairing import SiteWish

log = logging.getLogger(__name__)

FILE = "preseed.json"
CLAIM_CODE = "claim.code"
ACCOUNT = "preset.account"

_LOOK_EVERY = timedelta(seconds=5)


def take_preset(state: Path, credentials: Credentials) -> None:
    """Move what the card was prepared with into the box's secrets; once."""
    path = state / FILE
    try:
        wished = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as problem:
        log.warning("what the card was prepared with cannot be read: %s", problem)
        return
    if "claim_code" in wished:
        credentials.put(CLAIM_CODE, str(wished["claim_code"]))
    if "flexmeasures" in wished:
        credentials.put(ACCOUNT, json.dumps(wished["flexmeasures"]))
    path.unlink()


class PresetAccount:
    """Pairs with the account of the card; a part for keep_running. A person pairs first."""

    def __init__(
        self, account: Account, credentials: Credentials, clock: Clock, name: Callable[[], str]
    ) -> None:
        self._account = account
        self._credentials = credentials
        self._clock = clock
        self._name = name

    async def run(self) -> None:
        """Pair once the clock is trusted; raises what pairing raises, and is tried again."""
        preset = self._credentials.get(ACCOUNT)
        while preset is not None and self._account.paired is None:
            wished = json.loads(preset)
            log_in = self._account.log_in(  # from here on its server may be asked for the time
                wished["url"], wished["email"], wished["password"], allow_private=True
            )
            if not self._clock.is_trusted():
                await self._clock.sleep(_LOOK_EVERY)
                continue
            await self._account.pair(log_in, SiteWish(name=self._name()))
        if preset is not None:
            self._credentials.delete(ACCOUNT)
        await asyncio.Event().wait()
