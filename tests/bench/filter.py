"""Nanoseconds that the packet filter takes for a row and for a packet.  Not a test: `python -m tests.bench.filter`."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.support.stack import A4, A6, B4, B6, burst_of
from usernet.burst.packets import SuperPacket
from usernet.filter import FilterRule, PacketFilter
from usernet.wire.ip import ICMP, TCP, UDP
from usernet.wire.packet import encode_packet
from usernet.wire.tcp import ACK, SYN, encode_segment
from usernet.wire.udp import UdpDatagram

SECONDS = 0.3
CALLS = 1000


def measure(work: Callable[[], None], of: int) -> str:
    """The best of many slices: the machine is shared."""
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(CALLS):
            work()
        best = min(best, (time.perf_counter() - start) / CALLS / of)
    return f"{best * 1e9:6.0f}"


def main() -> None:
    made = PacketFilter()
    made.set_rules([FilterRule(ICMP), FilterRule(TCP, 80, 80)])
    made.readdress([B4, B6])
    print(f"{'ns':34}{'16 in a burst':>14}{'alone':>8}")
    for family, they, we in (("IPv4", A4, B4), ("IPv6", A6, B6)):
        ack = encode_segment(they, we, 5, 6, 1, 1, ACK, 5)
        merged = SuperPacket(ack, (bytes(60_000),), 1360)
        question, answer = (
            encode_packet(source, to, UDP, UdpDatagram(*ports, bytes(500)).encode(source, to))
            for source, to, ports in ((we, they, (999, 53)), (they, we, (53, 999)))
        )
        made.send([SuperPacket(question)])
        for name, item in (
            ("in, merged TCP of 60 KB", merged),
            ("in, acknowledgement", ack),
            ("in, answer by UDP", answer),
            ("in, SYN that a rule lets in", encode_segment(they, we, 5, 80, 1, 0, SYN, 5)),
        ):
            many, one = burst_of([item] * 16), burst_of([item])
            many_ns, one_ns = measure(lambda: made.receive(many, 0.0), 16), measure(lambda: made.receive(one, 0.0), 1)  # noqa: B023
            print(f"{family} {name:29}{many_ns:>14}{one_ns:>8}")
        for name, packet in (
            ("out, merged TCP", merged),
            ("out, acknowledgement", SuperPacket(ack)),
            ("out, UDP", SuperPacket(question)),
        ):
            many_ns, one_ns = measure(lambda: made.send([packet] * 16), 16), measure(lambda: made.send([packet]), 1)  # noqa: B023
            print(f"{family} {name:29}{many_ns:>14}{one_ns:>8}")


if __name__ == "__main__":
    main()
