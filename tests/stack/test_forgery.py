"""A transfer both ways while somebody forges segments of it, as tests/interop/test_forgery.py has it, but shorter."""

from __future__ import annotations

import random

import pytest

from tests.support.forgery import BURST, Forger
from tests.support.stack import B4, B6, Path, pair
from usernet.tcp.settings import TcpSettings
from usernet.tcp.state import ESTABLISHED

SIZE = 6 << 20
REASONS = ("tcp-unacceptable", "tcp-reset", "tcp-syn", "tcp-ack", "tcp-echo", "tcp-paws")
LARGE = TcpSettings(receive_buffer=8 << 20)  # the widest window for guesses to fall in


@pytest.mark.parametrize("remote", [B4, B6])
@pytest.mark.parametrize("lucky", [False, True])
def test_forged_segments_change_nothing(remote: bytes, lucky: bool) -> None:
    world, a, b = pair(Path(whole=True, rate=25e6), settings=LARGE)
    b.host.listen(80)
    client = a.host.connect(remote, 80, world.now)
    assert world.run(5, until=lambda: bool(b.accepted))
    (server,) = b.accepted
    up, down = random.Random(1).randbytes(SIZE), random.Random(2).randbytes(SIZE)
    a.write(client, up, world.now, shut=True)
    b.write(server, down, world.now, shut=True)
    world.run(0.1)
    forger = Forger(client, 3, lucky=lucky)
    for _ in range(3 if lucky else 60):
        assert client.state is ESTABLISHED
        assert client.sender.nxt > client.sender.una, "it is to be under way"
        a.host.receive_packets(forger.burst(), world.now)
        a.look(world.now)
        world.run(0.002)
    assert world.run(60, until=lambda: client.at_eof and server.at_eof)
    assert bytes(b.received[server]) == up
    assert bytes(a.received[client]) == down
    drops = a.host.statistics().drops
    assert sum(drops.get(reason, 0) for reason in REASONS) > 0.9 * forger.sent
    if lucky:
        assert drops["tcp-echo"] == 12 * BURST * 3 // 16
