"""The native kernel: see native/src/lib.rs."""

from usernet.burst.packets import Address, DatagramBurst, Drops, Opened, PacketBurst, ReceiveKey, SendKey, SuperPacket

INTERFACE: int

_Group = tuple[Address, int, int, list[int], int, bytes]  # as in usernet/aio/inlet.py

class Kernel:
    name: str
    def __init__(self) -> None: ...
    def receive_key(self, key: bytes, local_index: int) -> ReceiveKey: ...
    def send_key(self, key: bytes, remote_index: int) -> SendKey: ...
    def open_burst(
        self, key: ReceiveKey, burst: DatagramBurst, start: int, out: PacketBurst, drops: Drops
    ) -> Opened: ...
    def seal_burst(
        self, key: SendKey, packets: list[SuperPacket], mtu: int, out: bytearray, at: int
    ) -> list[tuple[int, int, int]]: ...

class Worker:
    """Seals and sends on a thread of its own: see worker.rs.  Linux only."""

    def __init__(self, event: int) -> None: ...
    @staticmethod
    def has_core() -> bool: ...
    def submit(
        self,
        key: SendKey,
        packets: list[SuperPacket],
        mtu: int,
        socket: int,
        address: Address,
        control: bytes,
    ) -> int: ...
    def collect(self) -> list[tuple[int, int, int, list[tuple[bytes, int]]]]: ...

class Inlet:
    """Empties a socket: see usernet/aio/inlet.py.  Linux only."""

    def __init__(self, socket: int, stripe: int | None = None) -> None: ...
    def receive(self, arena: bytearray, at: int) -> tuple[list[_Group], int, int, list[str], int]: ...
