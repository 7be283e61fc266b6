"""Sets the clock from a web server's Date where time servers are blocked.

Good to a few seconds, which slots of five minutes can bear. The servers are the one FlexMeasures
runs on (the agent leaves its address in a file) and the release address. The connection is
verified but for the one thing that cannot be: our clock may stand at the image's date, before the
certificate was issued. So the Date it says must lie within the certificate's own years.
"""

import ctypes
import email.utils
import http.client
import ssl
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

FROM_AGENT = Path("/run/edge/time-source")
FROM_BUILD = Path("/usr/lib/edge/release-address")  # may be empty
FLOOR = Path("/usr/lib/clock-epoch")

_ASK_WITHIN_S = 20.0
_CLOSE_ENOUGH = timedelta(seconds=5)  # a Date says whole seconds, and travels
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME: Python has no name for it
_ADJ_MAXERROR, _ADJ_ESTERROR, _ADJ_STATUS = 0x0004, 0x0008, 0x0010
_ERROR_US = 2_000_000


def main() -> int:
    floor = datetime.fromtimestamp(FLOOR.stat().st_mtime, UTC)
    for address in addresses(FROM_AGENT, FROM_BUILD):
        found = ask(address)
        if found is None or found < floor:
            continue
        if abs(found - datetime.now(UTC)) > _CLOSE_ENOUGH:
            time.clock_settime(time.CLOCK_REALTIME, found.timestamp())
        _call_it_synchronised()
        print(f"time from {urlsplit(address).hostname}", file=sys.stderr)
        return 0
    return 0  # nobody answered: the timer asks again


def addresses(*files: Path) -> list[str]:
    """https addresses, one a line, of the files that are there."""
    found: list[str] = []
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        found += [line.strip() for line in lines if line.strip().startswith("https://")]
    return found


def ask(address: str, context: ssl.SSLContext | None = None) -> datetime | None:
    """The Date of the server's answer, or None."""
    parts = urlsplit(address)
    if parts.hostname is None:
        return None
    context = context or ssl.create_default_context()
    context.verify_flags |= _NO_CHECK_TIME
    connection = http.client.HTTPSConnection(
        parts.hostname, parts.port or 443, timeout=_ASK_WITHIN_S, context=context
    )
    try:
        connection.connect()
        certificate = connection.sock.getpeercert() or {}
        connection.request("HEAD", "/")
        found = date_of(connection.getresponse().getheader("Date") or "")
    except (OSError, http.client.HTTPException) as problem:
        print(f"no time from {parts.hostname}: {problem}", file=sys.stderr)
        return None
    finally:
        connection.close()
    return found if found and certificate and _lies_within(found, certificate) else None


def _lies_within(found: datetime, certificate: Mapping[str, object]) -> bool:
    begins, ends = str(certificate["notBefore"]), str(certificate["notAfter"])
    return ssl.cert_time_to_seconds(begins) <= found.timestamp() <= ssl.cert_time_to_seconds(ends)


def date_of(header: str) -> datetime | None:
    """An HTTP Date as UTC, or None."""
    try:
        found = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    return found.astimezone(UTC)


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2) on 64-bit Linux; only the first fields are named."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 32),
    )


def _call_it_synchronised() -> None:
    """Tell the kernel that its clock is right to two seconds; it takes that back by itself when
    nobody repeats it for some hours."""
    wanted = _Timex(
        modes=_ADJ_MAXERROR | _ADJ_ESTERROR | _ADJ_STATUS, maxerror=_ERROR_US, esterror=_ERROR_US
    )
    ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(wanted))


if __name__ == "__main__":
    sys.exit(main())
