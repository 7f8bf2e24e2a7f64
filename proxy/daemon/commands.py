"""What can be asked of a running daemon at its admin socket: a table of names and handlers.

Reading: status, ready, ping-through, netcheck, stacks, profile, bugreport, capture.  Changing: rebind, break-tcp-conns;
reload is the daemon's own.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from proxy.admin.protocol import Args, BadArguments, CommandError
from proxy.daemon import netcheck
from proxy.daemon.bugreport import report
from proxy.daemon.profiling import Profile
from proxy.daemon.readiness import LONGEST
from proxy.daemon.stacks import task_stacks
from proxy.status.verdict import judge
from usernet.aio import capture
from usernet.errors import DialError, NameNotFound, NoRoute

if TYPE_CHECKING:
    from proxy.daemon.app import Daemon

INTERVAL: Final = 1.0  # s between two of --watch
CAPTURE_BYTES: Final = 4 << 20  # that wait for a slow reader; what is more is left out, and counted
PIECE_BYTES: Final = 32 << 10  # of a capture at once: in base64 a line of less than the protocol's 64 KiB
PROFILE_SECONDS: Final = (1.0, 120.0)
PING_SECONDS: Final = 5.0


class Commands:
    """Of one daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        register = daemon.controls.admin.register
        for name, handler in (
            ("status", self.status),
            ("ready", self.ready),
            ("ping-through", self.ping),
            ("netcheck", self.netcheck),
            ("stacks", self.stacks),
            ("profile", self.profile),
            ("bugreport", self.bugreport),
            ("capture", self.capture),
        ):
            register(name, handler)
        register("rebind", self.rebind, changes=True)
        register("break-tcp-conns", self.break_connections, changes=True)

    def status(self, args: Args) -> Any:
        """A Status; with `watch` one each `interval` seconds, and at once after a handshake."""
        return self._watch(_number(args, "interval", INTERVAL, 0.1, 3600)) if args.get("watch") else self._status()

    async def _status(self) -> dict[str, Any]:
        status = await self._daemon.observer.status()
        return {**asdict(status), "verdict": asdict(judge(status))}

    async def _watch(self, interval: float) -> AsyncIterator[dict[str, Any]]:
        shaken = asyncio.Event()
        end = self._daemon.observer.on_status(lambda _: shaken.set())
        try:
            while True:
                yield await self._status()
                shaken.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(interval):
                        await shaken.wait()
        finally:
            end()

    async def ready(self, args: Args) -> dict[str, Any]:
        """Whether the tunnel works, and why not."""
        if args.get("live"):
            return {"ready": True, "why": "it runs"}
        return (await self._daemon.readying.ask(LONGEST))._asdict()

    async def ping(self, args: Args) -> float:
        """The seconds that an ICMP echo through the tunnel took."""
        host = args.get("host")
        if not isinstance(host, str):
            raise BadArguments("host is needed")
        network: Any = self._daemon.network
        try:
            seconds: float = await network.ping(host, timeout=PING_SECONDS)
        except DialError as error:
            code = "not-sent" if isinstance(error, NoRoute | NameNotFound) else "no-answer"
            raise CommandError(code, str(error.strerror)) from None
        except TimeoutError:
            raise CommandError("no-answer", "no answer") from None
        except OSError as error:
            raise CommandError("no-answer", str(error.strerror or error)) from None
        return seconds

    async def netcheck(self, args: Args) -> dict[str, Any]:
        return await netcheck.check(self._daemon.network, self._daemon.config)

    async def stacks(self, args: Args) -> str:
        """Of threads and tasks."""
        from proxy.daemon.threads import thread_stacks

        return "\n".join([*thread_stacks(), *task_stacks(asyncio.get_running_loop())]) + "\n"

    async def profile(self, args: Args) -> str:
        """Collapsed stacks of so many `seconds`, a line each with how often it was seen, as flame graphs want them."""
        seconds = _number(args, "seconds", 10.0, *PROFILE_SECONDS)
        with Profile() as profile:
            await asyncio.sleep(seconds)
        return profile.collapsed()

    async def bugreport(self, args: Args) -> str:
        network = await self.netcheck(args)
        return report(await self._daemon.observer.status(), self._daemon.config, network)

    async def rebind(self, args: Args) -> str:
        with self._daemon.watchdog.call("rebind"):
            self._daemon.network.rebind()
        return f"UDP port {self._daemon.network.listen_port}"

    async def break_connections(self, args: Args) -> str:
        """Reset what the proxies and the forwards relay."""
        daemon = self._daemon
        parts = (daemon.serving.proxy, daemon.leading, daemon.answering)
        return f"connections reset: {sum(part.break_connections() for part in parts)}"

    async def capture(self, args: Args) -> AsyncIterator[dict[str, Any]]:
        """A pcap file of `count` packets, or for as long as somebody reads: pieces in base64.

        Where one is `whole` the file can end: it ends with a packet.
        """
        count = int(_number(args, "count", 0, 0, 1 << 53))  # 0: any
        snaplen = int(_number(args, "snaplen", capture.SNAPLEN, 1, capture.SNAPLEN))
        waiting = deque([capture.header(snaplen)])
        size = len(waiting[0])
        taken = left_out = 0
        more = asyncio.Event()
        more.set()

        def write(record: bytes) -> None:
            nonlocal size, taken, left_out
            if count and taken >= count:
                return
            if size + len(record) > CAPTURE_BYTES:
                left_out += 1
                return
            taken += 1
            size += len(record)
            waiting.append(record)
            more.set()

        with self._daemon.network.captured(write, snaplen):
            while waiting or not count or taken < count:
                await more.wait()
                data = waiting.popleft()
                while waiting and len(data) + len(waiting[0]) <= PIECE_BYTES:
                    data += waiting.popleft()
                size -= len(data)
                if not waiting:
                    more.clear()
                for at in range(0, len(data), PIECE_BYTES):
                    yield {
                        "data": base64.b64encode(data[at : at + PIECE_BYTES]).decode("ascii"),
                        "whole": at + PIECE_BYTES >= len(data),
                        "left_out": left_out,
                    }


def _number(args: Args, name: str, default: float, low: float, high: float) -> float:
    value = args.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise BadArguments(f"{name} is a number from {low:g} to {high:g}")
    return float(value)
