"""When something silent is reason to ask its peer for a new session, between two real tunnels in virtual time."""

from __future__ import annotations

import base64
from itertools import pairwise
from typing import cast

import pytest

from tests.support.wireguard import INITIATION, Node, World, connected, inner_packet
from usernet.aio import reach as module
from usernet.aio.endpoints import Endpoints
from usernet.aio.reach import DOUBTFUL, Reach
from usernet.config import parse
from usernet.wire.ip import pack_address
from usernet.wireguard.constants import REKEY_TIMEOUT

AB = inner_packet("10.0.0.1", "10.0.0.2")
BA = inner_packet("10.0.0.2", "10.0.0.1")
B, NOBODY = pack_address("10.0.0.2"), pack_address("10.0.0.9")
ENOUGH = DOUBTFUL + 0.01  # s


class Bench:
    """What `a` reaches, which has had a session with `b` for a while."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world, self.a, self.b = connected()
        self.world.run(REKEY_TIMEOUT + 1)  # else a handshake would be too soon after the first
        self.began = self.world.now
        self.wakes = 0
        config = parse(
            f"[Interface]\nPrivateKey = {base64.b64encode(bytes(31) + b'@').decode()}\nAddress = 10.0.0.1/32\n"
            f"[Peer]\nPublicKey = {base64.b64encode(self.b.key).decode()}\nAllowedIPs = 10.0.0.2/32\n",
            "a.conf",
        )
        unused = cast(Endpoints, None)
        self.reach = Reach(config, self.a.tunnel, unused, self._wake)
        monkeypatch.setattr(module, "boottime", lambda: self.world.now)

    def _wake(self) -> None:
        self.wakes += 1
        self.world.collect(self.a)

    def doubt(self, address: bytes = B) -> list[float]:
        """When initiations have left by the end of it, from the start of the test."""
        self.reach.doubt(address)
        self.world.roundtrip()
        return [at - self.began for at in self.world.sent(INITIATION, self.a, self.began)]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def cut(world: World, silent: Node) -> None:
    """Nothing of this node's arrives any more."""
    world.fate = lambda source, destination, datagram: () if source == silent.address else (0.0,)


def test_a_peer_that_has_been_asked_nothing_is_not_doubted(bench: Bench) -> None:
    bench.world.run(60)
    assert bench.doubt() == []
    assert bench.wakes == 0


def test_a_peer_that_owes_an_answer_for_long_enough_is_asked(bench: Bench) -> None:
    cut(bench.world, bench.b)
    bench.a.send(AB)
    assert bench.doubt() == []
    bench.world.run(DOUBTFUL - 0.01)
    assert bench.doubt() == []
    assert bench.wakes == 0
    bench.world.run(0.02)
    assert bench.doubt() == [pytest.approx(ENOUGH)]
    assert bench.wakes == 1


def test_a_silent_host_behind_a_peer_that_is_heard_is_not_its_fault(bench: Bench) -> None:
    for _ in range(20):
        bench.a.send(AB)
        bench.world.run(DOUBTFUL / 2)
        bench.b.send(BA)  # of another host there
        bench.world.run(DOUBTFUL / 2 + 0.01)
        assert bench.doubt() == []
    assert bench.wakes == 0


def test_silence_counts_from_what_went_first_and_ends_with_any_answer(bench: Bench) -> None:
    cut(bench.world, bench.b)
    for _ in range(3):
        bench.a.send(AB)
        bench.world.run(DOUBTFUL / 4)
    assert bench.doubt() == []
    bench.world.fate = lambda source, destination, datagram: (0.0,)
    bench.b.send(BA)
    bench.world.run(ENOUGH)
    assert bench.doubt() == []
    bench.a.send(AB)
    bench.world.run(ENOUGH)
    assert len(bench.doubt()) == 1


def test_however_often_it_is_doubted_one_initiation_leaves_in_five_seconds(bench: Bench) -> None:
    cut(bench.world, bench.b)
    bench.a.send(AB)
    while bench.world.now < bench.began + 3 * REKEY_TIMEOUT:
        bench.world.run(0.1)
        sent = bench.doubt()
    assert len(sent) == 3
    assert min(later - sooner for sooner, later in pairwise(sent)) >= REKEY_TIMEOUT


def test_the_answer_is_a_session(bench: Bench) -> None:
    """As of a far end that was started anew, and knows nothing of the old one."""
    bench.b.restart()
    bench.b.add(bench.a, "10.0.0.1/32")
    bench.a.send(AB)
    bench.world.run(ENOUGH)
    assert bench.b.packets == []
    assert len(bench.doubt()) == 1
    bench.a.send(AB)
    bench.world.roundtrip()
    assert bench.b.packets == [AB]


def test_what_no_peer_carries_is_nobodys_fault(bench: Bench) -> None:
    cut(bench.world, bench.b)
    bench.a.send(AB)
    bench.world.run(ENOUGH)
    assert bench.doubt(NOBODY) == []
    assert bench.wakes == 0
