"""The currency of every inner boundary: bursts of super-packets.

A super-packet is what Linux calls a GSO packet: one IP packet of up to 64 KiB and the size of its segments.  A single
packet is a super-packet whose segment size is 0.  Inbound they lie in one buffer (`PacketBurst`); outbound each is a
header and the pieces of its payload (`SuperPacket`), so that the send buffer's bytes are copied only once, while they
are sealed.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

Buffer = bytes | bytearray | memoryview

# An outer address exactly as the socket module gives it: (host, port) is IPv4, (host, port, flow, scope) is IPv6.
Address = tuple[str, int] | tuple[str, int, int, int]

# Row flags
CHECKSUM_OK = 1  # IP header and TCP/UDP checksums were verified
PSH = 2  # a merged segment carried PSH
ECN_CE = 4  # congestion was experienced, inside or outside (RFC 6040)

# One sendmsg with UDP_SEGMENT carries at most this (the smaller of the two families' limits).
MAX_RUN_SEGMENTS = 64
MAX_RUN_BYTES = 65_474

# offset B, length B, segment size B (TCP payload of a full segment; 0 = single), segments, transport offset B from the
# packet's start (0 = none, a fragment, or behind IPv6 extension headers), flags.  Rows lie in the buffer in order.
Row = tuple[int, int, int, int, int, int]


class Drops(dict[str, int]):
    """Reasons and how often each made us drop something."""

    def count(self, reason: str, times: int = 1) -> None:
        self[reason] = self.get(reason, 0) + times


class PacketBurst:
    """Plaintext super-packets on their way in.  Valid only during the call it is passed to: copy what you keep, once.

    A row's header is that of its first segment (lengths and checksums in it are the first segment's too: the row's own
    are what counts), with PSH of any segment ORed in.  A plain tuple per row, and no flow hash: a dictionary keyed by
    the flow's own bytes is as fast in Python and needs no second look for collisions.
    """

    __slots__ = ("buf", "rows")

    def __init__(self, size: int = 4 << 20) -> None:
        self.buf = bytearray(size)  # calloc: pages cost memory only once written
        self.rows: list[Row] = []

    def clear(self) -> None:
        self.rows.clear()


class SuperPacket(NamedTuple):
    """One super-packet on its way out.

    mss == 0: header + pieces is one finished packet, checksums and all, sent as it is.
    mss > 0:  header is an IPv4/IPv6 + TCP header with options, in which the kernel fills in lengths, IPv4 ID (+1 per
              segment), sequence number (+mss per segment), checksums, and FIN/PSH only on the last segment; the
              payload is cut into segments of at most mss bytes.  A payload of at most mss bytes is one segment.
    Pieces are views of immutable bytes, or are not touched by their owner before the tunnel has sealed or staged them.
    """

    header: bytes
    pieces: tuple[Buffer, ...] = ()
    mss: int = 0

    @property
    def payload_bytes(self) -> int:
        return sum(map(len, self.pieces))


class DatagramBurst(NamedTuple):
    """Datagrams from one source, on their way in: number i lies at i * stride and is lengths[i] bytes long."""

    address: Address
    buf: "memoryview"  # noqa: UP037 - mypyc finds it as a string only
    stride: int
    lengths: list[int]
    tos: int = 0  # the outer TOS / traffic class, its low two bits being ECN
    local: bytes = b""  # our address that they came to, where it is known


class SendBurst(NamedTuple):
    """Datagrams to one destination, on their way out: equal sizes, only the last may be shorter.  One sendmsg."""

    address: Address
    buf: "memoryview"  # noqa: UP037 - mypyc finds it as a string only
    segment_size: int
    tos: int = 0
    local: bytes = b""  # our address that they are to leave from; b"": as the system chooses


class Opened(NamedTuple):
    """What `Kernel.open_burst` did: it consumed `datagrams`, of which `authentic` were authentic and new (a keepalive
    is), carrying `authentic_bytes` on the wire; `data` of those held a packet, even if one that was dropped."""

    datagrams: int
    authentic: int
    authentic_bytes: int
    data: int


class ReceiveKey(Protocol):
    """One direction of a session: owns the AEAD and the replay window.  Made by the kernel that will use it."""

    def wipe(self) -> None: ...


class SendKey(Protocol):
    """The other direction: owns the AEAD, the far end's receiver index and the next counter."""

    counter: int

    def wipe(self) -> None: ...


class Kernel(Protocol):
    """What seals and opens bursts.  Implementations share their tests; one is chosen once and injected into the
    tunnel."""

    name: str

    def receive_key(self, key: bytes, local_index: int) -> ReceiveKey: ...

    def send_key(self, key: bytes, remote_index: int) -> SendKey: ...

    def open_burst(self, key: ReceiveKey, burst: DatagramBurst, start: int, out: PacketBurst, drops: Drops) -> Opened:
        """Open datagrams from number `start` up to the first that is not transport data for `key`.

        Authenticate, then replay window, trim to the IP length, verify checksums, coalesce in-order TCP, hand on the
        outer congestion mark (`ecn`); append rows to `out`.  Every datagram consumed that gives no row and is not a
        keepalive is counted in `drops`.  Consumes nothing if datagram `start` is not for `key` by its type and receiver
        index, or is too short to have them.
        """

    def seal_burst(
        self, key: SendKey, packets: list[SuperPacket], mtu: int, out: bytearray, at: int
    ) -> list[tuple[int, int, int]]:
        """Seal packets for one peer into `out` from `at`; an empty SuperPacket(b"") is a keepalive.

        Pads to 16 but never beyond mtu.  Returns runs (start, end, datagram size), each fit for one sendmsg with
        UDP_SEGMENT: at most MAX_RUN_SEGMENTS datagrams and MAX_RUN_BYTES, neighbours of equal size in one run whatever
        flow they belong to.  The caller has made sure there is room: `sealed_size()` bounds what is needed.  Seals none
        of them and returns [] when the counter could pass 2**64 - 2**13 - 1, or the key is wiped.
        """
