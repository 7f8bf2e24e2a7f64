"""SYN cookies: a listener whose half-open table is full answers SYNs and remembers nothing.  Read RFC 4987 3.6.

What a half-open connection would know travels to the client and comes back with its ACK:

1. Our initial sequence number is a keyed hash of the flow, the client's number and a slow clock, its two low bits
   changed by which of four segment sizes the client takes.  The client returns it, plus one, as its ACK.
2. Where the client speaks timestamps, five low bits of the first TSval hold window scale and SACK, as Linux does it
   (net/ipv4/syncookies.c, without its ECN bit).  The client echoes them.

What that costs: a client without timestamps gets neither scaling nor SACK, sizes are rounded down, a SYN-ACK that is
lost is not sent again, and of 2**32 guesses 8 are right.  So cookies go out only while there is no room, and are
looked for only until the last of them has expired.
"""

from __future__ import annotations

from typing import Final

from usernet.stack.ports import FlowSecrets
from usernet.tcp.seq import MASK
from usernet.tcp.settings import Flow, TcpSettings
from usernet.tcp.tcb import DEFAULT_MSS_V4, DEFAULT_MSS_V6, receive_scale
from usernet.wire.tcp import ACK, SYN, TcpSegment, encode_options, encode_segment

PERIOD_SECONDS: Final = 64
COOKIE_SECONDS: Final = 2 * PERIOD_SECONDS  # a cookie of this period or of the one before is good

_SIZES: Final = 4  # two bits
_TUNNEL_MSS: Final = 1220  # what IPv6 promises of every path, and the narrowest tunnels have
_NO_SCALE: Final = 0xF  # RFC 7323 2.3: scales end at 14
_SACK: Final = 0x10
_OPTIONS: Final = 0x20  # so many values of TSval, milliseconds, tell of options


class SynCookies:
    """Gives them out and takes them back; keeps nothing but the host's secret."""

    __slots__ = ("_secrets", "_settings", "mtu", "redeemed", "sent")

    def __init__(self, secrets: FlowSecrets, settings: TcpSettings, mtu: int) -> None:
        self._secrets = secrets
        self._settings = settings
        self.mtu = mtu
        self.sent = 0
        self.redeemed = 0

    def answer(self, flow: Flow, key: bytes, syn: TcpSegment, now: float) -> bytes:
        """The SYN-ACK to a SYN.  `key` is the flow's bytes."""
        settings = self._settings
        sizes = self._segment_sizes(flow)
        theirs = sizes[1] if syn.mss is None else syn.mss
        index = max((number for number, size in enumerate(sizes) if size <= theirs), default=0)
        scale = timestamp = None
        sack = False
        if settings.timestamps and syn.timestamp is not None:
            sack = settings.sack and syn.sack_permitted
            their_scale = syn.window_scale if settings.window_scaling else None
            scale = None if their_scale is None else receive_scale(settings)
            told = (_NO_SCALE if their_scale is None else their_scale) | (_SACK if sack else 0)
            timestamp = _stamped(self._clock(key, now), told), syn.timestamp[0]
        isn = self._secrets.cookie(key, syn.seq, int(now) // PERIOD_SECONDS) ^ index
        options = encode_options(sizes[3], scale, sack, (), timestamp)
        window = min(settings.receive_buffer, settings.receive_buffer_max, 0xFFFF)
        self.sent += 1
        names = flow.local, flow.remote, flow.local_port, flow.remote_port
        return encode_segment(*names, isn, (syn.seq + 1) & MASK, SYN | ACK, window, options)

    def redeem(self, flow: Flow, key: bytes, ack: TcpSegment, now: float) -> TcpSegment | None:
        """The SYN that an ACK goes back to, as far as a cookie can tell; None if there is no cookie in it."""
        their_isn = (ack.seq - 1) & MASK
        period = int(now) // PERIOD_SECONDS
        known = [self._secrets.cookie(key, their_isn, count) ^ (ack.ack - 1) & MASK for count in (period, period - 1)]
        index = min(known)
        if index >= _SIZES:
            return None
        scale = timestamp = None
        told = 0
        if ack.timestamp is not None and self._settings.timestamps:
            timestamp, told = (ack.timestamp[0], 0), ack.timestamp[1]
            if (self._clock(key, now) - told) & MASK > COOKIE_SECONDS * 1000:
                return None  # we never said that
            scale = None if told & _NO_SCALE == _NO_SCALE else told & _NO_SCALE
        self.redeemed += 1
        return TcpSegment(
            ack.source_port, ack.destination_port, their_isn, 0, SYN, ack.window,
            self._segment_sizes(flow)[index], scale, bool(told & _SACK), (), timestamp,
        )  # fmt: skip

    def _segment_sizes(self, flow: Flow) -> tuple[int, int, int, int]:
        """What four sizes the cookie can tell of: no more than we could send is of use, whatever the client takes."""
        is_v4 = len(flow.local) == 4
        default = DEFAULT_MSS_V4 if is_v4 else DEFAULT_MSS_V6
        own = min(self.mtu - (40 if is_v4 else 60), 0xFFFF)
        return self._settings.mss_floor, default, _TUNNEL_MSS, own

    def _clock(self, key: bytes, now: float) -> int:
        """TSval of the connection to be."""
        return (int(now * 1000) + self._secrets.timestamp_offset(key)) & MASK


def _stamped(value: int, told: int) -> int:
    """The last TSval up to `value` whose low bits are `told`: what the connection sends later must not be older."""
    stamped = value & ~(_OPTIONS - 1) | told
    return (stamped if stamped <= value else stamped - _OPTIONS) & MASK
