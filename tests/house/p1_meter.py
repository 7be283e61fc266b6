"""A smart meter's P1 port on a pseudo-terminal: says a recorded telegram."""

import asyncio
import itertools
import os
import pty
import tty
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

from edge.devices.p1 import crc

DUMPS = Path(__file__).parents[1] / "dumps/dsmr"


class P1Meter:
    def __init__(self, dump: str = "emucs-be") -> None:
        self._text = (DUMPS / f"{dump}.txt").read_text("ascii").partition("!")[0].splitlines()
        self._master, self._port = pty.openpty()
        tty.setraw(self._port)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._port)

    def say(self, *instead: tuple[str, str], damaged: bool = False) -> None:
        """Say the telegram, (old, new) words in it exchanged."""
        text = "\r\n".join([*self._text, "!"])
        for old, new in instead:
            text = text.replace(old, new)
        with suppress(BlockingIOError):  # nobody listens, the line is full
            os.write(self._master, f"{text}{crc(text.encode()) ^ damaged:04X}\r\n".encode())

    async def run(self) -> None:
        """A telegram each second for ever, gas of this minute; the 198 W sent back are counted."""
        for second in itertools.count():
            minute = f"{datetime.now(timezone(timedelta(hours=1))):%y%m%d%H%M}00W"
            count = f"{139.553 + 0.198 * second / 3600:010.3f}"
            self.say(("000139.553", count), ("190905142001S", minute))
            await asyncio.sleep(1)

    def unplug(self) -> None:
        os.close(self._master)
        os.close(self._port)
