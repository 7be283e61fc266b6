"""Finds Home Assistant in the house: it announces itself by DNS-SD, and avahi knows who does."""

import asyncio
import contextlib
import re

from edge.errors import Unreachable

SERVICE = "_home-assistant._tcp"
BROWSE_WITHIN_S = 8.0
_INSIDE = re.compile(r'"internal_url=(https://[^"]+)"')
_ESCAPED = re.compile(rb"\\(?:([0-9]{3})|(.))")


async def discover() -> dict[str, str]:
    """Address → name of every Home Assistant that announces itself. Raises Unreachable."""
    return announced(await browse())


async def browse() -> str:
    """What avahi-browse prints of them. Raises Unreachable where it cannot be asked."""
    try:
        browser = await asyncio.create_subprocess_exec(
            "avahi-browse",
            "--parsable",
            "--resolve",
            "--terminate",
            "--no-db-lookup",
            SERVICE,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as problem:
        raise Unreachable("this box cannot search the network: type the address") from problem
    assert browser.stdout is not None  # noqa: S101  # asked for above
    told = b""
    try:
        async with asyncio.timeout(BROWSE_WITHIN_S):
            while heard := await browser.stdout.read(4096):
                told += heard
            failed = await browser.wait() != 0
    except TimeoutError:  # one that is gone and was not forgotten yet must not hide the others
        failed = False
    finally:
        if browser.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                browser.kill()
            await browser.wait()
    if failed:
        raise Unreachable("this box cannot search the network now: type the address")
    return told.decode(errors="replace")


def announced(told: str) -> dict[str, str]:
    """What `avahi-browse -p -r` printed, as address → name; IPv4 only, each once.

    Where Home Assistant says that inside the house it is reached by https, that address counts:
    its certificate bears a name.
    """
    found = {}
    for line in told.splitlines():
        # =;interface;protocol;name;type;domain;host;address;port;"key=value" …
        parts = line.split(";", 9)
        if parts[0] == "=" and len(parts) > 8 and parts[2] == "IPv4" and parts[8].isdecimal():
            secure = _INSIDE.search(parts[9]) if len(parts) > 9 else None
            url = secure[1] if secure else f"http://{parts[7]}:{parts[8]}"
            found[url] = _unescaped(parts[3])
    return found


def _unescaped(name: str) -> str:
    r"""avahi writes each byte beyond plain letters as a backslash and three decimal digits (\032
    is a space, \195\169 is é), and a backslash before a dot or another backslash."""
    plain = _ESCAPED.sub(lambda m: bytes([int(m[1]) & 255]) if m[1] else m[2], name.encode())
    return plain.decode(errors="replace")
