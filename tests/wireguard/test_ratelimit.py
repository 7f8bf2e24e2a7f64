"""Handshakes per source: the published dialogue, /64s, expiry and the cap."""

from __future__ import annotations

import pytest

from usernet.wireguard.ratelimit import MAX_SOURCES, RateLimiter

HOSTS = [
    "127.0.0.1",
    "192.168.1.1",
    "172.167.2.3",
    "97.231.252.215",
    "248.97.91.167",
    "2001:0db8:0a0b:12f0:0000:0000:0000:0001",
    "f5c2:818f:c052:655a:9860:b136:6894:25f0",
    "a47b:786e:1671:a22b:d6f9:4ab0:abc7:c918",
    "fe80::1%eth0",
    "alice",  # links in memory
    "node:7",
]


@pytest.mark.parametrize("start", [0.0, 0.3, 1e6 + 0.1, 12345678.9])
def test_the_dialogue_of_wireguard_go(start: float) -> None:
    """ratelimiter_test.go: a burst of five, then one for every 50 ms, for each source by itself."""
    dialogue = [(0.0, True)] * 5 + [(0.0, False), (0.05, True), (0.0, False), (0.1, True), (0.0, True), (0.0, False)]
    limiter = RateLimiter()
    now = start
    for wait, allowed in dialogue:
        now += wait
        for host in HOSTS:
            assert limiter.allow(host, now) is allowed


def test_twenty_a_second() -> None:
    limiter = RateLimiter()
    assert sum(limiter.allow("10.0.0.1", tick / 1000) for tick in range(10_000)) == 5 + 10 * 20 - 1


def test_refusals_cost_nothing() -> None:
    limiter = RateLimiter()
    for _ in range(100):
        limiter.allow("10.0.0.1", 0.0)
    assert limiter.allow("10.0.0.1", 0.05)


def test_a_slash_64_is_one_source() -> None:
    limiter = RateLimiter()
    for last in range(5):
        assert limiter.allow(f"2001:db8:1:2::{last}", 0.0)
    assert not limiter.allow("2001:db8:1:2:ffff:ffff:ffff:ffff", 0.0)
    assert limiter.allow("2001:db8:1:3::", 0.0)
    assert len(limiter) == 2


def test_ipv4_addresses_are_sources_each() -> None:
    limiter = RateLimiter()
    assert all(limiter.allow(f"10.0.0.{last}", 0.0) for last in range(256))


def test_entries_expire() -> None:
    limiter = RateLimiter()
    for number in range(100):
        limiter.allow(f"10.0.0.{number}", number / 100)
    assert len(limiter) == 100
    limiter.allow("10.0.0.0", 1.005)  # heard again: stays
    limiter.allow("10.0.0.200", 1.5)
    assert len(limiter) == 50 + 1 + 1
    limiter.allow("10.0.0.200", 60.0)
    assert len(limiter) == 1


def test_the_table_is_capped() -> None:
    limiter = RateLimiter()
    hosts = [f"10.{number >> 8}.{number & 255}.1" for number in range(MAX_SOURCES + 10)]
    assert [limiter.allow(host, 0.0) for host in hosts] == [True] * MAX_SOURCES + [False] * 10
    assert len(limiter) == MAX_SOURCES
    assert limiter.allow(hosts[0], 0.0)
    assert limiter.allow(hosts[-1], 1.1)


def test_a_clock_that_goes_back_gives_nothing() -> None:
    limiter = RateLimiter()
    for _ in range(5):
        assert limiter.allow("10.0.0.1", 100.0)
    assert not limiter.allow("10.0.0.1", 50.0)
