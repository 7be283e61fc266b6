"""When this box may talk to FlexMeasures, so that hundreds of boxes on one server do not talk at
the same moment. Pure.

Each box has a place of its own in every period, from its identity and for ever: no agreement
between boxes is needed, and a power cut in the whole street does not line them up. The server
counts 500 requests a minute per user and 10 triggers in 5 minutes per account, and hundreds of
boxes may share both.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

UPLOAD_EVERY = timedelta(minutes=5)  # one request per sensor and period, whatever the resolution
BACKFILL_SPREAD_MAX = timedelta(minutes=15)
BACKFILL_SPREAD_PER_OUTAGE = 0.1  # an hour away is made up for after six minutes at most
RESERVE = 0.2  # backfill leaves this share of the server's requests to what is fresh

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the server's rate limiter says: `remaining` of `limit` requests until `reset_in`."""

    limit: int
    remaining: int
    reset_in: timedelta


@dataclass(frozen=True, slots=True)
class Pacing:
    """The pace of the box called `identity`. The simulated house may shorten the periods."""

    identity: str
    upload_every: timedelta = UPLOAD_EVERY
    backfill_spread_max: timedelta = BACKFILL_SPREAD_MAX

    def offset(self, purpose: str, period: timedelta) -> timedelta:
        """This box's place in a period: the same for ever, another for each purpose."""
        digest = hashlib.sha256(f"{self.identity}/{purpose}".encode()).digest()
        return period * (int.from_bytes(digest[:8]) / 2**64)

    def next_upload(self, now: datetime) -> datetime:
        """The first moment after `now` at which fresh slots may leave."""
        phase = self.offset("upload", self.upload_every)
        return now + self.upload_every - (now - _EPOCH - phase) % self.upload_every

    def backfill_after(self, outage: timedelta) -> timedelta:
        """How long to wait with old slots once the server answers again."""
        spread = min(outage * BACKFILL_SPREAD_PER_OUTAGE, self.backfill_spread_max)
        return self.offset("backfill", spread)

    def pause(self, allowance: Allowance | None) -> timedelta:
        """How long backfill steps aside, because others need what the server still grants."""
        if allowance is None or allowance.remaining > RESERVE * allowance.limit:
            return timedelta(0)
        return self.retry_after(allowance.reset_in)

    def retry_after(self, told: timedelta) -> timedelta:
        """The server's own wait, and our place in the minute that follows it."""
        return told + self.offset("retry", min(self.upload_every, timedelta(minutes=1)))
