"""What a service manager is told of us: that we serve, read our file again, stop; how we are, and that we still turn.

sd_notify(3): a datagram of lines to the socket in $NOTIFY_SOCKET.  Where there is none nothing happens.

    notifier = Notifier.of(os.environ)
    notifier.ready()
    await notifier.run(lambda: "2 of 3 peers answer")     # for ever: the watchdog, and the status when it has changed
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, MutableMapping
from typing import Final

from proxy.daemon.process import log

STATUS_SECONDS: Final = 10.0  # between two looks at the status, where no watchdog wants to hear of us more often
SEND_SECONDS: Final = 0.5  # a manager whose queue is full may take so long
STOP_MARGIN: Final = 10.0  # s beyond those that connections have to finish


class Notifier:
    """`address`: a socket's path, or its abstract name with a leading zero byte; None: nobody is told."""

    def __init__(self, address: str | None = None, watchdog: float | None = None) -> None:
        """`watchdog`: s without a word, after which the manager takes us for hung."""
        self._address = address
        self._watchdog = watchdog
        self._status = ""

    @classmethod
    def of(cls, environ: MutableMapping[str, str]) -> Notifier:
        """Takes the variables out, so that no child of ours speaks for us."""
        address = environ.pop("NOTIFY_SOCKET", "")
        usec, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        if not address:
            return cls()
        if address[0] not in "/@" or len(address) < 2:
            log.warning("NOTIFY_SOCKET: %s is neither a path nor an abstract socket; nobody is notified", address)
            return cls()
        ours = usec.isascii() and usec.isdigit() and int(usec) > 0 and pid in ("", str(os.getpid()))
        return cls("\0" + address[1:] if address[0] == "@" else address, int(usec) / 1e6 if ours else None)

    @property
    def is_heard(self) -> bool:
        return self._address is not None

    def send(self, *lines: str) -> None:
        """An error is logged and no more: whether we are supervised is not what we are for."""
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(SEND_SECONDS)
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.warning("the service manager was not told %s: %s", lines[0].partition("=")[0], error.strerror or error)

    def ready(self) -> None:
        self.send("READY=1")

    def status(self, text: str) -> None:
        """One line for whoever asks the manager; told when it is another one."""
        if text != self._status:
            self._status = text
            self.send("STATUS=" + " ".join(text.split()))

    def stopping(self, within: float = 0.0) -> None:
        """`within`: s that connections have to finish."""
        usec = round((within + STOP_MARGIN) * 1e6)
        self.send("STOPPING=1", "STATUS=stopping", *([f"EXTEND_TIMEOUT_USEC={usec}"] if within else []))

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """While the block lasts.  However it ends we serve: a reload that fails has changed nothing."""
        # systemd tells by the time that this answers its own SIGHUP (sd_notify(3), Type=notify-reload).
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        try:
            yield
        finally:
            self.ready()

    async def run(self, status: Callable[[], str]) -> None:
        """The loop turns for as long as this does: twice in the watchdog's time it says so."""
        if not self.is_heard:
            return
        step = min(STATUS_SECONDS, self._watchdog / 2 if self._watchdog is not None else STATUS_SECONDS)
        while True:
            self.status(status())
            if self._watchdog is not None:
                self.send("WATCHDOG=1")
            await asyncio.sleep(step)


NOBODY: Final = Notifier()
