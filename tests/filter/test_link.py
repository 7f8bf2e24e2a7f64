"""Two networks, the right one behind a filter: what it asks for comes, what may come in does, and nothing else."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest

from tests.support.networks import LEFT, LEFT6, RIGHT, RIGHT6, memory_pair
from usernet.filter import FilterRule, PacketFilter
from usernet.wire.ip import ICMP, TCP, UDP, pack_address


def opened(*rules: FilterRule) -> PacketFilter:
    made = PacketFilter()
    made.set_rules(rules)
    return made


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readexactly(5))
    writer.close()


@pytest.mark.parametrize(("left", "right"), [(LEFT, RIGHT), (LEFT6, RIGHT6)])
async def test_what_is_open_and_what_is_not(left: str, right: str) -> None:
    made = opened(FilterRule(TCP, 80, 80))
    async with memory_pair(dial_timeout=0.5, right_filter=made) as pair:
        await pair.right.start_server(echo, None, 80)
        await pair.right.start_server(echo, None, 81)
        reader, writer = await pair.left.open_connection(right, 80)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        with pytest.raises(TimeoutError):
            await pair.left.open_connection(right, 81)
        await pair.left.start_server(echo, None, 82)
        writer.close()
        reader, writer = await pair.right.open_connection(left, 82)
        writer.write(b"outer")
        assert await reader.readexactly(5) == b"outer"
        writer.close()
        statistics = pair.right.statistics().filter
        assert statistics is not None
        assert statistics.drops == {"filter-no-rule": 1}
        assert pair.left.statistics().filter is None


async def test_pings_and_their_answers() -> None:
    async with memory_pair(right_filter=opened(FilterRule(ICMP))) as pair:
        assert await pair.left.ping(RIGHT) >= 0
        assert await pair.right.ping(LEFT6) >= 0
    made = opened()
    async with memory_pair(right_filter=made) as pair:
        assert await pair.right.ping(LEFT) >= 0
        with pytest.raises(TimeoutError):
            await pair.left.ping(RIGHT, timeout=0.2)


async def test_answers_to_our_own_datagrams_come_in() -> None:
    async with (
        memory_pair(right_filter=opened()) as pair,
        await pair.left.open_datagrams((None, 53)) as server,
        await pair.right.open_datagrams() as client,
    ):
        client.send(b"question", (LEFT, 53))
        data, whence = await server.receive()
        server.send(b"answer to " + data, whence[:2])
        assert (await client.receive())[0] == b"answer to question"


async def test_rules_addresses_and_permits_change(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "usernet")
    made = PacketFilter()
    async with memory_pair(dial_timeout=0.3, right_filter=made) as pair:
        await pair.right.start_server(echo, None, 80)
        with pytest.raises(TimeoutError):
            await pair.left.open_connection(RIGHT, 80)
        made.set_rules([])
        with pytest.raises(TimeoutError):
            await pair.left.open_connection(RIGHT, 80)
        revoke = pair.right.let_in("tcp", 80)
        _, writer = await pair.left.open_connection(RIGHT, 80)
        writer.close()
        revoke()
        with pytest.raises(TimeoutError):
            await pair.left.open_connection(RIGHT, 80)
        made.set_rules([FilterRule(TCP), FilterRule(UDP)])
        config = pair.right.config
        moved = replace(config.interface, addresses=((pack_address(RIGHT6), 128),))
        await pair.right.reconfigure(replace(config, interface=moved))
        _, writer = await pair.left.open_connection(RIGHT6, 80)
        writer.close()
        with pytest.raises(TimeoutError):
            await pair.left.open_connection(RIGHT, 80)
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("packet filter")]
    assert any(RIGHT in line and line.endswith("dropped (no rule: let it in with `Inbound =`)") for line in said)
    assert any(RIGHT in line and line.endswith("dropped (not-local)") for line in said)
    assert any(RIGHT6 in line and "let in" in line for line in said)
