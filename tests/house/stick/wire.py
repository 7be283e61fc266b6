"""The plug of the simulated stick: a pseudo-terminal under a stable path that can be pulled.

Owns the pseudo-terminal and the symlink. Bytes that arrive while no driver has the port open are
lost, as on a real USB stick. Never interprets what it carries.
"""

import asyncio
import os
import select
import tty
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

OPEN_POLL_S = 0.05  # how soon a driver that opens the port is noticed
CHUNK_BYTES = 4096


class Wire:
    """`on_data` gets what the driver writes; `send` carries bytes to it."""

    def __init__(self, link: Path, on_data: Callable[[bytes], None]) -> None:
        self.link = link
        self.deaf = False  # a stick that hangs: the port is there, nothing comes or goes
        self._on_data = on_data
        self._master: int | None = None
        self._is_open = False
        self._poll: asyncio.TimerHandle | None = None

    @property
    def plugged(self) -> bool:
        return self._master is not None

    def plug(self) -> None:
        """Make the port appear under its path."""
        if self.plugged:
            return
        self._master, slave = os.openpty()
        tty.setraw(slave)
        path = os.ttyname(slave)
        os.close(slave)  # held open here, the port would never look closed
        os.set_blocking(self._master, False)
        self.link.parent.mkdir(parents=True, exist_ok=True)
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(path)
        self._await_driver()

    def unplug(self) -> None:
        """Make the port vanish, also for a driver that has it open."""
        if self._master is None:
            return
        self._stop_watching()
        os.close(self._master)
        self._master = None
        self.link.unlink(missing_ok=True)

    def send(self, data: bytes) -> None:
        if self._master is None or not self._is_open or self.deaf:
            return
        with suppress(OSError):  # the driver closed it just now, or does not read: lost
            os.write(self._master, data)

    def _stop_watching(self) -> None:
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None
        if self._is_open and self._master is not None:
            asyncio.get_running_loop().remove_reader(self._master)
        self._is_open = False

    def _await_driver(self) -> None:
        """While no driver has the port open, reading fails at once: look now and then instead."""
        assert self._master is not None
        loop = asyncio.get_running_loop()
        waiting = select.poll()
        waiting.register(self._master, select.POLLIN)
        events = waiting.poll(0)
        if any(event & select.POLLHUP for _, event in events):
            self._poll = loop.call_later(OPEN_POLL_S, self._await_driver)
            return
        self._poll = None
        self._is_open = True
        loop.add_reader(self._master, self._receive)

    def _receive(self) -> None:
        assert self._master is not None
        try:
            data = os.read(self._master, CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:  # the driver closed the port
            self._stop_watching()
            self._await_driver()
            return
        if not self.deaf:
            self._on_data(data)
