"""Places for backends: bounded over all forwarders."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from proxy.daemon.answering import Answering, shown
from tests.support.networks import RIGHT, memory_pair
from usernet.config import ServerTunnel


async def test_no_more_than_there_are_descriptors_for() -> None:
    """The dial of one that is counted already: two at once, and not a third."""
    async with memory_pair() as pair:
        answering = Answering(pair.right, 2)
        sink, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        target = sink.get_extra_info("sockname")
        with contextlib.ExitStack() as undo:
            tunnels = [ServerTunnel("udp", 80, target), ServerTunnel("udp", 81, target)]
            (await answering.prepare(tunnels, undo))()
            undo.pop_all()
        clients = [await pair.left.open_datagrams(remote_addr=(RIGHT, port)) for port in (80, 81, 80)]
        for client in clients[:2]:
            client.send(b"hello")
        while sum(answer.open_now for answer in answering._every()) < 2:
            await asyncio.sleep(0.001)
        clients[2].send(b"hello")
        with pytest.raises(ConnectionRefusedError):
            await clients[2].receive()
        for client in clients:
            client.close()
        await answering.close()
        sink.close()


def test_what_is_said() -> None:
    assert shown(ServerTunnel("tcp", 80, ("::1", 8080))) == "forward: the tunnel's TCP port 80 to [::1]:8080"
