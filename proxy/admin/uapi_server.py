"""The socket that `wg` speaks to: `get` and `set`, as many of them on a connection as somebody likes."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Any, Final, Protocol

from proxy.admin.binding import Bound
from proxy.admin.session import CLIENTS, Listener, Session, log
from proxy.admin.uapi import Framer, Get, Set, UapiError, describe, encode, parse
from proxy.admin.uapi_apply import apply
from usernet.config import Config
from usernet.errors import UsernetError
from usernet.wireguard.statistics import PeerStatistics

LARGE: Final = 64 << 10  # B, of a request that would hold the loop up; 65,000 networks take 0.6 s


class Device(Protocol):
    """What is shown and changed."""

    @property
    def config(self) -> Config: ...

    @property
    def listen_port(self) -> int: ...

    def peer_statistics(self) -> tuple[PeerStatistics, ...]: ...

    async def change(self, alter: Callable[[Config], Config]) -> Any:
        """Be what `alter` makes of the present configuration, all of it or nothing, and nobody else meanwhile.

        Raises what `alter` does, UsernetError or OSError.
        """


class UapiServer:
    """`public_of`: private key -> public key."""

    def __init__(self, device: Device, public_of: Callable[[bytes], bytes]) -> None:
        self._device = device
        self._public_of = public_of
        self._listener: Listener | None = None

    async def listen(self, bound: Bound) -> None:
        self._listener = Listener(bound, self._dialogue)
        await self._listener.start()

    async def close(self) -> None:
        """Idempotent."""
        if self._listener is not None:
            await self._listener.close("system-shutdown")

    async def _dialogue(self, session: Session) -> None:
        framer = Framer()
        while True:
            async with asyncio.timeout(session.seconds):
                try:
                    request = await _next_request(session, framer)
                except UapiError as error:
                    await session.send(_refused(error, -error.number))
                    continue
            if request is None:
                return
            if session.is_surplus:
                busy = UapiError(errno.EBUSY, f"{CLIENTS} clients are connected")
                await session.send(_refused(busy, errno.EBUSY))
                return
            reply = await self._answer(request)
            async with asyncio.timeout(session.seconds):
                await session.send(reply)

    async def _answer(self, request: bytes) -> bytes:
        try:
            wanted = await asyncio.to_thread(parse, request) if len(request) > LARGE else parse(request)
            if isinstance(wanted, Get):
                return self._get()
            await self._set(wanted)
        except (UsernetError, OSError) as error:
            number = _number_of(error)
            # `wg` names what a set failed of by the negative number, and what a get did by the positive one.
            return _refused(error, number if request.startswith(b"get") else -number)
        return b"errno=0\n\n"

    def _get(self) -> bytes:
        device = self._device
        lines = describe(device.config, device.listen_port, device.peer_statistics(), secrets=True)
        return encode(lines) + b"errno=0\n\n"

    async def _set(self, wanted: Set) -> None:
        device = self._device
        port = device.listen_port
        endpoints = {peer.public_key: peer.endpoint for peer in device.peer_statistics() if peer.endpoint is not None}
        changes = await device.change(
            lambda config: apply(config, wanted, public_of=self._public_of, listen_port=port, endpoints=endpoints)
        )
        if changes:
            log.info("changed by wg: %s", changes)
        if wanted.listen_port and wanted.listen_port != device.listen_port:
            log.warning("wg wants UDP port %d, and --port another: it stays", wanted.listen_port)


async def _next_request(session: Session, framer: Framer) -> bytes | None:
    """None where the client asks for nothing more; `wg` connects once for nothing, to see whether we are there."""
    while (request := framer.next_request()) is None:
        data = await session.receive()
        if not data:
            return None
        framer.receive_data(data)
    return request


def _number_of(error: Exception) -> int:
    for one in (error, error.__cause__):
        if isinstance(one, UapiError):
            return one.number
        if isinstance(one, OSError) and one.errno:
            return one.errno
    return errno.EINVAL


def _refused(error: Exception, number: int) -> bytes:
    log.warning("a request of wg was refused: %s", error)
    return b"errno=%d\n\n" % number
