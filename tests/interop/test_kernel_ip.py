"""IP, ICMP and UDP against the kernel: fragments, extension headers, errors both ways with their limit, and what is not
for one host.  RFC 791, 792, 1122, 4443, 8200.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess

import pytest

from tests.support.kernel import ADDRESSES, active, exchange
from tests.support.tun import OURS, Beside, clock
from usernet.errors import HostUnreachable, NetworkUnreachable
from usernet.stack.events import EchoFailed, EchoReply
from usernet.stack.icmp import ERROR_BURST, ERRORS_PER_SECOND
from usernet.tcp.state import State
from usernet.wire.ip import pack_address

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

FAMILIES = [socket.AF_INET, socket.AF_INET6]
SIZES = [0, 1300, 9000, 65_000]
PORT = 7100
# linux/in.h, linux/in6.h, linux/errqueue.h
IP_RECVERR, IPV6_RECVERR = 11, 25
MSG_ERRQUEUE = 0x2000


def udp(beside: Beside, family: int) -> socket.socket:
    sock = beside.open_socket(family, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.bind((ADDRESSES[socket.AddressFamily(family)][1], 0))
    return sock


# Fragments and echoes


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", SIZES)
def test_they_ping(beside: Beside, family: int, size: int) -> None:
    ours = ADDRESSES[socket.AddressFamily(family)][0]
    command = ["ip", "netns", "exec", beside.kernel, "ping", "-c", "3", "-i", "0.1", "-W", "5", "-s", str(size), ours]
    done = beside.submit(lambda: subprocess.run(command, capture_output=True, text=True))
    beside.run(done.done, "the pings")
    assert ", 0% packet loss" in done.result().stdout


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", SIZES)
def test_we_ping(beside: Beside, family: int, size: int) -> None:
    theirs = pack_address(ADDRESSES[socket.AddressFamily(family)][1])
    payload = os.urandom(size)
    beside.station.host.ping(theirs, 7, 9, payload, clock())
    beside.run(lambda: beside.station.events, "the answer")
    assert beside.station.events == [EchoReply(theirs, 7, 9, payload)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", SIZES)
def test_datagrams_both_ways(beside: Beside, family: int, size: int) -> None:
    """They send it, we send it back: reassembled there and here."""
    beside.station.echoes = True
    beside.station.host.open_udp(port=PORT)
    sock = udp(beside, family)
    payload = os.urandom(size)
    for _ in range(3):
        sock.sendto(payload, (ADDRESSES[socket.AddressFamily(family)][0], PORT))
        echoed = beside.submit(lambda: sock.recv(1 << 16))
        beside.run(echoed.done, "the echo")
        assert echoed.result() == payload
    assert not beside.station.host.statistics().fragment_bytes


@pytest.mark.parametrize("family", FAMILIES)
def test_fragments_that_come_late_and_out_of_order(beside: Beside, family: int) -> None:
    beside.station.echoes = True
    beside.station.host.open_udp(port=PORT)
    sock = udp(beside, family)
    beside.delay, beside.late, beside.late_by = 0.005, 0.3, 0.01
    sent = [os.urandom(8000) for _ in range(8)]  # Linux gives up on what 64 other fragments have overtaken
    for payload in sent:
        sock.sendto(payload, (ADDRESSES[socket.AddressFamily(family)][0], PORT))
    echoed = beside.submit(lambda: {sock.recv(1 << 16) for _ in sent})
    beside.run(echoed.done, "the echoes")
    assert echoed.result() == set(sent)


# Errors they send


ERRORS = {
    "host-unreachable": HostUnreachable,
    "no-route": NetworkUnreachable,
    "admin-prohibited": HostUnreachable,
    "port-unreachable": ConnectionRefusedError,
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_ends_a_connection_that_is_opening(beside: Beside, family: int, kind: str) -> None:
    beside.filter(f"iifname t0 meta l4proto tcp reject with icmpx type {kind}")
    theirs = pack_address(ADDRESSES[socket.AddressFamily(family)][1])
    ours = beside.station.host.connect(theirs, 9, clock())
    beside.run(lambda: ours.state is State.CLOSED, "the error", 3)
    assert type(ours.error) is ERRORS[kind]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_error_does_not_end_one_that_is_open(beside: Beside, family: int) -> None:
    """RFC 1122 4.2.3.9, RFC 5461 2: a soft error; the data goes again."""
    ours, theirs = active(beside, family)
    beside.filter("iifname t0 meta l4proto tcp reject with icmpx type host-unreachable")
    beside.station.write(ours, b"once more", clock())
    beside.run(lambda: beside.station.host.statistics().drops.get("icmp-ignored"), "the error", 3)
    assert ours.state is State.ESTABLISHED
    beside.filter("")
    read = beside.submit(lambda: theirs.recv(100))
    beside.run(read.done, "the data")
    assert read.result() == b"once more"
    exchange(beside, ours, theirs, b"", b"")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_port_of_theirs_is_closed(beside: Beside, family: int) -> None:
    theirs = pack_address(ADDRESSES[socket.AddressFamily(family)][1])
    ours = beside.station.host.open_udp(remote=(theirs, 9))
    ours.send(b"anybody?", None, clock())
    beside.run(lambda: ours.error is not None, "the error", 3)
    assert isinstance(ours.error, ConnectionRefusedError)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_error_about_a_ping(beside: Beside, family: int) -> None:
    beside.filter("iifname t0 meta l4proto { icmp, ipv6-icmp } reject with icmpx type host-unreachable")
    theirs = pack_address(ADDRESSES[socket.AddressFamily(family)][1])
    beside.station.host.ping(theirs, 7, 9, bytes(100), clock())
    beside.run(lambda: beside.station.events, "the error", 3)
    (event,) = beside.station.events
    assert isinstance(event, EchoFailed)
    assert (event.ident, event.sequence) == (7, 9)


# Errors we send


@pytest.mark.parametrize("family", FAMILIES)
def test_a_port_of_ours_is_closed(beside: Beside, family: int) -> None:
    sock = udp(beside, family)
    sock.connect((ADDRESSES[socket.AddressFamily(family)][0], 9))
    sock.send(b"anybody?")
    failed = beside.submit(lambda: sock.recv(100))
    beside.run(failed.done, "the error", 3)
    assert isinstance(failed.exception(), ConnectionRefusedError)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_protocol_that_we_do_not_speak(beside: Beside, family: int) -> None:
    """Protocol unreachable, and for IPv6 Parameter Problem, code 1 (RFC 8200 4)."""
    v6 = family == socket.AF_INET6
    sock = beside.open_socket(family, socket.SOCK_RAW, 99)
    sock.setsockopt(socket.IPPROTO_IPV6 if v6 else socket.IPPROTO_IP, IPV6_RECVERR if v6 else IP_RECVERR, 1)
    sock.connect((ADDRESSES[socket.AddressFamily(family)][0], 0))
    sock.send(b"do you speak this?")
    error = error_queue(beside, sock)
    assert error == (3, 4, 1) if v6 else error == (2, 3, 2)  # where from, type, code


def error_queue(beside: Beside, sock: socket.socket) -> tuple[int, int, int]:
    """struct sock_extended_err: ee_origin, ee_type, ee_code."""
    found: list[bytes] = []
    sock.setblocking(False)

    def look() -> bool:
        try:
            found.append(sock.recvmsg(2000, 512, MSG_ERRQUEUE)[1][0][2])
        except BlockingIOError:
            return False
        return True

    beside.run(look, "an ICMP error", 3)
    _, origin, kind, code = struct.unpack_from("=IBBB", found[0])
    return origin, kind, code


def test_errors_are_limited(beside: Beside) -> None:
    """To a burst and then so many a second; everything beyond is counted."""
    sock = udp(beside, socket.AF_INET)
    before = beside.nstat("IcmpInDestUnreachs")
    began = clock()
    for number in range(400):
        sock.sendto(b"?", (OURS, 8000 + number))
    beside.run(lambda: beside.station.host.statistics().drops.get("udp-no-socket") == 400, "all of them")
    elapsed = clock() - began
    beside.linger(0.05)
    heard = beside.nstat("IcmpInDestUnreachs") - before
    assert ERROR_BURST <= heard <= ERROR_BURST + ERRORS_PER_SECOND * elapsed + 1
    assert beside.station.host.statistics().drops["icmp-rate-limit"] == 400 - heard


# What is not for one host


@pytest.mark.parametrize(
    ("target", "reason"), [("255.255.255.255", "broadcast"), ("224.0.0.1", "multicast"), ("ff02::1", "multicast")]
)
def test_broadcast_and_multicast(beside: Beside, target: str, reason: str) -> None:
    """From the next router on, dropped and counted, and nobody is answered (RFC 1122 3.2.2)."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    sock = beside.open_socket(family, socket.SOCK_DGRAM, namespace=beside.router)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"t0")
    drops = beside.station.host.statistics
    before, sent = drops().drops.get(reason, 0), beside.packets_out
    for _ in range(3):
        sock.sendto(b"everybody?", (target, 9))
    beside.run(lambda: drops().drops.get(reason, 0) >= before + 3, "them to be counted", 3)
    beside.linger(0.05)
    assert beside.packets_out == sent
    assert "udp-no-socket" not in drops().drops


def test_we_send_to_one_host_only(beside: Beside) -> None:
    host = beside.station.host
    for target in ("255.255.255.255", "224.0.0.1", "ff02::1"):
        with pytest.raises(NetworkUnreachable):
            host.connect(pack_address(target), 9, clock())


# Extension headers (RFC 8200 4)


PADDING = bytes([0, 0, 1, 4, 0, 0, 0, 0])  # next header and length, which the kernel fills in; PadN


@pytest.mark.parametrize("name", ["IPV6_DSTOPTS", "IPV6_HOPOPTS", "both"])
def test_options_that_say_nothing(beside: Beside, name: str) -> None:
    beside.station.echoes = True
    beside.station.host.open_udp(port=PORT)
    sock = udp(beside, socket.AF_INET6)
    for option in ("IPV6_DSTOPTS", "IPV6_HOPOPTS"):
        if name in (option, "both"):
            sock.setsockopt(socket.IPPROTO_IPV6, getattr(socket, option), PADDING)
    for size in (100, 5000):  # whole, and in fragments with the headers in front
        sock.sendto(bytes(size), (ADDRESSES[socket.AF_INET6][0], PORT))
        echoed = beside.submit(lambda: sock.recv(1 << 16))
        beside.run(echoed.done, "the echo", 5)
        assert echoed.result() == bytes(size)


@pytest.mark.parametrize(
    ("kind", "answer"),
    [(0x1E, "delivered"), (0x5E, "dropped"), (0x9E, "told"), (0xDE, "told")],
    ids=["skip", "discard", "discard and tell", "discard and tell, if not multicast"],
)
def test_an_option_that_nobody_knows(beside: Beside, kind: int, answer: str) -> None:
    """RFC 8200 4.2: its two highest bits say what to do."""
    beside.station.echoes = True
    beside.station.host.open_udp(port=PORT)
    sock = udp(beside, socket.AF_INET6)
    sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, bytes([0, 0, kind, 4, 0, 0, 0, 0]))
    sent = beside.packets_out
    sock.sendto(b"hello", (ADDRESSES[socket.AF_INET6][0], PORT))
    if answer == "delivered":
        beside.run(lambda: beside.station.datagrams, "the datagram", 3)
    elif answer == "told":
        assert error_queue(beside, sock) == (3, 4, 2)
    else:
        beside.run(lambda: beside.station.host.statistics().drops.get("ip-unknown-option"), "it to be counted", 3)
        beside.linger(0.05)
        assert beside.packets_out == sent
    assert bool(beside.station.datagrams) is (answer == "delivered")
