"""A proxy with all its listeners, in front of a network, for as long as a block lasts."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from proxy.auth import Credentials
from proxy.daemon.listeners import Listen, ListenError
from proxy.daemon.narrator import format_endpoint
from proxy.daemon.process import descriptor_limit, log
from proxy.dialer import Net
from proxy.mux import HTTP, SOCKS5
from proxy.server import Listener, OpenListener, Proxy
from proxy.session import Limits

KEPT_DESCRIPTORS = 64  # of the limit, for everything that is not a client
NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class Bound:
    """A listener with the address it has got."""

    listen: Listen
    address: str
    port: int

    @property
    def client_address(self) -> tuple[str, int]:
        """Where a client on this machine finds it."""
        return ANY.get(self.address, self.address), self.port

    def __str__(self) -> str:
        return f"{self.listen.protocols} on {format_endpoint((self.address, self.port))}"


@contextlib.asynccontextmanager
async def serve(
    net: Net, listeners: Sequence[Listen], *, dial_timeout: float = 10.0, allow_anyone: bool = False
) -> AsyncIterator[list[Bound]]:
    """Listen on all of them.  ListenError where one cannot be."""
    proxy = Proxy(net, dial_timeout=dial_timeout, limits=Limits(connections=descriptor_limit() - KEPT_DESCRIPTORS))
    try:
        bound = []
        for listen in listeners:
            opened = await _open(proxy, listen, allow_anyone)
            bound += [Bound(listen, one.address, one.port) for one in opened]
        yield bound
    finally:
        await proxy.close()


async def _open(proxy: Proxy, listen: Listen, allow_anyone: bool) -> list[Listener]:
    credentials = None
    if listen.username is not None and listen.password is not None:
        credentials = Credentials(listen.username, listen.password)
    protocols = [name for name, wanted in ((SOCKS5, listen.socks5), (HTTP, listen.http)) if wanted]
    try:
        return await proxy.listen(
            listen.host, listen.port, protocols=protocols, credentials=credentials, open_to_all=allow_anyone
        )
    except OpenListener as error:
        raise ListenError(
            f"{error}; listen on 127.0.0.1, set Username and Password in the file's [Socks5] and [http], "
            "or add --allow-anyone"
        ) from None
    except OSError as error:
        if listen.optional and error.errno in NO_SUCH_ADDRESS:
            log.debug("%s", error.strerror)
            return []
        if error.errno == errno.EADDRINUSE:
            raise ListenError(f"{error.strerror}; end what listens there, or choose another port") from None
        raise ListenError(error.strerror or f"cannot listen on {listen.host}: {error}") from None
