"""What the kernel is to have, for what stands in the file."""

from __future__ import annotations

import pytest

from tests.tun.configs import config
from usernet.config import Config, Network
from usernet.config.values import network
from usernet.tun.wanted import MAIN_TABLE, own_table, priorities, wanted


def nets(*texts: str) -> set[Network]:
    return {network(text) for text in texts}


def routes(config: Config, table: int) -> set[Network]:
    return {net for net, where in wanted(config, "usernet0", 1420).routes if where == table}


def test_networks_of_peers_are_routed_by_the_main_table() -> None:
    it = config("10.0.0.2/32, fd00::2/128", "10.0.0.0/24, 192.0.2.0/24", "fd00::/64")
    assert routes(it, MAIN_TABLE) == nets("10.0.0.0/24", "192.0.2.0/24", "fd00::/64")
    got = wanted(it, "usernet0", 1300)
    assert (got.ruled, got.mark, got.mtu) == (frozenset(), 0, 1300)


@pytest.mark.parametrize(
    ("address", "allowed", "is_set"),
    [
        ("10.0.0.2/24", "10.0.0.0/24", False),
        ("10.0.0.2/24", "10.0.0.128/25", False),
        ("10.0.0.2/24", "10.0.0.0/23", True),
        ("10.0.0.2/24", "10.0.1.0/24", True),
        ("10.0.0.2/32", "10.0.0.2/32", True),  # the kernel has no route to the neighbours of a single address
        ("fd00::2/64", "fd00::/80", False),
        ("fd00::2/64", "10.0.0.0/8", True),
    ],
)
def test_what_the_kernel_routes_by_itself_is_left_to_it(address: str, allowed: str, is_set: bool) -> None:
    assert routes(config(address, allowed), MAIN_TABLE) == (nets(allowed) if is_set else set())


@pytest.mark.parametrize(("allowed", "sizes"), [("0.0.0.0/0", {4}), ("::/0", {16}), ("0.0.0.0/0, ::/0", {4, 16})])
def test_a_default_route_stands_in_a_table_of_its_own(allowed: str, sizes: set[int]) -> None:
    got = wanted(config("10.0.0.2/24, fd00::2/64", allowed), "usernet0", 1420)
    assert got.ruled == sizes
    assert got.mark == got.table == own_table("usernet0")
    assert {(len(net[0]), table) for net, table in got.routes} == {(size, got.table) for size in sizes}


def test_fwmark_is_mark_and_table() -> None:
    got = wanted(config("10.0.0.2/24", "0.0.0.0/0", extra="FwMark = 0x1234"), "usernet0", 1420)
    assert got.mark == got.table == 0x1234
    assert wanted(config("10.0.0.2/24", "10.1.0.0/16", extra="FwMark = 7"), "usernet0", 1420).mark == 7


def test_table_off_routes_nothing_and_a_number_all() -> None:
    assert wanted(config("10.0.0.2/24", "0.0.0.0/0", extra="Table = off"), "usernet0", 1420).routes == frozenset()
    assert routes(config("10.0.0.2/24", "0.0.0.0/0, 10.0.0.0/24", extra="Table = 99"), 99) == nets(
        "0.0.0.0/0", "10.0.0.0/24"
    )


def test_interfaces_do_not_share_tables_or_rules() -> None:
    names = [f"usernet{number}" for number in range(10)]
    assert len({own_table(name) for name in names}) == len(names)
    assert len({priority for name in names for priority in priorities(name)}) == 2 * len(names)
    assert all(priority < 32_766 for name in names for priority in priorities(name))
