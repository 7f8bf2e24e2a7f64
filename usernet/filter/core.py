"""The packet filter between the tunnel and what is inside it: whatever no rule lets in is dropped, until rules are set.

Read RFC 1858 and 3128 (what fragments hide), RFC 8200 4.5, and tailscale's wgengine/filter, whose verdicts these are.
What comes in is judged in this order:

1. nothing in it: accepted; too short, or no IP: dropped
2. to many or to a link (unless that is an address of ours): dropped
3. a fragment other than the first: accepted, since without its first one it is nothing
4. not to one of our addresses, nor to what a rule names as being behind us: dropped
5. TCP that is not a SYN: accepted; an answer to a UDP datagram of ours, an ICMP answer or error: accepted
6. anything else by the rules, and by what was permitted meanwhile; other ICMP if any rule has its addresses

What goes out is let out, and remembered if it is UDP.  A burst costs little where it is a stream's: a merged row is
looked at in two places of its header.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from usernet.burst.packets import CHECKSUM_OK, Drops, PacketBurst, SuperPacket
from usernet.errors import WireError
from usernet.filter.head import LATER_FRAGMENT, TRANSPORT_BYTES, Head, is_link_local, read_head
from usernet.filter.matching import CompiledRule
from usernet.filter.rules import FilterRule
from usernet.filter.statistics import FilterStatistics
from usernet.filter.verdicts import TokenBucket, Verdict
from usernet.wire.ip import ICMP, ICMPV6, TCP, UDP, is_multicast
from usernet.wire.ipv6 import FRAGMENT
from usernet.wire.tcp import ACK, SYN

UDP_FLOWS: Final = 512  # the latest; each is some 200 B
DROPS_SAID: Final = (5.0, 10)  # one every so many s, after so many at once
ACCEPTS_SAID: Final = (10.0, 3)
# s after which a flow that was dropped is worth another word: a SYN is sent again after 63 at most
SAME_SAID: Final = 130.0
SAME_KNOWN: Final = 64  # such flows, the latest
MAX_EVENTS: Final = 16

_NOBODY: Final[tuple[bytes, ...]] = ()
_SYN_ACK: Final = SYN | ACK
_ECHO_REPLY: Final = {ICMP: 0, ICMPV6: 129}
_ERRORS: Final = {ICMP: frozenset((3, 11, 12)), ICMPV6: frozenset((1, 2, 3, 4))}
# Redirects, router and neighbour discovery belong to a link: there is none here, so whoever sends them means no good.
_OF_A_LINK: Final = {ICMP: frozenset((5, 9, 10)), ICMPV6: frozenset(range(133, 138))}
# What a log is told of; other drops are only counted.
_LOUD: Final = frozenset(("filter-no-rule", "filter-not-local", "filter-protocol", "filter-icmp-type"))


class PacketFilter:
    """`set_rules` opens it; before that everything is dropped."""

    def __init__(self) -> None:
        self._rules: list[CompiledRule] | None = None
        self._own_v4: tuple[bytes, ...] = ()
        self._own_v6: tuple[bytes, ...] = ()
        self._permits: dict[tuple[int, int], int] = {}
        # As their answers name them: address of the far end, ours, and the two ports likewise
        self._flows: OrderedDict[bytes, None] = OrderedDict()
        self._drops = Drops()
        self._accepted = 0
        self._buckets = {False: TokenBucket(*DROPS_SAID), True: TokenBucket(*ACCEPTS_SAID)}
        self._unsaid = {False: 0, True: 0}
        # Flows whose drops were told of, and when the last packet of each came
        self._said: OrderedDict[tuple[object, ...], float] = OrderedDict()
        self._events: deque[Verdict] = deque(maxlen=MAX_EVENTS)

    def set_rules(self, rules: Iterable[FilterRule]) -> None:
        """These instead of those before.  What was permitted stays, and so do flows."""
        self._rules = [CompiledRule(rule) for rule in rules]

    def readdress(self, own: Iterable[bytes]) -> None:
        """Our own addresses are these from now on, 4 or 16 bytes each."""
        own = tuple(own)
        self._own_v4 = tuple(address for address in own if len(address) == 4)
        self._own_v6 = tuple(address for address in own if len(address) == 16)

    def permit(self, protocol: int, port: int) -> Callable[[], None]:
        """Let everybody in at one port of our own addresses, until what this returns is called."""
        key = protocol, port
        self._permits[key] = self._permits.get(key, 0) + 1
        held = [key]

        def revoke() -> None:
            if held:
                held.clear()
                self._permits[key] -= 1
                if not self._permits[key]:
                    del self._permits[key]

        return revoke

    # In

    def receive(self, burst: PacketBurst, now: float) -> None:
        """Take out of a burst the rows that may not come in."""
        if self._rules is None:
            own_v4, own_v6 = _NOBODY, _NOBODY
        else:
            own_v4, own_v6 = self._own_v4, self._own_v6
        buf, flows = burst.buf, self._flows
        refused: set[int] = set()
        for number, (offset, length, mss, segments, transport, flags) in enumerate(burst.rows):
            if flags & CHECKSUM_OK:  # so all of the transport's header is there
                # the shortest headers, where addresses and ports are neighbours; a merged row is TCP's, and no SYN
                if transport == 20:
                    if mss or (buf[offset + 9] == TCP and buf[offset + 33] & _SYN_ACK != SYN):
                        if buf[offset + 16 : offset + 20] in own_v4:
                            continue
                    elif buf[offset + 9] == UDP and buf[offset + 16 : offset + 20] in own_v4:
                        key = bytes(buf[offset + 12 : offset + 24])
                        if key in flows:
                            flows.move_to_end(key)
                            continue
                elif transport == 40 and buf[offset] >> 4 == 6:
                    if mss or (buf[offset + 6] == TCP and buf[offset + 53] & _SYN_ACK != SYN):
                        if buf[offset + 24 : offset + 40] in own_v6:
                            continue
                    elif buf[offset + 6] == UDP and buf[offset + 24 : offset + 40] in own_v6:
                        key = bytes(buf[offset + 8 : offset + 44])
                        if key in flows:
                            flows.move_to_end(key)
                            continue
            if length and not self._admits(buf, offset, offset + length, mss > 0, segments, now):
                refused.add(number)
        if refused:
            burst.rows[:] = [row for number, row in enumerate(burst.rows) if number not in refused]

    def _admits(self, buf: bytearray, start: int, end: int, merged: bool, segments: int, now: float) -> bool:
        try:
            head = read_head(buf, start, end, merged=merged)
        except WireError as error:
            self._drops.count(error.reason, segments)
            return False
        reason = self._why_not(head, now)
        if reason:
            self._drops.count(reason, segments)
            if reason in _LOUD and not self._was_said(head, now):
                self._say(False, head, reason, now)
            return False
        return True

    def _why_not(self, head: Head, now: float) -> str:
        """Why a packet is to be dropped; "" where it is not."""
        rules, own, destination = self._rules, self._own_v4 + self._own_v6, head.destination
        if rules is None:
            return "filter-not-set"
        if is_multicast(destination):
            return "filter-multicast"
        is_own = destination in own
        if is_link_local(destination) and not is_own:
            return "filter-link-local"
        protocol = head.protocol
        if protocol == LATER_FRAGMENT:
            return ""
        if not is_own and not any(rule.is_behind_us(destination) for rule in rules):
            return "filter-not-local"
        if protocol == TCP:
            if head.kind & _SYN_ACK != SYN:
                return ""
        elif protocol == UDP:
            if self._is_answer(head):
                return ""
        elif protocol == (ICMP if len(destination) == 4 else ICMPV6):
            icmp_type, code = divmod(head.kind, 256)
            if icmp_type in _ERRORS[protocol] or (icmp_type == _ECHO_REPLY[protocol] and not code):
                return ""
            if icmp_type in _OF_A_LINK[protocol]:
                return "filter-icmp-type"
        is_permitted = is_own and (protocol, head.destination_port) in self._permits
        if not is_permitted and not any(rule.lets_in(head, is_own) for rule in rules):
            return "filter-no-rule" if protocol in TRANSPORT_BYTES else "filter-protocol"
        self._accepted += 1
        self._say(True, head, "rule", now)
        return ""

    def _is_answer(self, head: Head) -> bool:
        ports = head.source_port << 16 | head.destination_port
        key = head.source + head.destination + ports.to_bytes(4, "big")
        if key not in self._flows:
            return False
        self._flows.move_to_end(key)
        return True

    # Out

    def send(self, packets: Sequence[SuperPacket]) -> None:
        """Remember the flows of UDP that go out, whoever sends them: their answers may come in."""
        flows = self._flows
        for header, pieces, mss in packets:
            if mss:
                continue  # it is TCP's
            if len(header) >= 28 and header[0] == 0x45:
                if header[9] == TCP:
                    continue
                if header[9] == UDP and not (header[6] & 0x1F or header[7]):
                    key = header[16:20] + header[12:16] + header[22:24] + header[20:22]
                    flows[key] = None
                    flows.move_to_end(key)
            elif len(header) >= 40 and header[0] >> 4 == 6 and header[6] == TCP:
                continue
            elif len(header) >= 48 and header[0] >> 4 == 6 and header[6] != FRAGMENT:
                if header[6] == UDP:
                    key = header[24:40] + header[8:24] + header[42:44] + header[40:42]
                    flows[key] = None
                    flows.move_to_end(key)
            else:
                self._remember(header + b"".join(pieces))
        while len(flows) > UDP_FLOWS:
            flows.popitem(last=False)

    def _remember(self, packet: bytes) -> None:
        try:
            head = read_head(packet, 0, len(packet), merged=False)
        except WireError:  # of our own making, or the kernel's: that is not for us to judge
            return
        if head.protocol == UDP:
            ports = head.destination_port << 16 | head.source_port
            key = head.destination + head.source + ports.to_bytes(4, "big")
            self._flows[key] = None
            self._flows.move_to_end(key)

    # What the owner learns

    def events(self) -> list[Verdict]:
        """What a log should say, since the last call."""
        events = list(self._events)
        self._events.clear()
        return events

    def statistics(self) -> FilterStatistics:
        return FilterStatistics(dict(self._drops), self._accepted, len(self._flows), len(self._permits))

    def _was_said(self, head: Head, now: float) -> bool:
        """Whether it is more of the same, as who is not answered sends it again."""
        flow = head[:5]  # without the flags of TCP: a SYN that is sent again may do without ECN's
        said, last = self._said, self._said.pop(flow, None)
        said[flow] = now
        if len(said) > SAME_KNOWN:
            said.popitem(last=False)
        return last is not None and now - last < SAME_SAID

    def _say(self, accepted: bool, head: Head, reason: str, now: float) -> None:
        if not self._buckets[accepted].allows(now):
            self._unsaid[accepted] += 1
            return
        source, destination, protocol, source_port, destination_port, _ = head
        unsaid, self._unsaid[accepted] = self._unsaid[accepted], 0
        self._events.append(
            Verdict(accepted, protocol, source, source_port, destination, destination_port, reason, unsaid)
        )
