"""Two tunnels and their data: cryptokey routing, staging, roaming, replays, a bad wire, many peers, statistics."""

from __future__ import annotations

import time
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.wireguard import (
    DATA,
    EXPERIMENTAL,
    INITIATION,
    RESPONSE,
    Fate,
    Node,
    World,
    burst_of,
    connected,
    craft_initiation,
    inner_packet,
    pair,
    public_key,
)
from usernet.burst.packets import Address, PacketBurst, SuperPacket
from usernet.burst.reference import ReferenceKernel
from usernet.wire.ip import TCP, UDP, pack_address
from usernet.wire.packet import encode_packet
from usernet.wireguard.cookies import CookieJar
from usernet.wireguard.events import EndpointMoved, HandshakeCompleted, SessionExpired
from usernet.wireguard.timers import Timing
from usernet.wireguard.tunnel import PeerSettings, Rejected

AB = inner_packet("10.0.0.1", "10.0.0.2")
BA = inner_packet("10.0.0.2", "10.0.0.1")
AB6 = inner_packet("fd00::1", "fd00::2")
BA6 = inner_packet("fd00::2", "fd00::1")


def test_a_packet_makes_the_session_it_needs() -> None:
    world, a, b = pair()
    a.send(AB)
    world.roundtrip()
    assert b.packets == [AB]
    assert a.connected_to(b)
    assert b.connected_to(a)
    b.send(BA)
    world.roundtrip()
    assert a.packets == [BA]


def test_both_families_inside() -> None:
    world, a, b = connected()
    a.send(AB6, AB)
    b.send(BA6)
    world.roundtrip()
    assert b.packets == [AB6, AB]
    assert a.packets == [BA6]


def test_outer_ipv6_addresses_are_taken_as_they_are() -> None:
    world = World()
    a, b = world.node(1, ("2001:db8::1", 1, 0, 0)), world.node(2, ("2001:db8::2", 2, 0, 7))
    a.add(b, "10.0.0.2/32")
    b.add(a, "10.0.0.1/32", endpoint=False)
    a.send(AB)
    world.roundtrip()
    assert b.packets == [AB]
    assert b.tunnel.statistics().peers[0].endpoint == a.address


def test_handshakes_carry_tos_and_data_does_not() -> None:
    world, a, _ = connected()
    a.send(AB)
    assert [tos for (*_, datagram), tos in zip(world.log, world.tos, strict=True) if datagram[0] == DATA] == [0, 0]
    assert {tos for (*_, datagram), tos in zip(world.log, world.tos, strict=True) if datagram[0] != DATA} == {0x88}


# Cryptokey routing


def triangle() -> tuple[World, Node, Node, Node]:
    """a has two peers: b is 10.0.0.0/8, c is 10.9.0.0/16 of it."""
    world = World()
    a, b, c = (world.node(number, (f"192.0.2.{number}", 51820)) for number in (1, 2, 3))
    a.add(b, "10.0.0.0/8", "::/0")
    a.add(c, "10.9.0.0/16")
    b.add(a, "0.0.0.0/0")
    c.add(a, "0.0.0.0/0")
    return world, a, b, c


def test_the_longest_prefix_takes_the_packet() -> None:
    world, a, b, c = triangle()
    to_b, to_c = inner_packet("192.0.2.99", "10.8.0.1"), inner_packet("192.0.2.99", "10.9.0.1")
    a.send(to_b, to_c, to_b, to_c)
    world.roundtrip()
    assert b.packets == [to_b, to_b]
    assert c.packets == [to_c, to_c]
    assert a.tunnel.route(pack_address("10.9.1.1")) == c.key
    assert a.tunnel.route(pack_address("11.0.0.1")) is None
    assert a.tunnel.route(pack_address("fd00::5")) == b.key


def test_the_inner_source_must_be_the_peers() -> None:
    world, a, b, _ = triangle()
    good, bad = inner_packet("10.8.0.1", "192.0.2.99"), inner_packet("10.9.0.1", "192.0.2.99")
    b.send(bad, good, bad, good, inner_packet("172.16.0.1", "192.0.2.99"))
    world.roundtrip()
    assert a.packets == [good, good]
    assert a.drops == {"source-not-allowed": 3}


def test_no_route_and_no_endpoint_are_told() -> None:
    world, a, _ = pair()
    stray = SuperPacket(inner_packet("10.0.0.1", "10.0.0.77"))
    assert a.send(stray, AB) == [Rejected(stray, "no-route")]
    c = world.node(3, ("192.0.2.3", 51820))
    a.add(c, "10.0.0.3/32", endpoint=False)
    lost = SuperPacket(inner_packet("10.0.0.1", "10.0.0.3"))
    assert a.send(lost) == [Rejected(lost, "no-endpoint")]


@pytest.mark.parametrize("packet", [b"", b"\x45", AB[:19], b"\x60" + bytes(38)])
def test_what_is_no_packet_is_not_sent(packet: bytes) -> None:
    _, a, _ = pair()
    assert a.send(packet) == []
    assert a.drops == {"not-ip": 1}


def test_our_own_key_is_no_peer() -> None:
    world, a, _ = pair()
    a.add(a, "10.0.0.9/32")
    assert len(a.tunnel.statistics().peers) == 1
    assert a.tunnel.route(pack_address("10.0.0.9")) is None
    assert a.tunnel.next_timeout() is None
    world.roundtrip()


def test_a_network_moves_to_the_peer_added_last() -> None:
    world, a, b = connected()
    c = world.node(3, ("192.0.2.3", 51820))
    a.add(c, "10.0.0.2/32")
    b.send(BA)
    world.roundtrip()
    assert a.drops == {"source-not-allowed": 1}
    assert a.tunnel.route(pack_address("10.0.0.2")) == c.key


def test_settings_change_and_the_session_stays() -> None:
    world, a, b = connected()
    log = len(world.log)
    a.add(b, "10.0.0.4/32")
    assert a.connected_to(b)
    assert a.tunnel.route(pack_address("10.0.0.2")) is None
    a.add(b, "10.0.0.2/32")
    world.run(3)
    assert len(world.log) == log
    a.send(AB)
    world.roundtrip()
    assert b.packets == [AB]


def test_a_removed_peer_is_gone() -> None:
    world, a, b = connected()
    b.send(BA)
    world.roundtrip()
    recorded = world.log[-1][3]
    a.tunnel.remove_peer(b.key)
    a.tunnel.remove_peer(b.key)
    assert a.take(SessionExpired)
    assert a.tunnel.next_timeout() is None
    assert a.tunnel.statistics().indices == 0
    a.receive([recorded], b.address)
    assert a.drops == {"unknown-index": 1}
    assert a.send(AB)[0].reason == "no-route"


# Staging


def test_staged_packets_leave_in_order() -> None:
    world, a, b = pair()
    packets = [inner_packet("10.0.0.1", "10.0.0.2", b"%d" % number) for number in range(130)]
    for packet in packets:
        a.send(packet)
    assert a.tunnel.statistics().peers[0].staged_packets == 128
    world.roundtrip()
    assert b.packets == packets[2:]
    assert a.drops == {"staging-full": 2}


def test_staged_bytes_are_our_own() -> None:
    world, a, b = pair()
    payload = bytearray(AB[20:])
    a.send(SuperPacket(AB[:20], (memoryview(payload),)))
    payload[:] = bytes(len(payload))
    world.roundtrip()
    assert b.packets == [AB]


# Roaming


def test_a_peer_roams_once_a_datagram_is_authentic() -> None:
    world, a, b = connected()
    old, a.address = a.address, ("198.51.100.7", 999)
    world.throw(a.address, b.address, b"\4\0\0\0" + bytes(60))
    a.send(AB)
    forged = bytearray(world.log[-1][3])
    forged[-1] ^= 1
    b.receive([bytes(forged)], ("203.0.113.1", 1))
    assert b.take(EndpointMoved) == []
    world.roundtrip()
    assert b.take(EndpointMoved) == [EndpointMoved(a.key, old, a.address)]
    b.send(BA)
    world.roundtrip()
    assert a.packets == [BA]


def test_a_replay_from_elsewhere_moves_nothing() -> None:
    world, a, b = connected()
    a.send(AB)
    world.roundtrip()
    b.receive([world.log[-1][3]], ("203.0.113.1", 1))
    assert b.take(EndpointMoved) == []
    assert b.drops == {"replay": 1}
    assert b.packets == [AB]


def test_a_handshake_moves_the_endpoint() -> None:
    world, a, b = connected()
    a.address = ("198.51.100.7", 999)
    world.run(6)
    a.tunnel.request_handshake(b.key, world.now)
    world.roundtrip()
    assert b.tunnel.statistics().peers[0].endpoint == a.address
    assert a.take(HandshakeCompleted)[-1].initiator


def test_staged_packets_go_to_the_new_address() -> None:
    """The datagram that confirms a session may be the first from there."""
    world, a, b = pair()
    world.fate = lambda source, destination, datagram: () if datagram[0] == DATA else (0.0,)
    a.tunnel.request_handshake(b.key, world.now)
    world.roundtrip()
    b.send(BA)
    world.fate = lambda source, destination, datagram: (0.0,)
    a.address = ("198.51.100.7", 999)
    a.send(AB)
    world.roundtrip()
    assert a.packets == [BA]


# A bad wire


def chance(seed: int, *, loss: float = 0.0, duplicate: float = 0.0, delay: float = 0.0) -> Fate:
    random = Random(seed)

    def fate(source: Address, destination: Address, datagram: bytes) -> list[float]:
        copies = 0 if random.random() < loss else 2 if random.random() < duplicate else 1
        return [random.random() * delay for _ in range(copies)]

    return fate


@pytest.mark.parametrize("seed", range(5))
def test_duplicated_and_reordered_datagrams_come_out_once(seed: int) -> None:
    world, a, b = pair(seed, fate=chance(seed, duplicate=0.3, delay=0.2))
    packets = [inner_packet("10.0.0.1", "10.0.0.2", b"%d" % number) for number in range(500)]
    for packet in packets:
        a.send(packet)
        world.run(0.01)
    world.run(2)
    assert sorted(b.packets) == sorted(packets)
    assert set(b.drops) <= {"replay", "initiation-replayed"}


@pytest.mark.parametrize("seed", range(5))
def test_on_a_lossy_wire_sessions_come_about_and_are_renewed(seed: int) -> None:
    world, a, b = pair(seed, fate=chance(seed, loss=0.3, duplicate=0.1, delay=0.5))
    for _ in range(1000):
        a.send(AB)
        b.send(BA)
        world.run(0.5)
    assert len(b.packets) > 600
    assert len(a.packets) > 600
    assert len(a.take(HandshakeCompleted)) >= 4
    assert a.tunnel.statistics().indices <= 4


def test_the_far_end_restarts() -> None:
    world, a, b = connected()
    world.run(10)
    b.restart()
    b.add(a, "10.0.0.1/32")
    for _ in range(20):
        a.send(AB)
        world.run(1)
    assert b.packets
    assert b.drops == {"unknown-index": 16}


# The arena


def test_two_seals_may_be_sent_together() -> None:
    world, a, b = connected()
    big = [inner_packet("10.0.0.1", "10.0.0.2", bytes([number]) * 1300) for number in range(200)]
    for _ in range(25):  # more than an arena
        a.tunnel.seal([SuperPacket(packet) for packet in big], world.now)
    a.tunnel.request_handshake(b.key, world.now)
    world.collect(a)
    world.roundtrip()
    assert b.packets == big * 25


def test_what_was_handed_out_lasts_until_the_next_seal() -> None:
    world, a, b = connected()
    world.run(1)
    a.tunnel.seal([SuperPacket(AB)], world.now)
    [burst] = a.tunnel.datagrams_to_send(world.now)
    before = bytes(burst.buf)
    b.send(BA)
    world.run(30)  # keepalives
    assert bytes(burst.buf) == before


def test_a_super_packet_becomes_segments() -> None:
    world, a, b = connected()
    header = inner_packet("10.0.0.1", "10.0.0.2", bytes(4 + 8))[:20] + bytes(12) + b"\x50\x10" + bytes(6)
    header = header[:9] + b"\6" + header[10:]  # TCP
    payload = Random(0).randbytes(10_000)
    a.send(SuperPacket(header, (payload[:3333], payload[3333:]), 1380))
    assert len(world.log[-8:]) == 8
    assert [len(datagram) for *_, datagram in world.log[-8:-1]] == [1420 + 32] * 7
    world.roundtrip()
    assert b"".join(packet[40:] for packet in b.packets) == payload


# Many


def test_a_thousand_peers() -> None:
    world = World()
    hub = world.node(0, ("192.0.2.1", 51820))
    spokes = [world.node(number, (f"198.51.{number >> 8}.{number & 255}", 1)) for number in range(1, 1001)]
    for number, spoke in enumerate(spokes, 1):
        hub.add(spoke, f"10.0.{number >> 8}.{number & 255}/32", endpoint=False)
        spoke.add(hub, "0.0.0.0/0", persistent_keepalive=25)
    for number, spoke in enumerate(spokes, 1):
        spoke.send(inner_packet(f"10.0.{number >> 8}.{number & 255}", "10.1.0.0"))
        hub.work()  # the queue holds 1,024, and under load all would need cookies
        burst, address = world.log[-1][3], spoke.address
        hub.receive([burst], address)
        hub.work()
        [answer] = hub.tunnel.datagrams_to_send(world.now)
        spoke.receive([bytes(answer.buf)], hub.address)
        spoke.work()
        hub.receive([bytes(each.buf) for each in spoke.tunnel.datagrams_to_send(world.now)], address)
    assert len(hub.packets) == 1000
    assert hub.drops == {}
    assert len(hub.take(HandshakeCompleted)) == 1000
    assert hub.tunnel.statistics().indices == 1000
    started = time.perf_counter()
    for _ in range(10_000):
        hub.tunnel.next_timeout()
    assert time.perf_counter() - started < 0.5
    world.now += 540
    hub.tunnel.handle_timeout(world.now)
    assert hub.tunnel.statistics().indices == 0
    assert len(hub.take(SessionExpired)) == 1000


def test_statistics_count_what_the_wire_carried() -> None:
    world, a, b = connected(persistent_keepalive=25)
    for _ in range(50):
        a.send(AB, AB)
        b.send(BA)
        world.run(7)
    mine, theirs = a.tunnel.statistics().peers[0], b.tunnel.statistics().peers[0]
    assert mine.tx_bytes == theirs.rx_bytes == sum(len(d) for _, s, _, d in world.log if s == a.address)
    assert mine.rx_bytes == theirs.tx_bytes == sum(len(d) for _, s, _, d in world.log if s == b.address)
    assert mine.public_key == b.key
    assert mine.handshakes == theirs.handshakes == 3
    assert mine.last_handshake is not None
    assert mine.last_handshake_wall_ns is not None
    assert world.now - mine.last_handshake < 130
    assert a.tunnel.statistics() == a.tunnel.statistics()


# Anything at all


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=200)), max_size=40))
def test_random_datagrams_do_nothing(datagrams: list[tuple[int, bytes]]) -> None:
    world, a, b = connected()
    before = len(world.log)
    a.receive([bytes([kind, 0, 0, 0])[: kind + 1] + rest for kind, rest in datagrams], b.address)
    world.roundtrip()
    assert a.packets == []
    assert len(world.log) == before
    assert sum(a.drops.values()) == len(datagrams)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_mutated_datagrams_never_raise(data: st.DataObject) -> None:
    """Bytes changed, cut or appended, in every kind of message, on a wire that also carries the true ones."""
    random = Random(data.draw(st.integers(0, 2**32)))

    def mutate(datagram: bytes) -> bytes:
        mutated = bytearray(datagram)
        for _ in range(random.randrange(4)):
            mutated[random.randrange(len(mutated))] = random.randrange(256)
        return bytes(mutated[: random.randrange(len(mutated) + 1)]) if random.random() < 0.3 else bytes(mutated)

    world, a, b = pair(fate=chance(1, loss=0.1, duplicate=0.3, delay=0.3))
    for _ in range(30):
        a.send(AB)
        b.send(BA, BA6)
        for *_, datagram in world.log[-6:]:
            a.receive([mutate(datagram)], b.address)
            b.receive([datagram, mutate(datagram)], a.address)
        world.run(random.random() * 10)
    assert set(a.packets) <= {BA, BA6}
    assert set(b.packets) <= {AB}
    for node in (a, b):
        statistics = node.tunnel.statistics()
        assert statistics.indices <= 4
        assert statistics.handshakes_waiting == 0
    mend: Fate = lambda source, destination, datagram: (0.0,)  # noqa: E731
    world.fate = mend
    world.run(20)
    a.send(AB)
    world.run(11)
    assert a.connected_to(b)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(4, 115), st.integers(0, 255)), min_size=1, max_size=4), st.booleans())
def test_mutated_handshakes_with_a_good_mac1_never_raise(changes: list[tuple[int, int]], response: bool) -> None:
    world, a, b = pair()
    a.send(AB)
    if response:
        world.fate = lambda source, destination, datagram: () if datagram[0] == RESPONSE else (0.0,)
        world.roundtrip()
    sender, receiver = (b, a) if response else (a, b)
    body = bytearray(world.log[-1][3][:-32])
    for at, value in changes:
        body[min(at, len(body) - 1)] = value
    receiver.receive([CookieJar(receiver.key).add_macs(bytes(body), world.now)], sender.address)
    receiver.work()
    assert sum(receiver.drops.values()) <= 1
    assert receiver.tunnel.statistics().indices <= 2


@st.composite
def sound_headers(draw: st.DrawFn) -> bytes:
    """What stands behind an IP header is anything, and so is its source."""
    v4 = "10.0.0.1", st.ip_addresses(v=4), "10.0.0.2"
    v6 = "fd00::1", st.ip_addresses(v=6), "fd00::2"
    own, others, destination = draw(st.sampled_from([v4, v6]))
    source = draw(st.just(own) | others.map(str))
    protocol = draw(st.sampled_from([TCP, UDP, EXPERIMENTAL]))
    return encode_packet(pack_address(source), pack_address(destination), protocol, draw(st.binary(max_size=60)))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.binary(max_size=120) | sound_headers(), max_size=8))
def test_hostile_packets_of_a_peer_never_raise(packets: list[bytes]) -> None:
    """Authentic, but what is inside is anything."""
    _world, a, b = connected()
    session = next(iter(a.tunnel._sessions.values()))[1]
    out = bytearray(1 << 16)
    supers = [SuperPacket(packet) for packet in (*packets, inner_packet("10.0.0.9", "10.0.0.2"), AB)]
    for start, end, size in ReferenceKernel().seal_burst(session.send_key, supers, 1420, out, 0):
        b.receive([bytes(out[at : min(at + size, end)]) for at in range(start, end, size)], a.address)
    sources = {packet[12:16] if packet[0] >> 4 == 4 else packet[8:24] for packet in b.packets}
    assert pack_address("10.0.0.1") in sources
    assert sources <= {pack_address("10.0.0.1"), pack_address("fd00::1")}
    assert b.drops["source-not-allowed"] > 0
    assert "authentication" not in b.drops


def test_memory_stays_bounded_under_a_flood() -> None:
    """Whoever knows our public key sends from everywhere, for minutes."""
    world, a, b = connected()
    strangers = [craft_initiation(world, number, b.key) for number in range(200, 210)]
    for round_number in range(60):
        source = (f"203.0.{round_number % 256}.{round_number % 7}", 1000 + round_number)
        out = PacketBurst(1 << 16)
        b.tunnel.receive_datagrams(burst_of(strangers * 100, source), out, world.now)
        for _ in range(30):
            b.tunnel.process_handshake(world.now)
        world.now += 0.1
    statistics = b.tunnel.statistics()
    assert statistics.handshakes_waiting <= 1024
    assert statistics.indices <= 3
    replies = b.tunnel.datagrams_to_send(world.now)
    assert sum(len(burst.buf) // burst.segment_size for burst in replies) <= 1024
    a.send(AB)
    world.roundtrip()
    assert b.packets == [AB]  # data goes first


def test_agenda_forgets_peers_that_come_and_go() -> None:
    world = World()
    a = world.node(1, ("192.0.2.1", 51820))
    for number in range(300):
        key = public_key(1000 + number)
        a.tunnel.add_peer(
            PeerSettings(key, None, ((bytes([10, 0, 0, 2]), 32),), ("192.0.2.2", 1), persistent_keepalive=25), world.now
        )
        world.run(0.01)
        a.tunnel.remove_peer(key)
    assert len(a.tunnel._agenda) <= 70
    assert a.tunnel.statistics().indices == 0
    assert len(world.sent(INITIATION)) == 300


def test_shortened_timing() -> None:
    world, a, b = connected(timing=Timing(rekey_after_time=2.0, rekey_timeout=0.5))
    for _ in range(100):
        a.send(AB)
        world.run(0.1)
    assert len(b.packets) == 100
    assert len(a.take(HandshakeCompleted)) == 5


def test_who_may_seal_for_the_tunnel() -> None:
    world, a, b = connected()
    packet = SuperPacket(AB)
    ready = a.tunnel.ready_to_seal([packet, SuperPacket(AB6)], world.now)
    assert ready is not None
    assert (ready.peer.public_key, ready.endpoint) == (b.key, b.address)
    assert ready.session is ready.peer.slots.current
    sent = ready.peer.tx_bytes
    a.tunnel.note_sealed(ready.peer, ready.session, 1000, world.now)
    assert ready.peer.tx_bytes == sent + 1000
    for others in ([SuperPacket(b"")], [SuperPacket(inner_packet("10.0.0.1", "10.9.9.9"))]):
        assert a.tunnel.ready_to_seal([packet, *others], world.now) is None
    a.send_only(AB)
    assert a.tunnel.ready_to_seal([packet], world.now) is None  # it would overtake that
    world.collect(a)
    assert a.tunnel.ready_to_seal([packet], world.now) is not None
    a.tunnel.set_endpoint(b.key, ("192.0.2.77", 7))
    moved = a.tunnel.ready_to_seal([packet], world.now)
    assert moved is not None
    assert moved.endpoint == ("192.0.2.77", 7)
    a.add(b, "10.0.0.2/32", reserved=b"\1\2\3")
    assert a.tunnel.ready_to_seal([packet], world.now) is None
    a.add(b, "10.0.0.2/32")
    world.now += 181  # reject-after-time (paper, 6.2)
    assert a.tunnel.ready_to_seal([packet], world.now) is None


def test_packets_for_two_peers_are_sealed_here() -> None:
    world, a, _ = connected()
    c = world.node(3, ("192.0.2.3", 3))
    a.add(c, "10.0.0.3/32")
    both = [SuperPacket(AB), SuperPacket(inner_packet("10.0.0.1", "10.0.0.3"))]
    assert a.tunnel.ready_to_seal(both[:1], world.now) is not None
    assert a.tunnel.ready_to_seal(both[1:], world.now) is None  # no session yet
    assert a.tunnel.ready_to_seal(both, world.now) is None
