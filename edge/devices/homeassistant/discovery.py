"""Finds Home Assistant in the house: it announces itself by DNS-SD, and avahi knows who does."""

import asyncio
import contextlib

from edge.errors import Unreachable

SERVICE = "_home-assistant._tcp"
BROWSE_WITHIN_S = 8.0


async def discover() -> dict[str, str]:
    """Address → name of every Home Assistant that announces itself. Raises Unreachable."""
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
    try:
        async with asyncio.timeout(BROWSE_WITHIN_S):
            told, _ = await browser.communicate()
    except TimeoutError:
        told = b""
    finally:
        if browser.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                browser.kill()
            await browser.wait()
    return announced(told.decode(errors="replace"))


def announced(told: str) -> dict[str, str]:
    """What `avahi-browse -p -r` printed, as address → name; IPv4 only, each once."""
    found = {}
    for line in told.splitlines():
        # =;interface;protocol;name;type;domain;host;address;port;"key=value" …
        parts = line.split(";", 9)
        if parts[0] == "=" and len(parts) > 8 and parts[2] == "IPv4" and parts[8].isdecimal():
            found[f"http://{parts[7]}:{parts[8]}"] = _unescaped(parts[3])
    return found


def _unescaped(name: str) -> str:
    r"""avahi writes a space as \032: a backslash and three decimal digits."""
    first, *rest = name.split("\\")
    return first + "".join(
        chr(int(part[:3])) + part[3:] if part[:3].isdecimal() and len(part) > 2 else part
        for part in rest
    )
