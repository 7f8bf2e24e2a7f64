"""Longest prefix match: Linux' selftest, then random tables against a naive list."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usernet.wireguard.allowed_ips import CACHED_ADDRESSES, AllowedIPs


def v6(*words: int) -> str:
    return str(ip_address(b"".join(word.to_bytes(4, "big") for word in words)))


class Table:
    """With addresses as text."""

    def __init__(self) -> None:
        self.ips = AllowedIPs[str]()

    def add(self, network: str, length: int, value: str) -> None:
        self.ips.insert(ip_address(network).packed, length, value)

    def find(self, address: str) -> str | None:
        return self.ips.lookup(ip_address(address).packed)

    def remove(self, value: str) -> None:
        self.ips.remove(value)

    def listed(self) -> list[str]:
        return sorted(f"{ip_address(network)}/{length} {value}" for network, length, value in self.ips.entries())


# Linux selftest/allowedips.c: in this order, of which some replace earlier ones and some have bits behind the prefix
STATIC = [
    ("192.168.4.0", 24, "a"),
    ("192.168.4.4", 32, "b"),
    ("192.168.0.0", 16, "c"),
    ("192.95.5.64", 27, "d"),
    ("192.95.5.65", 27, "c"),
    (v6(0x26075300, 0x60006B00, 0, 0xC05F0543), 128, "d"),
    (v6(0x26075300, 0x60006B00, 0, 0), 64, "c"),
    ("0.0.0.0", 0, "e"),
    ("::", 0, "e"),
    ("::", 0, "f"),
    (v6(0x24046800, 0, 0, 0), 32, "g"),
    (v6(0x24046800, 0x40040800, 0xDEADBEEF, 0xDEADBEEF), 64, "h"),
    (v6(0x24046800, 0x40040800, 0xDEADBEEF, 0xDEADBEEF), 128, "a"),
    (v6(0x24446800, 0x40E40800, 0xDEAEBEEF, 0x0DEFBEEF), 128, "c"),
    (v6(0x24446800, 0xF0E40800, 0xEEAEBEEF, 0), 98, "b"),
    ("64.15.112.0", 20, "g"),
    ("64.15.123.211", 25, "h"),
    ("10.0.0.0", 25, "a"),
    ("10.0.0.128", 25, "b"),
    ("10.1.0.0", 30, "a"),
    ("10.1.0.4", 30, "b"),
    ("10.1.0.8", 29, "c"),
    ("10.1.0.16", 29, "d"),
]
EXPECTED = [
    ("192.168.4.20", "a"),
    ("192.168.4.0", "a"),
    ("192.168.4.4", "b"),
    ("192.168.200.182", "c"),
    ("192.95.5.68", "c"),
    ("192.95.5.96", "e"),
    (v6(0x26075300, 0x60006B00, 0, 0xC05F0543), "d"),
    (v6(0x26075300, 0x60006B00, 0, 0xC02E01EE), "c"),
    (v6(0x26075300, 0x60006B01, 0, 0), "f"),
    (v6(0x24046800, 0x40040806, 0, 0x1006), "g"),
    (v6(0x24046800, 0x40040806, 0x1234, 0x5678), "g"),
    (v6(0x240467FF, 0x40040806, 0x1234, 0x5678), "f"),
    (v6(0x24046801, 0x40040806, 0x1234, 0x5678), "f"),
    (v6(0x24046800, 0x40040800, 0x1234, 0x5678), "h"),
    (v6(0x24046800, 0x40040800, 0, 0), "h"),
    (v6(0x24046800, 0x40040800, 0x10101010, 0x10101010), "h"),
    (v6(0x24046800, 0x40040800, 0xDEADBEEF, 0xDEADBEEF), "a"),
    ("64.15.116.26", "g"),
    ("64.15.127.3", "g"),
    ("64.15.123.1", "g"),
    ("64.15.123.128", "h"),
    ("64.15.123.129", "h"),
    ("10.0.0.52", "a"),
    ("10.0.0.220", "b"),
    ("10.1.0.2", "a"),
    ("10.1.0.6", "b"),
    ("10.1.0.10", "c"),
    ("10.1.0.20", "d"),
]


@pytest.fixture
def table() -> Table:
    table = Table()
    for network, length, value in STATIC:
        table.add(network, length, value)
    return table


@pytest.mark.parametrize(("address", "value"), EXPECTED)
def test_static(table: Table, address: str, value: str) -> None:
    assert table.find(address) == value
    assert table.find(address) == value  # the second time from the cache


def test_static_removal(table: Table) -> None:
    hosts = ["1.0.0.0", "64.0.0.0", "128.0.0.0", "192.0.0.0", "255.0.0.0"]
    for host in hosts:
        table.add(host, 32, "a")
        assert table.find(host) == "a"
    table.remove("a")
    for host in hosts:
        assert table.find(host) == "e"
    assert "a" not in {value for _, _, value in table.ips.entries()}
    for address, value in EXPECTED:
        assert (table.find(address) == value) is (value != "a")


def test_the_last_one_removed_leaves_nothing() -> None:
    table = Table()
    table.add("192.168.0.0", 16, "a")
    table.add("192.168.0.0", 24, "a")
    table.remove("a")
    assert table.find("192.168.0.1") is None
    assert table.listed() == []


def test_static_entries() -> None:
    table = Table()
    table.add("192.95.5.93", 27, "a")
    table.add(v6(0x26075300, 0x60006B00, 0, 0xC05F0543), 128, "a")
    table.add("10.1.0.20", 29, "a")
    table.add(v6(0x26075300, 0x6D8A6BF8, 0xDAB1F1DF, 0xC05F1523), 83, "a")
    table.add(v6(0x26075300, 0x6D8A6BF8, 0xDAB1F1DF, 0xC05F1523), 21, "a")
    assert table.listed() == sorted(
        [
            "192.95.5.64/27 a",
            f"{v6(0x26075300, 0x60006B00, 0, 0xC05F0543)}/128 a",
            "10.1.0.16/29 a",
            f"{v6(0x26075300, 0x6D8A6BF8, 0xDAB1E000, 0)}/83 a",
            f"{v6(0x26075000, 0, 0, 0)}/21 a",
        ]
    )


def test_a_change_is_seen_at_once() -> None:
    table = Table()
    assert table.find("10.0.0.1") is None
    table.add("10.0.0.0", 8, "a")
    assert table.find("10.0.0.1") == "a"
    table.add("10.0.0.1", 32, "b")
    assert table.find("10.0.0.1") == "b"
    table.remove("b")
    assert table.find("10.0.0.1") == "a"
    table.add("10.9.9.9", 8, "c")  # the same network: it moves
    assert table.find("10.0.0.1") == "c"
    assert table.listed() == ["10.0.0.0/8 c"]


def test_families_are_apart() -> None:
    table = Table()
    table.add("0.0.0.0", 0, "four")
    assert table.find("::") is None
    table.add("::", 0, "six")
    assert (table.find("0.0.0.0"), table.find("::")) == ("four", "six")


def test_the_cache_is_bounded() -> None:
    table = Table()
    table.add("10.0.0.0", 8, "a")
    for number in range(3 * CACHED_ADDRESSES):
        assert table.ips.lookup(b"\x0a" + number.to_bytes(3, "big")) == "a"
    assert len(table.ips._cache) <= CACHED_ADDRESSES


@pytest.mark.parametrize(("network", "length"), [(bytes(4), 33), (bytes(4), -1), (bytes(16), 129), (bytes(5), 8)])
def test_what_is_no_network(network: bytes, length: int) -> None:
    with pytest.raises(ValueError, match="address"):
        AllowedIPs[str]().insert(network, length, "a")


def naive_lookup(entries: dict[tuple[bytes, int], int], address: bytes) -> int | None:
    """Try all, the longest wins."""
    bits = 8 * len(address)
    number = int.from_bytes(address, "big")
    best, found = -1, None
    for (network, length), value in entries.items():
        if len(network) != len(address) or length <= best:
            continue
        if (number ^ int.from_bytes(network, "big")) >> (bits - length) == 0:
            best, found = length, value
    return found


@given(st.integers(0, 2**32), st.sampled_from([4, 16]), st.integers(1, 60))
def test_random_against_a_naive_list(seed: int, size: int, routes: int) -> None:
    random = Random(seed)
    table: AllowedIPs[int] = AllowedIPs()
    entries: dict[tuple[bytes, int], int] = {}
    addresses = [random.randbytes(size)]
    for _ in range(routes):  # half of them near an earlier one, so that networks nest
        kept = random.randrange(size) if random.random() < 0.5 else 0
        address = random.choice(addresses)[:kept] + random.randbytes(size - kept)
        length, value = random.randint(0, 8 * size), random.randrange(10)
        addresses.append(address)
        table.insert(address, length, value)
        entries[ip_network((address, length), strict=False).network_address.packed, length] = value

    while True:
        assert {(network, length): value for network, length, value in table.entries()} == entries
        for address in addresses:
            near = address[:-1] + random.randbytes(1)
            for query in (address, near, random.randbytes(size)):
                assert table.lookup(query) == naive_lookup(entries, query)
        if not entries:
            return
        gone = random.choice(list(entries.values()))
        table.remove(gone)
        entries = {network: value for network, value in entries.items() if value != gone}
