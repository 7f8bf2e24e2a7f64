"""What owes an acknowledgement, and for how long a peer may owe one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw

from usernet.burst.packets import SuperPacket
from usernet.tun.offload import PLAIN, read_packet
from usernet.tun.stall import PATIENCE, Silence, asked

FOUR, REMOTE4 = IP(src="192.0.2.1", dst="192.0.2.2"), bytes([192, 0, 2, 2])
SIX, REMOTE6 = IPv6(src="2001:db8::1", dst="2001:db8::2"), bytes.fromhex("20010db8" + 22 * "0" + "02")
KEY = b"k" * 32


def whole(packet: Packet) -> SuperPacket:
    """As the kernel gives one that it has cut itself: its headers in one piece."""
    return SuperPacket(bytes(packet))


@pytest.mark.parametrize(("ip", "remote"), [(FOUR, REMOTE4), (SIX, REMOTE6)], ids=["4", "6"])
@pytest.mark.parametrize(
    ("inner", "owes"),
    [
        (TCP(flags="A") / Raw(b"x"), True),
        (TCP(flags="A", options=[("Timestamp", (1, 2))]) / Raw(b"x"), True),
        (TCP(flags="S"), True),
        (TCP(flags="FA"), True),
        (TCP(flags="A"), False),
        (TCP(flags="A", options=[("Timestamp", (1, 2))]), False),
        (TCP(flags="R"), False),
        (UDP() / Raw(b"x"), False),
    ],
    ids=str,
)
def test_data_syn_and_fin_owe_one(ip: Packet, remote: bytes, inner: Packet, owes: bool) -> None:
    assert asked(whole(ip / inner)) == (remote if owes else None)


def test_a_super_packet_owes_one_for_its_pieces() -> None:
    assert asked(SuperPacket(bytes(FOUR / TCP(flags="A")), (b"a" * 3000,), 1400)) == REMOTE4


@given(st.binary(min_size=20, max_size=90))
def test_no_packet_is_too_odd(data: bytes) -> None:
    for packet in read_packet(PLAIN + data):
        remote = asked(packet)
        assert remote is None or len(remote) in (4, 16)


class Peers:
    """A tunnel of one peer."""

    since: float | None = None

    def route(self, address: bytes) -> bytes | None:
        return KEY if address == b"near" else None

    def unanswered_since(self, public_key: bytes) -> float | None:
        assert public_key == KEY
        return self.since


def test_a_peer_that_owes_for_a_second_is_silent() -> None:
    peers = Peers()
    silence = Silence(peers)
    assert not silence.sent(b"near", 10.0)  # the tunnel learns of it only as it is sealed
    peers.since = 10.0
    assert not silence.sent(b"near", 10.0 + PATIENCE * 0.9)
    assert silence.sent(b"near", 10.0 + PATIENCE)
    assert silence.sent(b"near", 10.0 + PATIENCE * 2)  # the negotiator knows how often it may ask


def test_an_answer_is_the_end_of_it() -> None:
    peers = Peers()
    silence = Silence(peers)
    silence.sent(b"near", 10.0)
    peers.since = None
    assert not silence.sent(b"near", 12.0)
    peers.since = 12.5  # answered, and asked again before this looked
    assert not silence.sent(b"near", 14.0)
    assert silence.sent(b"near", 14.0 + PATIENCE)


def test_an_acknowledgement_of_ours_long_ago_is_owed_nothing() -> None:
    """It is unanswered for as long as there is nothing to say; the question after it has its own second."""
    peers = Peers()
    silence = Silence(peers)
    silence.sent(b"near", 1.0)
    peers.since = 2.0  # a bare ACK
    assert not silence.sent(b"near", 9.0)
    assert not silence.sent(b"near", 9.5)
    assert silence.sent(b"near", 9.0 + PATIENCE)


def test_what_no_peer_carries_is_nobodys_silence() -> None:
    silence = Silence(Peers())
    assert not silence.sent(b"else", 1.0)
    assert not silence.sent(b"else", 60.0)
