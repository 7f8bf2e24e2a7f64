"""The quick simulations give what the snapshot says, and the links do what they are told."""

from __future__ import annotations

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
