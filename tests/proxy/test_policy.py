"""What may be reached, by address."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy import Forbidden, Policy, is_special, unmapped

FORBIDDEN = [
    "127.0.0.1", "127.255.255.255", "0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.0.1", "224.0.0.1",
    "239.255.255.255", "255.255.255.255", "::", "::1", "fe80::1", "febf::1", "ff02::1", "ff0e::1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0.0.0.0", "::ffff:224.0.0.1", "::127.0.0.1",
    "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:1::127.0.0.1",
    "64:ff9b:1::169.254.169.254", "64:ff9b:1:7f00:0:100::", "64:ff9b:1:a9fe:a9:fe00::", "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
]  # fmt: skip
ALLOWED = [
    "192.0.2.1", "10.0.0.1", "100.64.0.1", "128.0.0.1", "126.255.255.255", "1.0.0.0", "169.253.1.1", "223.255.255.255",
    "240.0.0.1", "2001:db8::1", "fd00::1", "fec0::1", "64:ff9b::192.0.2.1", "64:ff9b:1::192.0.2.1",
    "64:ff9b:1:c000:2:100::", "2002:c000:201::1", "fe00::1", "64:ff9c::127.0.0.1",
]  # fmt: skip


def check(policy: Policy, address: str, port: int = 80, *, exempt: bool = False) -> str:
    address, packed = unmapped(address)
    policy.check(address, packed, port, exempt=exempt)
    return address


@pytest.mark.parametrize("address", FORBIDDEN)
def test_forbidden(address: str) -> None:
    with pytest.raises(Forbidden):
        check(Policy(), address)
    check(Policy(), address, exempt=True)


@pytest.mark.parametrize("address", ALLOWED)
def test_allowed(address: str) -> None:
    assert check(Policy(), address) == address


def test_mapped_is_dialled_as_ipv4() -> None:
    assert check(Policy(), "::ffff:192.0.2.1") == "192.0.2.1"


def test_own_listeners_are_never_exempt() -> None:
    policy = Policy()
    policy.own.add(("127.0.0.1", 1080))
    check(policy, "127.0.0.1", 1081, exempt=True)
    for address in ("127.0.0.1", "::ffff:127.0.0.1"):
        with pytest.raises(Forbidden):
            check(policy, address, 1080, exempt=True)


def test_a_listener_on_every_address_is_ours_on_each() -> None:
    policy = Policy()
    policy.own.add(("0.0.0.0", 1080))
    with pytest.raises(Forbidden):
        check(policy, "127.3.2.1", 1080, exempt=True)
    check(policy, "::1", 1080, exempt=True)
    check(policy, "127.3.2.1", 1081, exempt=True)
    check(policy, "192.0.2.1", 1080)


@pytest.mark.parametrize("name", ["localhost", "localhost.", "a.localhost", "a.b.localhost."])
def test_names_of_this_host(name: str) -> None:
    with pytest.raises(Forbidden):
        Policy().check_name(name)


@pytest.mark.parametrize("name", ["localhost.test", "notlocalhost", "a.test"])
def test_other_names(name: str) -> None:
    Policy().check_name(name)


@given(st.binary(min_size=4, max_size=4))
def test_no_form_of_ipv4_says_more_than_ipv4(packed: bytes) -> None:
    for prefix in ("::ffff:0:0", "64:ff9b::", "::ffff:0:0:0", "64:ff9b:1::"):
        form = socket.inet_pton(socket.AF_INET6, prefix)[:12] + packed
        assert is_special(form) == is_special(packed)
