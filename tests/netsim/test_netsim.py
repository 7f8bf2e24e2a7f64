"""The quick simulations give what the snapshot says, and the links do what they are told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.netsim.link import Conditions
from tests.netsim.scenarios import SECTIONS, Section, path, render
from tests.netsim.snapshot import read
from usernet.tcp.settings import TcpSettings


def test_the_snapshot_has_every_section() -> None:
    assert list(read()) == [section.title for section in SECTIONS]


@pytest.mark.parametrize(
    "section", [section for section in SECTIONS if section.is_quick], ids=lambda section: str(section.title)
)
def test_section(section: Section) -> None:
    """When a change of behaviour is meant: `make netsim ARGS=--update`, and look at the difference."""
    assert render(section) == read()[section.title]


@pytest.mark.parametrize(
    "conditions",
    [
        Conditions(0.01, loss=0.05),
        Conditions(0.01, rate=1_000_000, queue=20_000),
        Conditions(0.01, bursts=0.01),
        Conditions(0.01, reorder=0.2, late=0.03),
        Conditions(0.01, duplicate=0.3),
        Conditions(0.01, corrupt=0.05),
    ],
    ids=str,
)
def test_every_byte_arrives_in_order(conditions: Conditions) -> None:
    simulation = path(conditions, TcpSettings(), TcpSettings())
    for client in (0, 1):
        simulation.start(300_000, client)
    simulation.run(600.0)
    assert all(stream.is_done for stream in simulation.streams)
    if conditions.corrupt:
        assert simulation.server_drops["tcp-checksum"] > 0


@pytest.mark.parametrize("delay", [0.005, 0.05])
@pytest.mark.parametrize("loss", [0.0, 0.02])
@pytest.mark.parametrize(("largest", "limit"), [(1400, 5.0), (1240, 5.0), (700, 8.0)])
def test_a_path_that_narrows_in_silence(largest: int, limit: float, loss: float, delay: float) -> None:
    """RFC 8899: a stream under way, a new one, and one of a host that has never heard of it go on within 5 s.

    Below the base size there are more steps to take.
    """
    wide = Conditions(delay, rate=300_000, queue=30_000, loss=loss)
    simulation = path(wide, TcpSettings(), TcpSettings())
    old = simulation.start()
    simulation.run(2.0)
    narrow = simulation.nodes[0].link
    narrow.conditions = replace(wide, largest=largest)
    before = old.received + wide.queue + int(wide.rate * 2 * delay)
    simulation.run(limit)
    assert old.received > before
    new = [simulation.start(10_000, client) for client in (0, 1)]
    simulation.run(limit)
    assert all(stream.is_done for stream in new)


@pytest.mark.parametrize("largest", [1240, 700])
def test_what_a_narrow_path_takes_is_found_and_in_ten_minutes_looked_for_again(largest: int) -> None:
    """RFC 8899 5.3."""
    wide = Conditions(0.02, rate=20_000, queue=10_000)
    simulation = path(wide)
    stream = simulation.start()
    simulation.run(2.0)
    link = simulation.nodes[0].link
    link.conditions = replace(wide, largest=largest)
    simulation.run(60.0)
    assert largest - 32 < stream.client.statistics().mtu <= largest
    link.conditions = wide
    simulation.run(500.0)
    assert stream.client.statistics().mtu <= largest
    simulation.run(140.0)
    assert stream.client.statistics().mtu == 1420


def test_an_outage_is_no_narrow_path() -> None:
    simulation = path(Conditions(0.02, rate=1_000_000, queue=30_000, hole=(1002.0, 1007.0)))
    stream = simulation.start()
    simulation.run(6.5)
    assert stream.client.statistics().backoff > 2
    simulation.run(5.0)
    assert stream.client.statistics().mtu_reductions == 0


def test_a_bottleneck_passes_its_rate() -> None:
    simulation = path(Conditions(0.01, rate=1_000_000))
    stream = simulation.start()
    simulation.run(20.0)
    assert stream.received / 20 == pytest.approx(1_000_000 * 1368 / (1368 + 52 + 60), rel=0.02)


def test_the_same_seed_gives_the_same_again() -> None:
    def run(seed: int) -> tuple[int, int]:
        simulation = path(Conditions(0.01, loss=0.1), seed=seed)
        stream = simulation.start(200_000)
        simulation.run(1000.0)
        return round(stream.speed), stream.client.statistics().segments_resent

    assert run(1) == run(1) != run(2)
