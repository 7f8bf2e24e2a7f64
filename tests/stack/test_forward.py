"""Forwarders: the client waits while somebody dials, is let in or reset, hangs up, falls silent, comes in numbers."""

from __future__ import annotations

import errno
import random

import pytest

from tests.support.mutation import mutate, repair
from tests.support.stack import A4, A6, B4, B6, Path, Station, World, pair
from usernet.stack.events import Abandoned, Accepted, Asked, FlowBegun
from usernet.stack.forward import PENDING_MAX, SILENCE_SECONDS
from usernet.stack.listener import Forwarder
from usernet.tcp.settings import Flow
from usernet.tcp.state import CLOSED, ESTABLISHED, SYN_SENT
from usernet.wire.ip import UDP, pack_address
from usernet.wire.packet import encode_packet
from usernet.wire.tcp import ACK, RST, SYN, TcpSegment, encode_options, encode_segment, parse_segment
from usernet.wire.udp import UdpDatagram

FAMILIES = [(A4, B4), (A6, B6)]
SUBNET = pack_address("192.168.7.0")
BEHIND = pack_address("192.168.7.9")


def forwarding(port: int = 80) -> tuple[World, Station, Station, Forwarder]:
    world, a, b = pair()
    return world, a, b, b.host.forwards.open(None, port)


def asked(world: World, b: Station) -> Flow:
    """The only client that waits."""
    assert world.run(5, until=lambda: any(isinstance(event, Asked) for event in b.events))
    (event,) = [event for event in b.events if isinstance(event, Asked)]
    return event.flow


def abandoned(b: Station) -> list[Flow]:
    return [event.flow for event in b.events if isinstance(event, Abandoned)]


def sent_by(world: World, number: int) -> list[TcpSegment]:
    """TCP segments that a station sends from now on."""
    segments: list[TcpSegment] = []

    def tap(sender: int, packet: bytes) -> None:
        at = 20 if packet[0] >> 4 == 4 else 40
        if sender == number:
            segments.append(parse_segment(memoryview(packet), at, len(packet)))

    world.tap = tap
    return segments


def syn(source: bytes, port: int, *, seq: int = 1000, to: int = 80) -> bytes:
    return encode_segment(source, B4, port, to, seq, 0, SYN, 1000, encode_options(1000, None, False, (), None))


@pytest.mark.parametrize(("own", "remote"), FAMILIES)
def test_the_handshake_waits_for_the_backend(own: bytes, remote: bytes) -> None:
    world, a, b, forwarder = forwarding()
    answers = sent_by(world, 1)
    client = a.host.connect(remote, 80, world.now)
    flow = asked(world, b)
    assert (flow.local, flow.local_port, flow.remote) == (remote, 80, own)
    assert not world.run(2.5, until=lambda: client.state is not SYN_SENT)
    assert not answers, "not a word before the backend is there"
    assert client.statistics().segments_resent, "it has asked more than once"
    assert b.host.statistics().pending_forwards == 1
    assert b.host.forwards.admit(forwarder, flow, world.now)
    assert world.run(5, until=lambda: client.state is ESTABLISHED and bool(b.accepted))
    (accepted,) = [event for event in b.events if isinstance(event, Accepted)]
    assert accepted.listener is forwarder
    assert accepted.connection.flow == flow
    assert [type(event) for event in b.events] == [Asked, Accepted], "dialled once"
    assert b.host.statistics().pending_forwards == 0
    a.write(client, b"hello" * 1000, world.now)
    assert world.run(5, until=lambda: bytes(b.received.get(accepted.connection, b"")) == b"hello" * 1000)


def test_what_the_client_offered_holds() -> None:
    world, a, b, forwarder = forwarding()
    client = a.host.connect(B4, 80, world.now)
    b.host.forwards.admit(forwarder, asked(world, b), world.now)
    assert world.run(5, until=lambda: client.state is ESTABLISHED and bool(b.accepted))
    (server,) = b.accepted
    assert server.timestamps
    assert client.timestamps
    assert server.sender.mss == client.sender.mss > 1300


@pytest.mark.parametrize("remote", [B4, B6])
def test_without_a_backend_the_client_is_refused(remote: bytes) -> None:
    world, a, b, forwarder = forwarding()
    client = a.host.connect(remote, 80, world.now)
    flow = asked(world, b)
    b.host.forwards.refuse(forwarder, flow)
    assert world.run(1, until=lambda: client.state is CLOSED)
    assert isinstance(client.error, ConnectionRefusedError)
    assert not b.host.forwards.admit(forwarder, flow, world.now), "too late"
    b.host.forwards.refuse(forwarder, flow)
    assert_nothing_left(world, b)


def test_a_client_that_hangs_up_cancels() -> None:
    world, _, b, forwarder = forwarding()
    world.inject(1, syn(A4, 5000))
    flow = asked(world, b)
    for wrong in (999, 1002):
        world.inject(1, encode_segment(A4, B4, 5000, 80, wrong, 0, RST, 0))
    assert not abandoned(b), "a guess"
    assert b.host.statistics().drops["tcp-reset-no-connection"] == 2
    world.inject(1, encode_segment(A4, B4, 5000, 80, 1001, 0, RST, 0))
    assert abandoned(b) == [flow]
    assert not b.host.forwards.admit(forwarder, flow, world.now)
    assert_nothing_left(world, b)


def test_a_client_that_falls_silent_cancels() -> None:
    world, _, b, forwarder = forwarding()
    world.inject(1, syn(A4, 5000))
    flow = asked(world, b)
    world.run(3)
    world.inject(1, syn(A4, 5000))
    world.run(SILENCE_SECONDS + 1)
    assert not abandoned(b), "it has asked again"
    world.run(10)
    assert abandoned(b) == [flow]
    assert b.host.statistics().drops["forward-client-silent"] == 1
    assert not b.host.forwards.admit(forwarder, flow, world.now)
    assert_nothing_left(world, b)


def test_a_client_with_lossy_repetitions_is_waited_for() -> None:
    """RFC 6298 5.5: after 1, 2, 4 ... seconds; any one of them may be lost."""
    for lost in range(5):
        world, _, b, _ = forwarding()
        began = world.now
        for number, at in enumerate((0, 1, 3, 7, 15, 31)):
            world.run(began + at - world.now)
            if number != lost:
                world.inject(1, syn(A4, 5000))
        assert not abandoned(b), lost


def test_a_client_that_begins_anew_is_answered_as_it_asked_last() -> None:
    world, _, b, forwarder = forwarding()
    answers = sent_by(world, 1)
    world.inject(1, syn(A4, 5000, seq=1000))
    world.inject(1, syn(A4, 5000, seq=777_000))
    b.host.forwards.admit(forwarder, asked(world, b), world.now)
    world.pump()
    assert [(answer.flags, answer.ack) for answer in answers] == [(SYN | ACK, 777_001)]


def test_data_in_a_syn_is_not_kept() -> None:
    """It would hold the whole burst that it came in."""
    world, _, b, forwarder = forwarding()
    answers = sent_by(world, 1)
    world.inject(1, encode_segment(A4, B4, 5000, 80, 1000, 0, SYN, 1000, b"", bytes(500)))
    (asking,) = b.host.forwards._pending.values()
    assert len(asking.syn.payload) == 0
    b.host.forwards.admit(forwarder, asked(world, b), world.now)
    world.pump()
    assert [(answer.flags, answer.ack) for answer in answers] == [(SYN | ACK, 1001)]


def test_a_client_that_is_gone_when_the_backend_is_there() -> None:
    """It answers our SYN-ACK with a reset, as a kernel whose program has given up does."""
    world, _, b, forwarder = forwarding()
    world.inject(1, syn(A4, 5000))
    flow = asked(world, b)
    assert b.host.forwards.admit(forwarder, flow, world.now)
    world.pump()
    assert b.host.statistics().pending_forwards == 1, "until the handshake is over"
    world.inject(1, encode_segment(A4, B4, 5000, 80, 1001, 0, RST, 0))
    assert abandoned(b) == [flow]
    assert_nothing_left(world, b)


def test_a_client_that_never_answers_our_syn_ack() -> None:
    world, _, b, forwarder = forwarding()
    world.inject(1, syn(A4, 5000))
    flow = asked(world, b)
    answers = sent_by(world, 1)
    assert b.host.forwards.admit(forwarder, flow, world.now)
    world.paths = (Path(), Path(loss=1.0))
    world.run(14)
    assert not abandoned(b)
    world.run(2)
    assert abandoned(b) == [flow], "the backend is not held for minutes"
    assert {answer.flags for answer in answers} == {SYN | ACK}
    assert_nothing_left(world, b)


def test_one_client_leaves_room_for_others() -> None:
    world, _, b, forwarder = forwarding()
    packets = [syn(A4, 1024 + number) for number in range(6000)]
    for at in range(0, len(packets), 100):
        world.inject(1, *packets[at : at + 100])
    share = PENDING_MAX * 2 // 3
    assert b.host.statistics().pending_forwards == share
    assert b.host.statistics().drops["forward-client-full"] == 6000 - share
    others = [A4[:2] + number.to_bytes(2, "big") for number in range(300, 3300)]
    for other in others:
        world.inject(1, syn(other, 5000))
    assert b.host.statistics().pending_forwards == PENDING_MAX
    assert b.host.statistics().drops["forward-full"] == share + 3000 - PENDING_MAX
    before = len(b.events)
    flow = next(event.flow for event in b.events if isinstance(event, Asked))
    b.host.forwards.refuse(forwarder, flow)
    world.inject(1, syn(others[-1], 6000))
    assert len(b.events) == before + 1, "room again"
    world.run(60)
    assert_nothing_left(world, b)


def test_closing_resets_whoever_waits() -> None:
    world, a, b, forwarder = forwarding()
    waiting = a.host.connect(B4, 80, world.now)
    asked(world, b)
    world.inject(1, syn(A4, 5000))
    half_open = next(e.flow for e in b.events if isinstance(e, Asked) and e.flow.remote_port == 5000)
    b.host.forwards.admit(forwarder, half_open, world.now)
    forwarder.close()
    assert world.run(1, until=lambda: waiting.state is CLOSED)
    assert isinstance(waiting.error, ConnectionRefusedError)
    late = a.host.connect(B4, 80, world.now)
    assert world.run(1, until=lambda: late.state is CLOSED)
    assert_nothing_left(world, b)
    b.host.listen(80)


def test_every_port_but_those_that_are_listened_to() -> None:
    world, a, b, forwarder = forwarding(port=0)
    b.host.listen(22)
    listened = a.host.connect(B4, 22, world.now)
    assert world.run(1, until=lambda: listened.state is ESTABLISHED)
    a.host.connect(B4, 8443, world.now)
    assert asked(world, b).local_port == 8443
    b.host.forwards.open(None, 8443)
    assert forwarder.port == 0


def test_hosts_behind_us() -> None:
    """Connections to others' addresses: which, the owner learns; and whatever else is sent there is not ours."""
    world, a, b = pair()
    forwarder = b.host.forwards.open([(SUBNET, 24)], 0)
    other = a.host.connect(pack_address("192.168.8.9"), 80, world.now)
    client = a.host.connect(BEHIND, 443, world.now)
    flow = asked(world, b)
    assert (flow.local, flow.local_port) == (BEHIND, 443)
    b.host.forwards.admit(forwarder, flow, world.now)
    assert world.run(1, until=lambda: client.state is ESTABLISHED and bool(b.accepted))
    b.write(b.accepted[0], b"from behind", world.now, shut=True)
    assert world.run(1, until=lambda: bytes(a.received.get(client, b"")) == b"from behind")
    a.host.ping(BEHIND, 1, 1, b"", world.now)
    world.run(0.5)
    drops = b.host.statistics().drops
    assert drops["not-for-us"] >= 2
    assert other.state is SYN_SENT
    narrow = b.host.forwards.open([(BEHIND, 32)], 443)
    a.host.connect(BEHIND, 443, world.now)
    world.run(0.5)
    assert [event.forwarder for event in b.events if isinstance(event, Asked)] == [forwarder, narrow]


def test_ports_are_taken_once() -> None:
    _, _, b, _ = forwarding()
    for address in (None, B4):
        with pytest.raises(OSError, match="80") as caught:
            b.host.listen(80, address=address)
        assert caught.value.errno == errno.EADDRINUSE
    with pytest.raises(OSError, match="80") as caught:
        b.host.forwards.open(None, 80)
    assert caught.value.errno == errno.EADDRINUSE
    b.host.listen(81)
    with pytest.raises(OSError, match="81") as caught:
        b.host.forwards.open(None, 81)
    assert caught.value.errno == errno.EADDRINUSE
    b.host.forwards.open([(SUBNET, 24)], 81)


def test_hairpin() -> None:
    """A program of ours connects to our own forwarded port."""
    world, _, b, forwarder = forwarding()
    client = b.host.connect(B4, 80, world.now)
    b.host.forwards.admit(forwarder, asked(world, b), world.now)
    assert world.run(1, until=lambda: client.state is ESTABLISHED and bool(b.accepted))


@pytest.mark.parametrize("seed", range(4))
def test_anything_may_come(seed: int) -> None:
    """Mutated packets, and an owner that answers as it likes: nothing is raised, nothing is left."""
    world, _, b, forwarder = forwarding(port=0)
    udp = b.host.flows.open([(B4, 0)], 0)
    rand = random.Random(seed)
    packets = [syn(A4, port, to=to) for port in range(5000, 5010) for to in (80, 81)]
    for port in range(5000, 5010):
        for flags in (RST, ACK, SYN | ACK, RST | ACK):
            packets.append(encode_segment(A4, B4, port, 80, 1001, 1, flags, 10))
        packets.append(encode_packet(A4, B4, UDP, UdpDatagram(port, 53, b"hello").encode(A4, B4)))
        packets.append(encode_packet(A4, BEHIND, UDP, UdpDatagram(port, 53, b"hello").encode(A4, BEHIND)))
    seen = 0
    for _ in range(150):
        world.inject(1, *[repair(mutate(rand.choice(packets), rand)) for _ in range(20)])
        world.inject(1, *[rand.choice(packets) for _ in range(3)])
        for event in b.events[seen:]:
            if isinstance(event, Asked):
                if rand.random() < 0.5:
                    b.host.forwards.admit(forwarder, event.flow, world.now)
                elif rand.random() < 0.5:
                    b.host.forwards.refuse(forwarder, event.flow)
            elif isinstance(event, FlowBegun):
                b.host.flows.unreachable(event.flow, world.now)
                event.flow.send(b"answer", None, world.now)
        seen = len(b.events)
        world.run(rand.random())
    kinds = {type(event) for event in b.events}
    assert {Asked, Abandoned, FlowBegun} <= kinds
    asked_flows = [event.flow for event in b.events if isinstance(event, Asked)]
    assert len(abandoned(b)) <= len(asked_flows)
    forwarder.close()
    udp.close()
    for connection in b.accepted:
        connection.abort(world.now)
        b.host.changed(connection, world.now)
    world.run(200)
    assert_nothing_left(world, b)


def assert_nothing_left(world: World, b: Station) -> None:
    world.run(1)
    statistics = b.host.statistics()
    assert statistics.pending_forwards == 0
    assert statistics.connections == {}
    assert statistics.timers == 0
