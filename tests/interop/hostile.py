"""What a hostile far host sends, bounded in number; run as a program, which prints how many it was.

python hostile.py udp HOST PORT PUBLIC_KEY                 at our outer port: noise, broken and forged messages
python hostile.py initiations HOST PORT PUBLIC_KEY COUNT   at our outer port: initiations that we must look into
python hostile.py unheard HOST PORT PUBLIC_KEY COUNT       the same, at a port that nobody listens at
python hostile.py replay DEVICE HOST PORT                  data that was under way on DEVICE, again and changed
python hostile.py tun DEVICE SOURCE TARGET                 into the tunnel: all protocols, broken headers, mutations
python hostile.py fragments DEVICE SOURCE TARGET COUNT     into the tunnel: of datagrams that never become whole
python hostile.py syn DEVICE TARGET PORT COUNT             into the tunnel: from everywhere that it lets in
python hostile.py proxy PORT                               at the proxy: connections with random first bytes or none

FLOOD_RATE in the environment is how many go out in a second, 25,000 unless it says otherwise.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
import random
import socket
import struct
import sys
import time
from collections.abc import Iterable, Iterator

from tests.support.mutation import mutate, repair
from usernet.wire.checksum import checksum
from usernet.wire.icmp import Echo, encode_echo_packet
from usernet.wire.ip import pack_address
from usernet.wire.packet import encode_packet
from usernet.wire.tcp import ACK, FIN, RST, SYN, encode_options, encode_segment
from usernet.wire.udp import UdpDatagram
from usernet.wireguard.constants import TYPE_COOKIE_REPLY, TYPE_RESPONSE
from usernet.wireguard.cookies import CookieJar
from usernet.wireguard.handshake import Identity, RemoteStatic, create_initiation

TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58
RATE = float(os.environ.get("FLOOD_RATE", "25000"))  # packets per second
chance = random.Random(20_823)
noise = chance.randbytes


def paced(packets: Iterable[bytes], each: int = 100) -> Iterator[bytes]:
    """Give the far end's queues a moment now and then: what they drop tests nothing."""
    began = time.monotonic()
    for number, packet in enumerate(packets):
        if number % each == 0:
            time.sleep(max(0.0, began + number / RATE - time.monotonic()))
        yield packet


# -- at the outer port --


def datagrams(public_key: bytes) -> Iterator[bytes]:
    yield from (noise(chance.choice((1, 16, 31, 32, 64, 92, 148, 700, 1452))) for _ in range(50_000))
    yield from (b"" for _ in range(1000))
    yield from (noise(65_507) for _ in range(100))
    for kind, size in ((1, 148), (2, 92), (3, 64), (4, 32)):
        yield from (struct.pack("<I", kind) + noise(n) for n in range(size + 8) for _ in range(4))
    yield from (struct.pack("<III", 4, chance.getrandbits(32), n) + noise(4 + 16 * (n % 90)) for n in range(5000))
    yield from forged(public_key)


def forged(public_key: bytes) -> Iterator[bytes]:
    """Messages with a valid MAC1: whole ones from somebody unknown, cut and changed ones, and garbage."""
    jar = CookieJar(public_key)
    identity = Identity(os.urandom(32))
    remote = RemoteStatic(identity, public_key)
    for n in range(300):
        body = create_initiation(identity, remote, n, noise(12), os.urandom)[1]
        whole = jar.add_macs(body, 0.0)
        yield whole
        yield whole[: chance.randrange(len(whole))]
        at = chance.randrange(len(body))
        yield jar.add_macs(body[:at] + bytes([body[at] ^ 1 << n % 8]) + body[at + 1 :], 0.0)
    for _ in range(3000):
        yield jar.add_macs(struct.pack("<I", 1) + noise(112), 0.0)
        yield jar.add_macs(struct.pack("<I", TYPE_RESPONSE) + noise(56), 0.0)


def initiations(public_key: bytes, count: int) -> Iterator[bytes]:
    """Each has a MAC1 of its own and might be anybody's, so it is worth a cookie or a DH."""
    jar = CookieJar(public_key)
    for _ in range(count):
        yield jar.add_macs(struct.pack("<I", 1) + noise(112), 0.0)


def replays(device: str, port: str) -> Iterator[bytes]:
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)) as tap:
        tap.bind((device, 3))
        tap.settimeout(20)
        caught: list[bytes] = []
        while len(caught) < 20:
            packet, about = tap.recvfrom(65_535)
            outer = 4 * (packet[0] & 15)
            to_port = packet[outer + 2 : outer + 4] == int(port).to_bytes(2, "big")
            if about[2] == socket.PACKET_OUTGOING and to_port and packet[outer + 8] == 4:
                caught.append(packet[outer + 8 : outer + 8 + 1452])
    for number in range(20_000):
        message = bytearray(caught[number % 20])
        if number % 3 == 1:
            message[chance.randrange(8, len(message))] ^= 1 << number % 8
        elif number % 3 == 2:
            del message[chance.randrange(len(message)) :]
        yield bytes(message)


def attack_port(host: str, port: str, packets: Iterable[bytes], *, expects_cookies: bool = False) -> int:
    """From a port of our own, so that an endpoint moved by what is not authentic would show."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((host, int(port)))
    sent = cookies = 0
    for packet in paced(packets):
        with contextlib.suppress(ConnectionRefusedError, BlockingIOError):
            sock.send(packet)
            sent += 1
            while True:
                answer = sock.recv(2048, socket.MSG_DONTWAIT)
                cookies += answer[:1] == bytes([TYPE_COOKIE_REPLY])
    if expects_cookies and not cookies:
        raise SystemExit("no cookie came back")
    return sent


# -- into the tunnel --


def packet4(source: bytes, target: bytes, protocol: int, body: bytes, fragment: int = 0, ident: int = 1) -> bytes:
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(body), ident, fragment, 64, protocol, 0, source, target)
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + body


def packet6(source: bytes, target: bytes, protocol: int, body: bytes) -> bytes:
    return struct.pack(">IHBB16s16s", 0x6000_0000, len(body), protocol, 64, source, target) + body


def packet(source: bytes, target: bytes, protocol: int, body: bytes) -> bytes:
    return (packet4 if len(target) == 4 else packet6)(source, target, protocol, body)


def tcp_header(source_port: int, port: int, flags: int, words: int = 5) -> bytes:
    return struct.pack(">HHIIBBHHH", source_port, port, chance.getrandbits(32), 0, words << 4, flags, 1024, 0, 0)


def inner_packets(source: bytes, target: bytes) -> Iterator[bytes]:
    for protocol in range(256):
        for size in (0, 1, 7, 8, 20, 40, 200, 1200):
            yield packet(source, target, protocol, noise(size))
    for n in range(3000):  # right length, wrong everything else
        yield packet(source, target, TCP, tcp_header(n + 1, 80, n & 255, n % 16) + noise(n % 64))
        yield packet(source, target, UDP, struct.pack(">HHHH", 53, n, n, n) + noise(n % 300))
        yield packet(source, target, ICMP if len(target) == 4 else ICMP6, bytes([n % 256, n % 7]) + noise(n % 600))
    for n in range(3000):  # fragments that overlap, end beyond 65,535, or stay alone
        if len(target) == 4:
            yield packet4(source, target, n % 20, noise(8 + n % 800), chance.getrandbits(14), n % 700)
        else:
            header = struct.pack(">BBHI", chance.choice((0, TCP, UDP, 44, 60)), 0, chance.getrandbits(16), n % 700)
            yield packet6(source, target, 44, header + noise(n % 800))
    for n in range(1000):  # extension headers or options that lie, and packets cut short
        yield packet(source, target, chance.choice((0, 43, 44, 51, 60, 135)), noise(n % 120))
        whole = packet(source, target, TCP, tcp_header(n, n, 2) + noise(40))
        yield whole[: 20 + n % 40]
        yield bytes([whole[0] & 0xF0 | n & 15]) + whole[1:]


def mutations(source: bytes, target: bytes) -> Iterator[bytes]:
    """Of packets that were honest, half of them with their checksums put right."""
    options = encode_options(1000, 7, True, (), (1, 2))
    honest = [
        encode_segment(source, target, 999, port, 5, 6, flags, 1000, options, b"data")
        for flags in (SYN, ACK, FIN | ACK, RST, SYN | ACK)
        for port in (80, 1080)
    ]
    datagram = UdpDatagram(1000, 53, noise(100)).encode(source, target)
    honest.append(encode_packet(source, target, UDP, datagram))
    honest.append(encode_echo_packet(source, target, Echo(False, 1, 2, noise(100))))
    if len(target) == 16:
        honest.append(encode_packet(source, target, 60, bytes([UDP, 0, 1, 4, 0, 0, 0, 0]) + datagram))
    for n in range(10_000):
        mutated = mutate(chance.choice(honest), chance)
        yield repair(mutated) if n % 2 else mutated


def fragments(source: bytes, target: bytes, count: int) -> Iterator[bytes]:
    """The first or the last of two or three, each of a datagram of its own, in two sizes."""
    for n in range(count):
        size, offset = (1200, 8 if n % 2 else 24) if n % 3 else (24, 0 if n % 2 else 3)
        more = n // 2 % 2 or not offset
        if len(target) == 4:
            yield packet4(source, target, UDP, noise(size), offset | more << 13, n & 0xFFFF)
        else:
            header = struct.pack(">BBHI", UDP, 0, offset << 3 | more, n)
            yield packet6(source, target, 44, header + noise(size))


def syns(target: bytes, port: int, count: int) -> Iterator[bytes]:
    """Finished segments, with their checksums."""
    for n in range(count):
        source = target[:-1] + bytes([0x80 | 1 + n % 120])
        header = tcp_header(1024 + n // 120 * 7 % 60_000, port, 2)
        pseudo = source + target + (struct.pack(">HH", TCP, 20) if len(target) == 4 else struct.pack(">II", 20, TCP))
        yield packet(source, target, TCP, header[:16] + checksum(pseudo + header).to_bytes(2, "big") + header[18:])


def inject(device: str, packets: Iterable[bytes]) -> int:
    """Through the device's own way out, with no stack in between to put them right."""
    count = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as sock:
        for data in paced(packets):
            with contextlib.suppress(OSError):  # the device's queue is full, or the packet too long for it
                sock.sendto(data, (device, 0x0800 if data[:1] < b"\x60" else 0x86DD))
                count += 1
    return count


# -- at the proxy --


def attack_proxy(port: str) -> int:
    count = 0
    held: list[socket.socket] = []
    begun = (b"", b"\x05", b"\x05\x02\x00", b"\x05\x01\x00\x05\x01", b"GET http://", b"CONNECT a:1 HTTP/1.1\r\nX: ")
    for number in range(2000):
        sock = socket.create_connection(("127.0.0.1", int(port)), timeout=20)
        count += 1
        if number % 5 == 0:  # half-open, until all is over
            sock.send(chance.choice(begun))
            held.append(sock)
            continue
        with sock, contextlib.suppress(OSError):
            sock.send(bytes([number % 256]) + noise(chance.randrange(600)))
            if number % 2:
                sock.shutdown(socket.SHUT_WR)
                sock.recv(4096)
    for sock in held:
        sock.close()
    return count


def main(kind: str, *arguments: str) -> int:
    if kind == "udp":
        host, port, key = arguments
        return attack_port(host, port, datagrams(base64.b64decode(key)))
    if kind in ("initiations", "unheard"):
        host, port, key, count = arguments
        flood = initiations(base64.b64decode(key), int(count))
        return attack_port(host, port, flood, expects_cookies=kind == "initiations")
    if kind == "replay":
        device, host, port = arguments
        return attack_port(host, port, replays(device, port))
    if kind == "proxy":
        return attack_proxy(*arguments)
    device, first, *rest = arguments
    if kind == "syn":
        return inject(device, syns(pack_address(first), *map(int, rest)))
    target = pack_address(rest[0])
    if kind == "fragments":
        return inject(device, fragments(pack_address(first), target, int(rest[1])))
    return inject(
        device, itertools.chain(inner_packets(pack_address(first), target), mutations(pack_address(first), target))
    )


print(main(*sys.argv[1:]))
