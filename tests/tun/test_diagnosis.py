"""Why there is no TUN, on machines of many kinds."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from usernet.tun.diagnosis import diagnose

RELEASE = os.uname().release


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "dev/net").mkdir(parents=True)
    return tmp_path


def said(root: Path, code: int) -> str:
    return "\n".join(diagnose("usernet0", OSError(code, os.strerror(code)), root))


def modules(root: Path, release: str, *names: str) -> None:
    place = root / "lib/modules" / release / "kernel/drivers/net"
    place.mkdir(parents=True)
    for name in names:
        (place / name).touch()


def test_a_container_is_told_to_pass_it_in(root: Path) -> None:
    text = said(root, errno.ENOENT)
    assert "/dev/net/tun is missing" in text
    assert "--device /dev/net/tun --cap-add NET_ADMIN" in text
    assert "there is no /lib/modules" in text


def test_a_file_in_its_place(root: Path) -> None:
    (root / "dev/net/tun").touch()
    assert "is no character device: remove it, and mknod /dev/net/tun c 10 200" in said(root, errno.EBADF)


@pytest.mark.parametrize("code", [errno.EPERM, errno.EACCES])
def test_privileges(code: int) -> None:
    text = said(Path("/"), code)  # the real device: a node cannot be made everywhere
    assert "CAP_NET_ADMIN is needed" in text
    assert "modules" not in text


def test_the_kernel_was_updated_beneath_us(root: Path) -> None:
    modules(root, "9.9.9-next", "tun.ko.xz")
    text = said(root, errno.ENODEV)
    assert f"nothing for {RELEASE} (it has 9.9.9-next)" in text
    assert "reboot" in text


@pytest.mark.parametrize("name", ["tun.ko", "tun.ko.xz", "tun.ko.zst"])
def test_a_module_that_is_there_is_not_the_trouble(root: Path, name: str) -> None:
    modules(root, RELEASE, name)
    assert "tun.ko" not in said(root, errno.ENODEV)


def test_built_in_is_there_too(root: Path) -> None:
    modules(root, RELEASE)
    (root / "lib/modules" / RELEASE / "modules.builtin").write_text("kernel/drivers/net/tun.ko\n")
    assert "has no tun.ko" not in said(root, errno.ENODEV)


@pytest.mark.parametrize(
    ("file", "hint"),
    [
        ("etc/openwrt_release", "opkg install kmod-tun"),
        ("etc/debian_version", "linux-image"),
        ("etc/arch-release", "pacman -S linux"),
        ("etc/other", "install the kernel's modules"),
    ],
)
def test_which_package_has_it(root: Path, file: str, hint: str) -> None:
    modules(root, RELEASE)
    (root / "etc").mkdir()
    (root / file).touch()
    assert hint in said(root, errno.ENODEV)


def test_a_name_in_use_is_all_that_is_said(root: Path) -> None:
    text = said(root, errno.EBUSY)
    assert text == ("usernet0 is in use by another process, or a persistent interface: end it, or choose another name")
