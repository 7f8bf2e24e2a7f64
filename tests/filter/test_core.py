"""Every verdict by a packet, whole and cut at every length; what goes out lets its answers in; what a log is told."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.mutation import mutate, repair
from tests.support.stack import A4, A6, B4, B6, burst_of
from usernet.burst.packets import CHECKSUM_OK, PacketBurst, SuperPacket
from usernet.filter import FilterRule, PacketFilter
from usernet.filter.core import ACCEPTS_SAID, DROPS_SAID, MAX_EVENTS, SAME_KNOWN, SAME_SAID, UDP_FLOWS
from usernet.tun.offload import GSO_UDP_L4, HEADER, NEEDS_CSUM, PLAIN, read_packet
from usernet.wire.icmp import Echo, Kind, encode_echo_packet, packet_too_big_for, unreachable_for
from usernet.wire.ip import ICMP, ICMPV6, TCP, UDP, pack_address
from usernet.wire.ipv4 import fragment_ipv4
from usernet.wire.ipv6 import FRAGMENT, encode_ipv6, fragment_ipv6
from usernet.wire.packet import encode_packet
from usernet.wire.tcp import ACK, FIN, RST, SYN, encode_segment
from usernet.wire.udp import UdpDatagram

FAMILIES = [(A4, B4), (A6, B6)]  # they, we
OTHER4, OTHER6 = pack_address("10.0.0.77"), pack_address("fd00::77")
BEHIND4 = pack_address("192.168.7.5")
LINK4, LINK6 = pack_address("169.254.0.9"), pack_address("fe80::9")
MANY4, MANY6 = pack_address("224.0.0.251"), pack_address("ff02::fb")
RULES = (FilterRule(TCP, 80, 80), FilterRule(UDP, 53, 54), FilterRule(TCP, 22, 22, ((A4, 32), (A6, 128))))


def opened(rules: Iterable[FilterRule] = RULES, own: Iterable[bytes] = (B4, B6)) -> PacketFilter:
    made = PacketFilter()
    made.readdress(own)
    made.set_rules(rules)
    return made


def verdict(made: PacketFilter, packet: bytes | SuperPacket, now: float = 0.0) -> str:
    """Why it was dropped, or "accept"."""
    burst = burst_of([packet])
    before = dict(made.statistics().drops)
    made.receive(burst, now)
    new = [reason for reason, count in made.statistics().drops.items() if count > before.get(reason, 0)]
    assert len(new) == 1 - len(burst.rows)
    return new[0].removeprefix("filter-") if new else "accept"


def tcp(source: bytes, destination: bytes, flags: int, port: int = 80, data: bytes = b"") -> bytes:
    return encode_segment(source, destination, 999, port, 5, 6, flags, 1000, b"", data)


def udp(source: bytes, destination: bytes, source_port: int = 999, port: int = 53, data: bytes = b"hi") -> bytes:
    return encode_packet(source, destination, UDP, UdpDatagram(source_port, port, data).encode(source, destination))


def icmp(source: bytes, destination: bytes, kind: int, code: int = 0) -> bytes:
    protocol = ICMP if len(source) == 4 else ICMPV6
    return repair(encode_packet(source, destination, protocol, bytes((kind, code)) + bytes(14)))


def fragment_at(offset: int, protocol: int, payload: bytes, *, more: bool = True) -> list[bytes]:
    """One fragment, at `offset` B, in each family."""
    header = bytearray(encode_packet(A4, B4, protocol, payload))
    header[6:8] = struct.pack("!H", offset // 8 | more << 13)
    extension = struct.pack("!BBHI", protocol, 0, offset | more, 7)
    return [repair(bytes(header)), encode_ipv6(A6, B6, FRAGMENT, extension + payload)]


SYN4 = tcp(A4, B4, SYN)
OPTIONS4 = repair(b"\x46" + SYN4[1:2] + (44).to_bytes(2, "big") + SYN4[4:20] + bytes(4) + SYN4[20:])
HOP_BY_HOP = bytes((TCP, 0, 1, 4, 0, 0, 0, 0))


def golden() -> Iterable[tuple[str, bytes, str]]:
    for they, we in FAMILIES:
        other, link, many = (OTHER4, LINK4, MANY4) if len(we) == 4 else (OTHER6, LINK6, MANY6)
        yield "syn to an open port", tcp(they, we, SYN), "accept"
        yield "syn to another port", tcp(they, we, SYN, 81), "no-rule"
        yield "syn with ECN's bits", tcp(they, we, SYN | 0xC0, 81), "no-rule"
        yield "syn and fin", tcp(they, we, SYN | FIN, 81), "no-rule"
        yield "syn and rst", tcp(they, we, SYN | RST, 81), "no-rule"
        yield "syn and ack", tcp(they, we, SYN | ACK, 81), "accept"
        yield "ack", tcp(they, we, ACK, 81, b"data"), "accept"
        yield "rst", tcp(they, we, RST, 81), "accept"
        yield "no flags", tcp(they, we, 0, 81), "accept"
        yield "syn from who may", tcp(they, we, SYN, 22), "accept"
        yield "syn from who may not", tcp(other, we, SYN, 22), "no-rule"
        yield "ack to somebody else", tcp(they, other, ACK), "not-local"
        yield "syn to somebody else", tcp(they, other, SYN), "not-local"
        yield "udp to an open port", udp(they, we), "accept"
        yield "udp to another port", udp(they, we, port=55), "no-rule"
        yield "udp to many", udp(they, many), "multicast"
        yield "udp to a link", udp(they, link), "link-local"
        yield "ack to a link", tcp(they, link, ACK), "link-local"
        yield "echo request", encode_echo_packet(they, we, Echo(False, 1, 2, b"x")), "accept"
        yield "echo reply", encode_echo_packet(they, we, Echo(True, 1, 2, b"x")), "accept"
        yield "echo to somebody else", encode_echo_packet(they, other, Echo(True, 1, 2, b"x")), "not-local"
        yield "unreachable", unreachable_for(udp(we, they), Kind.PORT_UNREACHABLE) or b"", "accept"
        yield "too big", packet_too_big_for(udp(we, they), 1280) or b"", "accept"
        yield "another protocol", encode_packet(they, we, 132, bytes(20)), "protocol"
        wrong = ICMPV6 if len(we) == 4 else ICMP
        yield "the other family's icmp", encode_packet(they, we, wrong, bytes(20)), "protocol"
    yield "syn behind ip options", OPTIONS4, "accept"
    yield "syn to another port behind ip options", OPTIONS4[:26] + b"\0\x51" + OPTIONS4[28:], "no-rule"
    yield "redirect", icmp(A4, B4, 5), "icmp-type"
    yield "router advertisement", icmp(A4, B4, 9), "icmp-type"
    yield "timestamp request", icmp(A4, B4, 13), "accept"
    yield "broadcast", udp(A4, b"\xff\xff\xff\xff"), "multicast"
    for kind in range(133, 138):
        yield f"neighbour discovery {kind}", icmp(A6, B6, kind), "icmp-type"
    yield "neighbour solicitation to many", icmp(A6, pack_address("ff02::1:ff00:2"), 135), "multicast"
    yield "ack behind hop-by-hop options", encode_ipv6(A6, B6, 0, HOP_BY_HOP + tcp(A6, B6, ACK)[40:]), "protocol"
    yield "ack behind destination options", encode_ipv6(A6, B6, 60, HOP_BY_HOP + tcp(A6, B6, ACK)[40:]), "protocol"
    yield "a fragment header twice", encode_ipv6(A6, B6, FRAGMENT, struct.pack("!BBHI", 44, 0, 1, 7) * 2), "protocol"
    yield "no ip", b"\x15" + bytes(60), "not-ip"
    yield "ipv4 header of 16 bytes", b"\x44" + SYN4[1:], "short"
    yield "ipv4 header longer than the packet", b"\x4f" + SYN4[1:], "short"
    for number, whole in enumerate(fragment_at(0, TCP, SYN4[20:])):
        yield f"first fragment of a syn {number}", whole, "accept"
    for number, whole in enumerate(fragment_at(0, TCP, tcp(A4, B4, SYN, 81)[20:])):
        yield f"first fragment of a syn to another port {number}", whole, "no-rule"
    for number, tiny in enumerate(fragment_at(0, TCP, SYN4[20:36])):
        yield f"first fragment without flags {number}", tiny, "short"
    for offset, expected in ((8, "tiny-fragment"), (72, "tiny-fragment"), (80, "accept"), (8000, "accept")):
        for number, later in enumerate(fragment_at(offset, TCP, bytes(24))):
            yield f"fragment at {offset} {number}", later, expected


GOLDEN = list(golden())


@pytest.mark.parametrize(("packet", "expected"), [row[1:] for row in GOLDEN], ids=[row[0] for row in GOLDEN])
def test_golden(packet: bytes, expected: str) -> None:
    assert verdict(opened(), packet) == expected


@pytest.mark.parametrize("packet", [row[1] for row in GOLDEN], ids=[row[0] for row in GOLDEN])
def test_cut_at_every_length(packet: bytes) -> None:
    """As it is, it is too short; and with an IP header that says so, it opens nothing that the whole one does not."""
    made = opened([FilterRule(TCP, 80, 80)])
    whole = verdict(made, packet)
    for length in range(1, len(packet)):
        cut = packet[:length]
        if packet[0] >> 4 in (4, 6):
            assert verdict(made, cut) == "short"
        if length >= 20:
            shorter = bytearray(cut)
            if packet[0] >> 4 == 4:
                shorter[2:4] = length.to_bytes(2, "big")
            elif length >= 40:
                shorter[4:6] = (length - 40).to_bytes(2, "big")
            assert verdict(made, bytes(shorter)) in (whole, "short")


def test_an_empty_row_is_let_through() -> None:
    burst = PacketBurst(0)
    burst.rows.append((0, 0, 0, 1, 0, 0))
    opened().receive(burst, 0.0)
    assert len(burst.rows) == 1


def test_everything_is_dropped_until_rules_are_set() -> None:
    made = PacketFilter()
    made.readdress([B4, B6])
    for they, we in FAMILIES:
        made.send([SuperPacket(udp(we, they, 53, 999))])
        for packet in (
            tcp(they, we, ACK),
            tcp(they, we, SYN),
            udp(they, we),
            encode_echo_packet(they, we, Echo(True, 1, 2, b"")),
        ):
            assert verdict(made, packet) == "not-set"
        assert verdict(made, SuperPacket(tcp(they, we, ACK), (bytes(5000),), 1000)) == "not-set"
    made.set_rules([])
    assert verdict(made, tcp(A4, B4, ACK)) == "accept"
    assert verdict(made, tcp(A4, B4, SYN)) == "no-rule"


@pytest.mark.parametrize(("they", "we"), FAMILIES)
def test_merged_rows(they: bytes, we: bytes) -> None:
    """The header of one tells the length of its first segment; what is dropped counts by segments."""
    made = opened()
    other = OTHER4 if len(we) == 4 else OTHER6
    assert verdict(made, SuperPacket(tcp(they, we, ACK), (bytes(5000),), 1000)) == "accept"
    assert verdict(made, SuperPacket(tcp(they, other, ACK), (bytes(5000),), 1000)) == "not-local"
    assert made.statistics().drops == {"filter-not-local": 5}


def test_a_burst_keeps_its_other_rows_in_order() -> None:
    made = opened()
    packets: list[bytes | SuperPacket] = [tcp(A4, B4, ACK, n, b"x") for n in range(1, 9)]
    packets[2] = tcp(A4, B4, SYN, 81)
    packets[5] = udp(A4, OTHER4)
    burst = burst_of(packets)
    made.receive(burst, 0.0)
    ports = [int.from_bytes(burst.buf[row[0] + 22 : row[0] + 24], "big") for row in burst.rows]
    assert ports == [1, 2, 4, 5, 7, 8]


# Rules


def test_other_icmp_needs_a_rule_with_its_addresses() -> None:
    ping4, ping6 = (encode_echo_packet(they, we, Echo(False, 1, 2, b"")) for they, we in FAMILIES)
    assert verdict(opened([]), ping4) == "no-rule"
    assert verdict(opened([FilterRule(TCP, 80, 80, ((OTHER4, 32),))]), ping4) == "no-rule"
    assert verdict(opened([FilterRule(TCP, 80, 80, ((A4, 24),))]), ping4) == "accept"
    assert verdict(opened([FilterRule(TCP, 80, 80, ((A4, 24),))]), ping6) == "no-rule"
    assert verdict(opened([FilterRule(ICMP)]), ping6) == "accept"
    assert verdict(opened([FilterRule(ICMP)]), SYN4) == "no-rule"


def test_icmp_answers_and_errors_need_no_rule() -> None:
    made = opened([])
    for they, we in FAMILIES:
        assert verdict(made, encode_echo_packet(they, we, Echo(True, 1, 2, b""))) == "accept"
        assert verdict(made, unreachable_for(udp(we, they), Kind.PORT_UNREACHABLE) or b"") == "accept"
        assert verdict(made, packet_too_big_for(udp(we, they), 1280) or b"") == "accept"
    assert verdict(made, icmp(A4, B4, 0, 1)) == verdict(made, icmp(A4, B4, 14)) == "no-rule"
    assert verdict(made, icmp(A4, B4, 4)) == "no-rule"  # Source Quench, which RFC 6633 ended


def test_a_rule_for_every_protocol() -> None:
    everything = opened([FilterRule(None)])
    for they, we in FAMILIES:
        for packet in (tcp(they, we, SYN), udp(they, we), encode_packet(they, we, 47, bytes(4)), icmp(they, we, 13)):
            assert verdict(everything, packet) == "accept"
    assert verdict(everything, udp(A4, OTHER4)) == "not-local"
    assert verdict(everything, udp(A4, MANY4)) == "multicast"
    few = opened([FilterRule(None, 80, 90)])
    assert verdict(few, tcp(A4, B4, SYN, 90)) == verdict(few, udp(A4, B4, port=80)) == "accept"
    assert verdict(few, encode_packet(A4, B4, 47, bytes(4))) == "protocol"


def test_networks_behind_us() -> None:
    made = opened([FilterRule(TCP, 80, 80, (), ((BEHIND4, 24),))])
    assert verdict(made, tcp(A4, BEHIND4, SYN)) == "accept"
    assert verdict(made, tcp(A4, BEHIND4, SYN, 81)) == "no-rule"
    assert verdict(made, tcp(A4, BEHIND4, ACK, 81)) == "accept"
    assert verdict(made, SYN4) == "no-rule"  # our own address is not named
    assert verdict(made, tcp(A4, OTHER4, ACK)) == "not-local"


def test_an_address_of_a_link_that_is_ours() -> None:
    made = opened(own=[B4, LINK6])
    assert verdict(made, tcp(pack_address("fe80::1"), LINK6, ACK)) == "accept"
    assert verdict(made, udp(pack_address("fe80::1"), LINK6)) == "accept"
    assert verdict(made, udp(A6, pack_address("fe80::a"))) == "link-local"


def test_other_rules_and_addresses() -> None:
    made = opened()
    made.set_rules([FilterRule(TCP, 81, 81)])
    made.readdress([OTHER4])
    assert verdict(made, SYN4) == verdict(made, tcp(A4, B4, ACK)) == "not-local"
    assert verdict(made, tcp(A4, OTHER4, SYN, 80)) == "no-rule"
    assert verdict(made, tcp(A4, OTHER4, SYN, 81)) == "accept"


def test_permits() -> None:
    made = opened([])
    first, second = (made.permit(TCP, 4000) for _ in range(2))
    assert verdict(made, tcp(A4, B4, SYN, 4000)) == "accept"
    assert verdict(made, tcp(A4, B4, SYN, 4001)) == verdict(made, udp(A4, B4, port=4000)) == "no-rule"
    assert verdict(made, tcp(A6, B6, SYN, 4000)) == "accept"
    assert verdict(made, encode_echo_packet(A4, B4, Echo(False, 1, 2, b""))) == "no-rule"
    made.set_rules([FilterRule(UDP, 1, 1, (), ((BEHIND4, 24),))])
    assert verdict(made, tcp(A4, BEHIND4, SYN, 4000)) == "no-rule"
    first()
    first()  # idempotent
    assert verdict(made, tcp(A4, B4, SYN, 4000)) == "accept"
    assert made.statistics().permits == 1
    second()
    assert verdict(made, tcp(A4, B4, SYN, 4000)) == "no-rule"
    assert made.statistics().permits == 0


# Flows of UDP


@pytest.mark.parametrize(("they", "we"), FAMILIES)
def test_answers_come_in(they: bytes, we: bytes) -> None:
    made = opened([])
    answer = udp(they, we, 53, 4000)
    assert verdict(made, answer) == "no-rule"
    made.send([SuperPacket(udp(we, they, 4000, 53))])
    assert verdict(made, answer) == "accept"
    assert verdict(made, udp(they, we, 54, 4000)) == verdict(made, udp(they, we, 53, 4001)) == "no-rule"
    assert verdict(made, udp(OTHER4 if len(we) == 4 else OTHER6, we, 53, 4000)) == "no-rule"
    assert made.statistics().accepted_by_rule == 0


def test_large_datagrams_open_their_flow_too() -> None:
    """And their answers' fragments come in."""
    for they, we, cut in ((A4, B4, fragment_ipv4), (A6, B6, fragment_ipv6)):
        made = opened([])
        for packet in cut(we, they, UDP, UdpDatagram(4000, 53, bytes(5000)).encode(we, they), 1280, 7):
            made.send([SuperPacket(packet)])
        assert made.statistics().udp_flows == 1
        for packet in cut(they, we, UDP, UdpDatagram(53, 4000, bytes(5000)).encode(they, we), 1280, 7):
            assert verdict(made, packet) == "accept"


def test_what_goes_out_in_pieces_or_behind_options() -> None:
    made = opened([])
    plain = udp(B4, A4, 4000, 53)
    made.send([SuperPacket(plain[:20], (plain[20:],))])
    made.send([SuperPacket(b"\x46\0" + (34).to_bytes(2, "big") + plain[4:20] + bytes(4) + udp(B4, A4, 4001, 53)[20:])])
    assert verdict(made, udp(A4, B4, 53, 4000)) == verdict(made, udp(A4, B4, 53, 4001)) == "accept"
    made.send([SuperPacket(b""), SuperPacket(b"\x45"), SuperPacket(bytes(30)), SuperPacket(tcp(B4, A4, SYN))])
    assert made.statistics().udp_flows == 2


@pytest.mark.parametrize(("they", "we"), FAMILIES)
def test_what_the_kernel_sends(they: bytes, we: bytes) -> None:
    """By a TUN, whose packets come in other pieces than those of the stack."""
    headers = 28 if len(we) == 4 else 48
    for port, virtio, size in ((1, PLAIN, 2), (2, unfinished(headers), 2), (3, unfinished(headers, GSO_UDP_L4), 5000)):
        made = opened([])
        sent = read_packet(virtio + udp(we, they, port, 53, bytes(size)))
        assert len(sent) == max(1, size // 1000)
        made.send(sent)
        assert made.statistics().udp_flows == 1
        assert verdict(made, udp(they, we, 53, port)) == "accept"
        made.send(read_packet(PLAIN + tcp(we, they, ACK)))
        assert made.statistics().udp_flows == 1


def unfinished(headers: int, kind: int = 0) -> bytes:
    return HEADER.pack(NEEDS_CSUM, kind, headers, 1000 if kind else 0, headers - 8, 6)


@pytest.mark.parametrize("verified", [True, False])
@pytest.mark.parametrize(("they", "we"), FAMILIES)
def test_the_flows_used_last_are_kept(they: bytes, we: bytes, verified: bool) -> None:
    made = opened([])

    def send(port: int) -> None:
        made.send([SuperPacket(udp(we, they, port, 53))])

    def answered(port: int) -> bool:
        burst = burst_of([udp(they, we, 53, port)])
        if not verified:
            burst.rows = [(*row[:4], 0, 0) for row in burst.rows]
        made.receive(burst, 0.0)
        return bool(burst.rows)

    for port in range(1, UDP_FLOWS + 1):
        send(port)
    assert answered(1)  # and is the latest now
    send(2)  # so is this
    for port in range(UDP_FLOWS + 1, UDP_FLOWS + 3):
        send(port)
    assert made.statistics().udp_flows == UDP_FLOWS
    assert [port for port in range(1, UDP_FLOWS + 3) if not answered(port)] == [3, 4]


# What a log is told


def test_drops_are_told_of_seldom() -> None:
    made = opened()
    interval, at_once = DROPS_SAID
    for n in range(100):
        verdict(made, tcp(A4, B4, SYN, 100 + n), 1000.0)
    events = made.events()
    assert [event.destination_port for event in events] == list(range(100, 100 + at_once))
    assert str(events[0]) == "TCP 10.0.0.1:999 to 10.0.0.2:100"
    assert made.events() == []
    verdict(made, udp(A6, B6, port=99), 1000.0 + interval)
    (event,) = made.events()
    assert str(event) == "UDP [fd00::1]:999 to [fd00::2]:99"
    assert not event.accepted
    assert event.unsaid == 100 - at_once
    assert event.reason == "filter-no-rule"


def test_a_flow_that_is_sent_again_is_told_of_once() -> None:
    made = opened()
    now = 1000.0
    for after in (0, 1, 3, 7, 15, 31, 63, 127):  # as Linux sends a SYN again
        verdict(made, tcp(A4, B4, SYN | (0xC0 if after < 15 else 0), 81), now + after)
    verdict(made, tcp(A4, B4, SYN, 82), now + 127)
    assert [event.destination_port for event in made.events()] == [81, 82]
    assert made.statistics().drops["filter-no-rule"] == 9
    verdict(made, tcp(A4, B4, SYN, 81), now + 127 + SAME_SAID)
    (event,) = made.events()
    assert (event.destination_port, event.unsaid) == (81, 0)
    for n in range(SAME_KNOWN + 1):
        verdict(made, tcp(A4, B4, SYN, 1000 + n), now + 300)
    made.events()
    verdict(made, tcp(A4, B4, SYN, 1000), now + 1000)
    assert len(made.events()) == 1, "only the latest are known"


def test_accepts_are_told_of_more_seldom() -> None:
    made = opened()
    for n in range(30):
        assert verdict(made, tcp(A4, B4, SYN), 1000.0 + n) == "accept"
        assert verdict(made, tcp(A4, B4, ACK), 1000.0 + n) == "accept"  # not worth a word
    assert len(made.events()) == ACCEPTS_SAID[1] + 2
    assert made.statistics().accepted_by_rule == 30


def test_events_nobody_takes_are_few() -> None:
    made = opened()
    for n in range(1000):
        verdict(made, tcp(A4, B4, SYN, n), n * 10.0)
    assert len(made.events()) == MAX_EVENTS


def test_what_is_always_about_on_a_network_is_only_counted() -> None:
    made = opened()
    for packet in (udp(A4, MANY4), udp(A6, LINK6), b"\x45"):
        verdict(made, packet)
    assert made.events() == []
    assert sum(made.statistics().drops.values()) == 3


# Anything


PACKETS = [packet for _, packet, _ in GOLDEN]


@settings(deadline=None)
@given(st.integers(), st.lists(st.sampled_from(PACKETS) | st.binary(max_size=100), max_size=8))
def test_nothing_is_raised_and_each_drop_counted(seed: int, packets: list[bytes]) -> None:
    rand = random.Random(seed)
    changed: list[bytes | SuperPacket] = [
        repair(mutate(packet, rand)) if rand.random() < 0.7 else packet for packet in packets
    ]
    made = opened()
    burst = burst_of(changed)
    made.receive(burst, 0.0)
    assert len(burst.rows) + sum(made.statistics().drops.values()) == len(changed)
    made.send([SuperPacket(packet) for packet in changed if isinstance(packet, bytes)])
    for event in made.events():
        assert str(event)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(1, 3), st.integers(1, 3)), max_size=40))
def test_an_accepted_answer_follows_a_datagram_of_ours(steps: list[tuple[bool, bool, int, int]]) -> None:
    made = opened([])
    sent: set[tuple[bool, int, int]] = set()
    for outwards, version6, ours, theirs in steps:
        they, we = FAMILIES[version6]
        if outwards:
            made.send([SuperPacket(udp(we, they, ours, theirs))])
            sent.add((version6, ours, theirs))
        else:
            accepted = verdict(made, udp(they, we, theirs, ours)) == "accept"
            assert accepted is ((version6, ours, theirs) in sent)


@settings(deadline=None)
@given(st.sampled_from(PACKETS))
def test_the_short_way_and_the_long_one_agree(packet: bytes) -> None:
    """A row whose checksums nobody has verified is parsed; one of the shortest header is glanced at."""
    quick, slow = burst_of([packet]), burst_of([packet])
    slow.rows = [(*row[:4], 0, row[5] & ~CHECKSUM_OK) for row in slow.rows]
    first, second = opened(), opened()
    for made, burst in ((first, quick), (second, slow)):
        made.send([SuperPacket(udp(B4, A4, 53, 999)), SuperPacket(udp(B6, A6, 53, 999))])
        made.receive(burst, 0.0)
    assert len(quick.rows) == len(slow.rows)
    assert first.statistics() == second.statistics()
