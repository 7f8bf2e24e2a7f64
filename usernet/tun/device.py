"""Opening a TUN.  Read Linux Documentation/networking/tuntap.rst and include/uapi/linux/if_tun.h."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from typing import Final

CLONE: Final = "/dev/net/tun"
TUNSETIFF: Final = 0x400454CA
TUNSETOFFLOAD: Final = 0x400454D0
TUNGETIFF: Final = 0x800454D2
IFF_TUN, IFF_PERSIST, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x0800, 0x1000, 0x4000
_IFREQ: Final = struct.Struct("16sH22x")
_CSUM_AND_TSO: Final = 0x01 | 0x02 | 0x04  # TUN_F_CSUM, _TSO4, _TSO6
_USO: Final = 0x20 | 0x40  # TUN_F_USO4, _USO6: Linux 6.2
NAME_BYTES: Final = 15


def open_tun(name: str) -> tuple[int, str]:
    """A descriptor, not blocking and with virtio headers, and the interface's name (`%d` in it is a number).

    The interface is there for as long as the descriptor is, unless it is persistent.  Raises OSError.
    """
    raw = name.encode()
    if not 0 < len(raw) <= NAME_BYTES:
        raise OSError(errno.EINVAL, f"{name!r}: the name of an interface has 1 to {NAME_BYTES} bytes")
    fd = os.open(CLONE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        answer = fcntl.ioctl(fd, TUNSETIFF, _IFREQ.pack(raw, IFF_TUN | IFF_NO_PI | IFF_VNET_HDR))
        try:
            fcntl.ioctl(fd, TUNSETOFFLOAD, _CSUM_AND_TSO | _USO)
        except OSError:
            with contextlib.suppress(OSError):  # then the kernel cuts and sums up before it gives us anything
                fcntl.ioctl(fd, TUNSETOFFLOAD, _CSUM_AND_TSO)
    except BaseException:
        os.close(fd)
        raise
    return fd, _IFREQ.unpack(answer)[0].rstrip(b"\0").decode()


def is_persistent(fd: int) -> bool:
    """Whether the interface was there before, and will be."""
    flags: int = _IFREQ.unpack(fcntl.ioctl(fd, TUNGETIFF, bytes(_IFREQ.size)))[1]
    return bool(flags & IFF_PERSIST)
