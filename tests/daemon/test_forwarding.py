"""Places for backends: bounded over all forwarders."""

from __future__ import annotations

import asyncio
import errno

import pytest

from proxy.daemon.forwarding import Places, shown
from usernet import Inbound
from usernet.config import ServerTunnel


async def test_no_more_than_there_are_descriptors_for() -> None:
    places = Places(2)
    taken = [1, 1]
    for number in range(2):
        places.count(lambda number=number: taken[number])  # type: ignore[misc]
    tunnel = ServerTunnel("udp", 80, ("127.0.0.1", 9))
    dial = places.dial_to(tunnel)
    inbound = Inbound(("10.0.0.1", 1), ("10.0.0.2", 80))
    transport, _ = await dial(asyncio.DatagramProtocol, inbound)
    transport.close()
    taken[1] = 2
    with pytest.raises(OSError, match="too many") as caught:
        await dial(asyncio.DatagramProtocol, inbound)
    assert caught.value.errno == errno.EMFILE


def test_what_is_said() -> None:
    assert shown(ServerTunnel("tcp", 80, ("::1", 8080))) == "forward: TCP port 80 to [::1]:8080"
