"""A smart meter's P1 port on a pseudo-terminal: says a recorded telegram."""

import asyncio
import os
import pty
import tty
from pathlib import Path

from edge.devices.p1 import crc

DUMPS = Path(__file__).parents[1] / "dumps/dsmr"


class P1Meter:
    def __init__(self, dump: str = "emucs-be") -> None:
        self._text = (DUMPS / f"{dump}.txt").read_text("ascii").partition("!")[0].splitlines()
        self._master, self._port = pty.openpty()
        tty.setraw(self._port)
        self.path = os.ttyname(self._port)

    def say(self, *instead: tuple[str, str], damaged: bool = False) -> None:
        """Say the telegram, (old, new) words in it exchanged."""
        text = "\r\n".join([*self._text, "!"])
        for old, new in instead:
            text = text.replace(old, new)
        os.write(self._master, f"{text}{crc(text.encode()) ^ damaged:04X}\r\n".encode())

    async def run(self) -> None:
        """A telegram each second, for ever: the house's meter."""
        while True:
            self.say()
            await asyncio.sleep(1)

    def unplug(self) -> None:
        os.close(self._master)
        os.close(self._port)
