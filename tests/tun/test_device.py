"""Asking the kernel for a TUN: the numbers of its headers, and what is closed when it says no.

That a real one opens is seen in tests/interop/test_tun.py, which is root's.
"""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest

from usernet.tun import device
from usernet.tun.device import is_persistent, open_tun

WRITE, READ = 1, 2  # _IOC_WRITE, _IOC_READ


def request(direction: int, number: int) -> int:
    """_IOW or _IOR('T', number, unsigned int), as include/uapi/asm-generic/ioctl.h has it."""
    return direction << 30 | 4 << 16 | ord("T") << 8 | number


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_the_numbers_of_if_tun_h() -> None:
    assert request(WRITE, 202) == device.TUNSETIFF
    assert request(WRITE, 208) == device.TUNSETOFFLOAD
    assert request(READ, 210) == device.TUNGETIFF
    assert struct.calcsize("16sH22x") == 40, "sizeof(struct ifreq) where pointers have 64 bits"


@pytest.mark.parametrize("name", ["", "x" * 16, "ä" * 8])
def test_names_that_an_interface_cannot_have(name: str) -> None:
    with pytest.raises(OSError, match="the name of an interface has 1 to 15 bytes") as caught:
        open_tun(name)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(("exists", "code"), [(False, errno.ENOENT), (True, errno.ENOTTY)])
def test_what_is_no_tun(exists: bool, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container without the device, or with something else in its place; diagnosis.py says more of each."""
    node = tmp_path / "tun"
    if exists:
        node.touch()
    monkeypatch.setattr(device, "CLONE", str(node))
    before = descriptors()
    with pytest.raises(OSError) as caught:  # noqa: PT011 - its errno is what counts
        open_tun("wg0")
    assert caught.value.errno == code
    assert descriptors() == before


class Kernel:
    """/dev/net/tun of a kernel that knows these offloads, for want of the right to open it."""

    def __init__(self, known: int, flags: int = 0) -> None:
        self.known = known
        self.flags = flags
        self.offloads: int | None = None
        self.asked: list[tuple[str, int]] = []

    def ioctl(self, fd: int, number: int, argument: bytes | int) -> bytes:
        if number == device.TUNSETOFFLOAD:
            assert isinstance(argument, int)
            if argument & ~self.known:
                raise OSError(errno.EINVAL, "Invalid argument")
            self.offloads = argument
            return b""
        assert isinstance(argument, bytes)
        name, flags = struct.unpack("16sH22x", argument)
        if number == device.TUNSETIFF:
            self.asked.append((name.rstrip(b"\0").decode(), flags))
        return struct.pack("16sH22x", name.replace(b"%d", b"7"), flags | self.flags)


@pytest.mark.parametrize(("known", "chosen"), [(0x7F, 0x67), (0x1F, 0x07), (0x01, None)])
def test_the_most_that_this_kernel_takes(
    known: int, chosen: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux 6.2 and later; before it, without TUN_F_USO4 and USO6; and one that cuts everything itself."""
    (tmp_path / "tun").touch()
    kernel = Kernel(known)
    monkeypatch.setattr(device, "CLONE", str(tmp_path / "tun"))
    monkeypatch.setattr("usernet.tun.device.fcntl.ioctl", kernel.ioctl)
    fd, name = open_tun("wg%d")
    try:
        assert name == "wg7"
        assert kernel.asked == [("wg%d", 0x5001)]  # IFF_TUN, IFF_NO_PI, IFF_VNET_HDR
        assert kernel.offloads == chosen
        assert not os.get_blocking(fd)
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize(("flags", "stays"), [(0x5001, False), (0x5801, True)])
def test_persistence(flags: int, stays: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usernet.tun.device.fcntl.ioctl", Kernel(0, flags).ioctl)
    assert is_persistent(0) is stays
