"""A host's ICMP: echo, errors made and taken, limits."""

from __future__ import annotations

import pytest

from tests.support.mutation import repair
from tests.support.stack import A4, A6, B4, B6, MTU, Station, burst_of, cut, pair
from usernet.errors import HostUnreachable, NetworkUnreachable
from usernet.stack.events import EchoFailed, EchoReply
from usernet.stack.icmp import TokenBucket, error_of
from usernet.wire.icmp import Echo, IcmpError, Kind, encode_echo_packet, parse_icmp, unreachable_for
from usernet.wire.ip import ICMPV6, UDP, pack_address
from usernet.wire.ipv6 import DESTINATION_OPTIONS, NO_NEXT_HEADER, encode_ipv6
from usernet.wire.packet import encode_packet, fragment, parse_packet
from usernet.wire.udp import UdpDatagram

FAMILIES = [(A4, B4), (A6, B6)]


def answers(station: Station, *packets: bytes, now: float = 5.0) -> list[Echo | IcmpError]:
    """What the host answers to packets."""
    station.host.receive_packets(burst_of(list(packets)), now)
    found = []
    for packet in station.host.take(1 << 20, now):
        (data,) = cut(packet)
        parsed = parse_packet(data)
        found.append(parse_icmp(data, parsed.payload, parsed.end, parsed.source, parsed.destination))
    return found


@pytest.mark.parametrize("remote", [B4, B6])
@pytest.mark.parametrize("size", [0, 56, 65_507])
def test_ping(remote: bytes, size: int) -> None:
    world, a, _ = pair()
    longest: list[int] = []
    world.tap = lambda _, packet: longest.append(len(packet))
    a.host.ping(remote, 77, 3, bytes(size), world.now)
    world.run(1)
    assert a.events == [EchoReply(remote, 77, 3, bytes(size))]
    assert max(longest) <= MTU


def test_an_echo_that_fits_no_packet() -> None:
    with pytest.raises(OSError, match="at most 65507"):
        Station(A4).host.ping(B4, 1, 1, bytes(65_508), 0)


def test_the_largest_ipv6_echo_is_answered() -> None:
    station = Station(A6)
    message = Echo(False, 1, 1, bytes(65_527)).encode(B6, A6)
    station.host.receive_packets(burst_of(list(fragment(B6, A6, ICMPV6, message, 1280, 5))), 1.0)
    assert sum(len(packet.header) for packet in station.host.take(1 << 20, 1.0)) > 65_535


@pytest.mark.parametrize("own", [A4, A6])
def test_ping_ourselves(own: bytes) -> None:
    world, a, _ = pair()
    a.host.ping(own, 77, 3, b"payload", world.now)
    world.run(1)
    assert a.events == [EchoReply(own, 77, 3, b"payload")]
    assert world.carried == 0


def test_ping_without_an_address_of_the_family() -> None:
    with pytest.raises(NetworkUnreachable):
        Station(A4).host.ping(B6, 1, 1, b"", 0)


@pytest.mark.parametrize(("own", "remote"), FAMILIES)
def test_an_error_about_a_ping(own: bytes, remote: bytes) -> None:
    world, a, _ = pair()
    a.host.ping(remote, 77, 3, b"", world.now)
    (packet,) = a.host.take(1000, world.now)
    error = unreachable_for(packet.header, Kind.HOST_UNREACHABLE)
    assert error is not None
    world.inject(0, error)
    (event,) = a.events
    assert isinstance(event, EchoFailed)
    assert (event.remote, event.ident, event.sequence) == (remote, 77, 3)
    assert isinstance(event.error, HostUnreachable)


@pytest.mark.parametrize(("own", "remote"), FAMILIES)
def test_a_closed_port_is_unreachable(own: bytes, remote: bytes) -> None:
    packet = encode_packet(remote, own, UDP, UdpDatagram(1000, 9, b"x").encode(remote, own))
    (error,) = answers(Station(own), packet)
    assert isinstance(error, IcmpError)
    assert error.kind is Kind.PORT_UNREACHABLE
    assert error.quoted[:5] == (remote, own, UDP, 1000, 9)


def test_an_unknown_protocol() -> None:
    (error,) = answers(Station(A4), encode_packet(B4, A4, 99, bytes(20)))
    assert isinstance(error, IcmpError)
    assert error.kind is Kind.PROTOCOL_UNREACHABLE
    (error,) = answers(Station(A6), encode_packet(B6, A6, 99, bytes(20)))
    assert isinstance(error, IcmpError)
    assert error.kind is Kind.PROTOCOL_UNREACHABLE
    assert answers(Station(A6), encode_packet(B6, A6, NO_NEXT_HEADER, bytes(20))) == []


def test_a_parameter_problem_only_as_specified() -> None:
    unknown_option = bytes([UDP, 0, 0x80, 4]) + bytes(4)
    (error,) = answers(Station(A6), encode_ipv6(B6, A6, DESTINATION_OPTIONS, unknown_option))
    assert isinstance(error, IcmpError)
    assert error.kind is Kind.PARAMETER_PROBLEM
    assert answers(Station(A6), encode_ipv6(B6, pack_address("fd00::99"), DESTINATION_OPTIONS, unknown_option)) == []


def test_errors_are_limited() -> None:
    station = Station(A4)
    packets = [encode_packet(B4, A4, UDP, UdpDatagram(1000, port, b"x").encode(B4, A4)) for port in range(2000, 2500)]
    assert len(answers(station, *packets)) == 50
    assert station.host.statistics().drops == {"udp-no-socket": 500, "icmp-rate-limit": 450}
    assert len(answers(station, *packets, now=5.0205)) == 20


def test_a_token_bucket_survives_a_clock_that_jumps() -> None:
    bucket = TokenBucket(10, 2)
    assert [bucket.allow(100) for _ in range(3)] == [True, True, False]
    assert not bucket.allow(50)
    assert bucket.allow(50.2)


def test_never_an_answer_to_errors_or_to_many() -> None:
    about_us = unreachable_for(
        encode_packet(A4, B4, UDP, UdpDatagram(5, 6, b"x").encode(A4, B4)), Kind.HOST_UNREACHABLE
    )
    assert about_us is not None
    station = Station(A4, A6)
    echo = Echo(False, 1, 1, b"")
    drops = station.host.statistics
    assert answers(station, about_us) == []
    for target, reason in (
        ("255.255.255.255", "broadcast"),
        ("224.0.0.1", "multicast"),
        ("10.0.0.77", "not-for-us"),
    ):
        assert answers(station, encode_echo_packet(B4, pack_address(target), echo)) == []
        assert drops().drops[reason] == 1
    for source, reason in (("224.0.0.9", "bad-source"), ("0.0.0.0", "bad-source"), ("10.0.0.1", "own-source")):
        before = drops().drops.get(reason, 0)
        assert answers(station, encode_echo_packet(pack_address(source), A4, echo)) == []
        assert drops().drops[reason] == before + 1
    assert answers(station, encode_echo_packet(B6, pack_address("ff02::1"), echo)) == []
    assert drops().drops["multicast"] == 2


def test_an_error_about_a_packet_that_is_not_ours() -> None:
    station = Station(A4, A6)
    datagram = UdpDatagram(5, 6, b"x" * 60)
    ours4 = encode_packet(A4, B4, UDP, datagram.encode(A4, B4))
    ours6 = encode_packet(A6, B6, UDP, datagram.encode(A6, B6))
    not_ours = encode_packet(pack_address("10.0.0.77"), B4, UDP, datagram.encode(A4, B4))
    for sent, quoted, counted in ((ours4, ours4, 0), (ours4, not_ours, 1), (ours6, ours4, 2), (ours6, ours6, 2)):
        error = unreachable_for(sent, Kind.PORT_UNREACHABLE)
        assert error is not None
        at = (20 if error[0] >> 4 == 4 else 40) + 8
        assert answers(station, repair(error[:at] + quoted.ljust(len(sent), b"x"))) == []
        assert station.host.statistics().drops.get("icmp-not-ours", 0) == counted


def test_a_flood_of_echo_requests_is_bounded() -> None:
    station = Station(A4)
    echo = encode_echo_packet(B4, A4, Echo(False, 1, 1, bytes(1000)))
    for _ in range(20):
        station.host.receive_packets(burst_of([echo] * 100), 5.0)
    packets = station.host.take(10 << 20, 5.0)
    assert 200 < len(packets) < 300
    assert station.host.statistics().drops == {"reply-queue-full": 2000 - len(packets)}


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_has_a_meaning(kind: Kind) -> None:
    error = error_of(kind, B4)
    if kind in (Kind.PACKET_TOO_BIG, Kind.REASSEMBLY_TIME_EXCEEDED):
        assert error is None
    else:
        assert isinstance(error, OSError)
        assert "10.0.0.2" in str(error)
