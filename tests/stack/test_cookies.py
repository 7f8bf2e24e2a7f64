"""A listener without room answers SYNs and keeps nothing, and whoever answers gets in all the same."""

from __future__ import annotations

import gc
import random
import sys
import tracemalloc

import pytest

from tests.support.stack import A4, A6, B4, B6, MTU, Path, Station, World, burst_of, pair
from usernet.burst.packets import CHECKSUM_OK, PacketBurst
from usernet.stack.cookies import COOKIE_SECONDS, SynCookies
from usernet.stack.flows import flow_key
from usernet.stack.listener import STALE_SECONDS
from usernet.stack.ports import FlowSecrets
from usernet.tcp.connection import Connection
from usernet.tcp.seq import MASK
from usernet.tcp.settings import Flow, TcpSettings
from usernet.tcp.state import ESTABLISHED
from usernet.wire.ip import pack_address
from usernet.wire.packet import checksum_holds, parse_packet
from usernet.wire.tcp import ACK, FIN, RST, SYN, TcpSegment, encode_segment, parse_segment

V4, V6 = Flow(B4, 80, A4, 4000), Flow(B6, 80, A6, 4000)
ALL = {"mss": 1380, "window_scale": 7, "sack_permitted": True, "timestamp": (77, 0)}


def key_of(flow: Flow) -> bytes:
    return flow_key(flow.remote, flow.local, flow.remote_port, flow.local_port)


def cookies(settings: TcpSettings | None = None, mtu: int = MTU) -> SynCookies:
    return SynCookies(FlowSecrets(random.Random(1).randbytes), settings or TcpSettings(), mtu)


def syn(**options: object) -> TcpSegment:
    return TcpSegment(4000, 80, 0xFFFF_FFFF, 0, SYN, 60_000, **options)  # type: ignore[arg-type]


def segment_of(packet: bytes) -> TcpSegment:
    parsed = parse_packet(packet)
    assert checksum_holds(parsed, memoryview(packet))
    return parse_segment(memoryview(packet), parsed.payload, parsed.end)


def returned(answer: TcpSegment, **fields: object) -> TcpSegment:
    """The ACK of a client that was given this SYN-ACK."""
    stamps = None if answer.timestamp is None else (78, answer.timestamp[0])
    ack = TcpSegment(4000, 80, answer.ack, (answer.seq + 1) & MASK, ACK, 500, timestamp=stamps)
    return ack._replace(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("flow", [V4, V6])
@pytest.mark.parametrize("scale", [None, 0, 7, 14])
@pytest.mark.parametrize("sack", [False, True])
@pytest.mark.parametrize("now", [0.0, 63.999, 1e9 + 0.031])
def test_what_travels_to_the_client_comes_back(flow: Flow, scale: int | None, sack: bool, now: float) -> None:
    jar = cookies()
    sent = syn(mss=1380, window_scale=scale, sack_permitted=sack, timestamp=(77, 0))
    answer = segment_of(jar.answer(flow, key_of(flow), sent, now))
    assert answer.flags == SYN | ACK
    assert answer.ack == 0
    assert answer.mss == MTU - (40 if flow is V4 else 60)
    assert (answer.window_scale is not None, answer.sack_permitted) == (scale is not None, sack)
    assert answer.timestamp is not None
    assert answer.timestamp[1] == 77
    found = jar.redeem(flow, key_of(flow), returned(answer), now + 0.1)
    assert found is not None
    assert found.seq == sent.seq
    assert (found.mss, found.window_scale, found.sack_permitted) == (answer.mss, scale, sack)
    assert found.timestamp == (78, 0)
    assert (jar.sent, jar.redeemed) == (1, 1)


@pytest.mark.parametrize(
    ("flow", "mss", "kept"),
    [
        (V4, None, 536), (V4, 1, 216), (V4, 535, 216), (V4, 536, 536), (V4, 1219, 536), (V4, 1220, 1220),
        (V4, 1379, 1220), (V4, 1380, 1380), (V4, 65_535, 1380), (V6, None, 1220), (V6, 1360, 1360), (V6, 1300, 1220),
    ],
)  # fmt: skip
def test_segment_sizes_are_rounded_down(flow: Flow, mss: int | None, kept: int) -> None:
    jar = cookies()
    answer = segment_of(jar.answer(flow, key_of(flow), syn(mss=mss), 5.0))
    found = jar.redeem(flow, key_of(flow), returned(answer), 5.0)
    assert found is not None
    assert found.mss == kept


def test_without_timestamps_there_is_no_place_for_options() -> None:
    jar = cookies()
    answer = segment_of(jar.answer(V4, key_of(V4), syn(**ALL | {"timestamp": None}), 5.0))
    assert (answer.window_scale, answer.sack_permitted, answer.timestamp) == (None, False, None)
    found = jar.redeem(V4, key_of(V4), returned(answer), 5.0)
    assert found is not None
    assert (found.window_scale, found.sack_permitted, found.timestamp) == (None, False, None)


def test_options_that_we_do_not_want_are_not_answered() -> None:
    for settings in (TcpSettings(sack=False), TcpSettings(window_scaling=False), TcpSettings(timestamps=False)):
        jar = cookies(settings)
        answer = segment_of(jar.answer(V4, key_of(V4), syn(**ALL), 5.0))
        assert answer.sack_permitted == (settings.sack and settings.timestamps)
        assert (answer.window_scale is None) == (not (settings.window_scaling and settings.timestamps))
        assert (answer.timestamp is None) == (not settings.timestamps)
        assert jar.redeem(V4, key_of(V4), returned(answer), 5.0)


@pytest.mark.parametrize("now", [0.0, 1.0, 63.9])
def test_a_cookie_expires(now: float) -> None:
    jar = cookies()
    for options in ({}, ALL):
        ack = returned(segment_of(jar.answer(V4, key_of(V4), syn(**options), now)))
        assert jar.redeem(V4, key_of(V4), ack, now + COOKIE_SECONDS / 2)
        assert jar.redeem(V4, key_of(V4), ack, now + COOKIE_SECONDS) is None


def test_a_cookie_is_for_one_flow_and_one_host() -> None:
    jar = cookies()
    ack = returned(segment_of(jar.answer(V4, key_of(V4), syn(**ALL), 5.0)))
    for flow in (V4._replace(remote_port=4001), V4._replace(local_port=81), V4._replace(remote=B4)):
        assert jar.redeem(flow, key_of(flow), ack, 5.0) is None
    assert jar.redeem(V4, key_of(V4), ack._replace(seq=1), 5.0) is None
    assert jar.redeem(V4, key_of(V4), ack._replace(timestamp=(78, (ack.timestamp or (0, 0))[1] + 1000)), 5.0) is None
    other = SynCookies(FlowSecrets(random.Random(2).randbytes), TcpSettings(), MTU)
    assert other.redeem(V4, key_of(V4), ack, 5.0) is None
    assert jar.redeem(V4, key_of(V4), ack, 5.0)


def test_guesses_are_right_eight_times_in_four_thousand_million() -> None:
    jar = cookies()
    rand = random.Random(9)
    for _ in range(20_000):
        ack = TcpSegment(4000, 80, rand.getrandbits(32), rand.getrandbits(32), ACK, 9)
        assert jar.redeem(V4, key_of(V4), ack, 5.0) is None


def test_the_first_timestamp_is_not_younger_than_the_next() -> None:
    """Else the client would take our next segment for an old one (RFC 7323 5.3)."""
    jar = cookies()
    offset = FlowSecrets(random.Random(1).randbytes).timestamp_offset(key_of(V4))
    for at in range(70):
        now = 10 + at / 1000
        answer = segment_of(jar.answer(V4, key_of(V4), syn(**ALL), now))
        assert answer.timestamp is not None
        assert 0 <= (int(now * 1000) + offset - answer.timestamp[0]) & MASK < 32


# In a host


SILENT = pack_address("10.9.0.1")  # nobody is there


def fill(world: World, count: int = 8) -> None:
    for port in range(1000, 1000 + count):
        world.inject(1, encode_segment(SILENT, B4, port, 80, 7, 0, SYN, 1000))


@pytest.mark.parametrize(("own", "remote"), [(A4, B4), (A6, B6)])
def test_a_client_that_gets_a_cookie_connects_as_well_as_ever(own: bytes, remote: bytes) -> None:
    world, a, b = pair()
    b.host.listen(80, backlog=1)
    b.echoes = True
    fill(world)
    client = a.host.connect(remote, 80, world.now)
    data = random.Random(3).randbytes(300_000)
    a.write(client, data, world.now, shut=True)
    assert world.run(9, until=lambda: client.at_eof)
    assert bytes(a.received[client]) == data
    statistics = b.host.statistics()
    assert (statistics.syn_cookies_sent, statistics.syn_cookies_redeemed, statistics.half_open) == (1, 1, 8)
    (server,) = b.accepted
    assert server.flow.remote == own
    assert server.timestamps
    assert server.sack
    assert server.sender.scale == client.receiver.scale > 0
    assert server.receiver.scale == client.sender.scale > 0
    assert server.sender.mss == client.sender.mss == MTU - (40 if len(own) == 4 else 60) - 12


def test_a_client_without_timestamps_connects_with_less() -> None:
    world, a, b = pair()
    plain = Station(A4, A6, seed=5, settings=TcpSettings(timestamps=False))
    world = World(plain, b)
    b.host.listen(80, backlog=1)
    b.echoes = True
    fill(world)
    client = plain.host.connect(B4, 80, world.now)
    plain.write(client, bytes(100_000), world.now, shut=True)
    assert world.run(9, until=lambda: client.at_eof)
    assert len(plain.received[client]) == 100_000
    (server,) = b.accepted
    assert not server.sack
    assert client.sender.scale == server.sender.scale == 0
    assert a.received == {}


def test_a_lost_ack_is_made_up_for_by_data() -> None:
    world, a, b = pair()
    b.host.listen(80, backlog=1)
    fill(world)
    client = a.host.connect(B4, 80, world.now)
    whole, world.paths = world.paths, (Path(), Path(delay=1.0))  # time to look
    world.run(0.5, until=lambda: b.host.statistics().syn_cookies_sent == 1)
    world.paths = (Path(loss=1.0), whole[1])
    world.run(1.5, until=lambda: client.state is ESTABLISHED)
    world.run(0.1)
    assert not b.accepted
    world.paths = whole
    a.write(client, b"hello", world.now, shut=True)
    assert world.run(9, until=lambda: bool(b.accepted) and b.accepted[0].at_eof)
    assert bytes(b.received[b.accepted[0]]) == b"hello"


def test_no_cookies_while_there_is_room_and_no_belief_in_them_either() -> None:
    world, a, b = pair()
    b.host.listen(80, backlog=2)
    fill(world)
    client = a.host.connect(B4, 80, world.now)
    assert world.run(1, until=lambda: client.state is ESTABLISHED)
    assert b.host.statistics().syn_cookies_sent == 0
    # even one that would be right
    jar = b.host._connections.cookies
    flow = V4._replace(remote_port=5000)
    answer = segment_of(jar.answer(flow, key_of(flow), syn(), world.now))
    ack = encode_segment(A4, B4, 5000, 80, answer.ack, (answer.seq + 1) & MASK, ACK, 9)
    world.inject(1, ack)
    (reset,) = [segment_of(packet.header) for packet in b.host.take(1 << 20, world.now) if not packet.mss][-1:]
    assert (reset.flags, reset.seq) == (RST, (answer.seq + 1) & MASK)
    assert b.host.statistics().syn_cookies_redeemed == 0
    # until the table has been full
    fill(world, count=17)
    world.inject(1, ack)
    assert b.host.statistics().syn_cookies_redeemed == 1


def test_an_ack_that_brings_no_cookie_is_reset() -> None:
    world, _, b = pair()
    b.host.listen(80, backlog=1)
    fill(world, count=9)
    while b.host.take(1 << 20, world.now):
        pass
    world.inject(1, encode_segment(A4, B4, 6000, 80, 5, 6, ACK, 9))
    (reset,) = [segment_of(packet.header) for packet in b.host.take(1 << 20, world.now)]
    assert (reset.flags, reset.seq) == (RST, 6)
    assert b.host.statistics().drops["tcp-no-connection"] == 1


def test_a_cookie_ends_with_the_listener() -> None:
    world, a, b = pair()
    listener = b.host.listen(80, backlog=1)
    fill(world)
    client = a.host.connect(B4, 80, world.now)
    world.run(0.5, until=lambda: client.state is ESTABLISHED)
    listener.close()
    world.run(2)
    assert isinstance(client.error, ConnectionResetError)
    assert b.host.statistics().connections == {}


def test_what_nobody_answers_for_long_gives_way() -> None:
    world, _, b = pair()
    listener = b.host.listen(80, backlog=1)
    fill(world)
    world.run(STALE_SECONDS - 1)
    world.inject(1, encode_segment(SILENT, B4, 2000, 80, 7, 0, SYN, 1000))
    assert b.host.statistics().syn_cookies_sent == 1
    world.run(1.1)
    world.inject(1, encode_segment(SILENT, B4, 2001, 80, 7, 0, SYN, 1000))
    assert b.host.statistics().syn_cookies_sent == 1
    assert b.host.statistics().drops["tcp-backlog-evicted"] == 1
    assert len(listener.half_open) == 8
    assert key_of(V4._replace(remote=SILENT, remote_port=2001)) in listener.half_open


@pytest.mark.parametrize("looked", [False, True])
def test_a_cookie_that_comes_back_where_there_is_room_meanwhile(looked: bool) -> None:
    """The client sent its SYN again, as it does while our answer is on its way."""
    world, _, b = pair()
    listener = b.host.listen(80, backlog=1)
    fill(world)
    again = encode_segment(A4, B4, 5000, 80, 99, 0, SYN, 9)
    world.inject(1, again)
    answers = [segment_of(packet.header) for packet in b.host.take(1 << 20, world.now) if len(packet.header) < 60]
    answer = next(answer for answer in answers if answer.destination_port == 5000)
    world.inject(1, encode_segment(SILENT, B4, 1000, 80, 8, 0, RST, 0))
    world.inject(1, again)
    assert key_of(V4._replace(remote_port=5000)) in listener.half_open
    if looked:
        b.host.take(1 << 20, world.now)
    world.inject(1, encode_segment(A4, B4, 5000, 80, 100, 5, ACK, 9))
    assert b.accepted == [], "no cookie at all"
    world.inject(1, encode_segment(A4, B4, 5000, 80, 100, (answer.seq + 1) & MASK, ACK, 9, b"", b"data"))
    (server,) = b.accepted
    assert bytes(b.received[server]) == b"data"
    assert b.host.statistics().half_open == 7
    assert len([attached for attached in b.host._connections.by_flow.values() if attached.connection is server]) == 1


@pytest.mark.parametrize("payload", [b"", b"data"])
def test_the_ack_may_close_at_once(payload: bytes) -> None:
    world, _, b = pair()
    b.host.listen(80, backlog=1)
    fill(world)
    flow = V4._replace(remote_port=5000)
    world.inject(1, encode_segment(A4, B4, 5000, 80, 99, 0, SYN, 9))
    answers = [segment_of(packet.header) for packet in b.host.take(1 << 20, world.now) if len(packet.header) < 60]
    answer = next(answer for answer in answers if answer.destination_port == 5000)
    world.inject(1, encode_segment(A4, B4, 5000, 80, 100, (answer.seq + 1) & MASK, ACK | FIN, 9, b"", payload))
    (server,) = b.accepted
    assert server.flow == flow
    assert server.at_eof
    assert bytes(b.received.get(server, b"")) == payload


@pytest.mark.parametrize("target", [B4, B6])
def test_a_hundred_thousand_syns_and_good_clients(target: bytes) -> None:
    """From forged addresses, while clients 200 ms away keep coming: the flood goes round the table far sooner."""
    world, a, b = pair(Path(delay=0.1))
    b.host.listen(80, backlog=128)
    b.echoes = True
    rand = random.Random(5)
    source = SILENT if len(target) == 4 else pack_address("fd00::9")
    burst = burst_of([encode_segment(source, target, 9, 80, rand.getrandbits(32), 0, SYN, 9) for _ in range(1000)])
    assert all(row[5] & CHECKSUM_OK for row in burst.rows)
    clients: list[Connection] = []

    def syns() -> PacketBurst:
        """The same from other ports: a checksum that was verified is not looked at twice."""
        for offset, _, _, _, transport, _ in burst.rows:
            burst.buf[offset + transport : offset + transport + 2] = rand.randbytes(2)
        return burst

    def flood_once() -> None:
        b.host.receive_packets(syns(), world.now)
        while b.host.take(1 << 20, world.now):  # to nowhere
            pass

    flood_once()
    flood_once()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(98):
        flood_once()
    gc.collect()
    assert sys.getallocatedblocks() - before < 2 * 1024  # a number or two for each that was asked again
    for _ in range(20):
        client = a.host.connect(target, 80, world.now)
        a.write(client, b"hello", world.now, shut=True)
        clients.append(client)
        b.host.receive_packets(syns(), world.now)
        world.run(0.05)
    assert world.run(5, until=lambda: all(client.at_eof for client in clients))
    assert all(bytes(a.received[client]) == b"hello" for client in clients)
    statistics = b.host.statistics()
    assert statistics.syn_cookies_redeemed == 20
    assert statistics.half_open <= 1024
    assert statistics.timers < 1100


def test_what_half_open_connections_weigh() -> None:
    station = Station(B4)
    station.host.listen(80, backlog=128)
    syns = burst_of([encode_segment(SILENT, B4, port, 80, 7, 0, SYN, 9) for port in range(1, 2001)])
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        station.host.receive_packets(syns, 1000.0)
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert station.host.statistics().half_open == 1024
    assert used - 256 * 1024 < 3 << 20  # beside the cookies that wait to be sent, less than 3 KiB each
