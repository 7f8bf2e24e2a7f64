"""ECN with the kernel, over a router that marks: RFC 3168."""

from __future__ import annotations

import socket

import pytest

from tests.support.kernel import DATA, Opening, active, exchange, passive, port_of
from tests.support.tun import Beside
from usernet.tcp.settings import TcpSettings

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

FAMILIES = [socket.AF_INET, socket.AF_INET6]
SOME = DATA[: 4 << 20]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("opening", "settings"), [(active, TcpSettings(ecn_request=True)), (passive, TcpSettings())])
def test_a_router_marks(beside: Beside, opening: Opening, settings: TcpSettings, family: int) -> None:
    """Both ends hear of it, both slow down, both say so: else ECE would stay, and the window at its least."""
    beside.fresh(settings)
    beside.sysctl("tcp_ecn", 1)
    beside.mark(10)
    ours, theirs = opening(beside, family)
    assert " ecn " in beside.ss(port_of(theirs), "-io")
    before = marked(beside)
    reported = beside.nstat("TcpExtTCPDeliveredCE")
    exchange(beside, ours, theirs, SOME, SOME)
    told = ours.statistics()
    assert told.ecn
    assert told.ce_marks > 0
    assert 0 < told.ecn_reductions <= marked(beside) - before
    assert told.segments_resent < 20  # probes that a busy machine answers late
    assert beside.nstat("TcpExtTCPDeliveredCE") > reported  # by our ECE


def marked(beside: Beside) -> int:
    """Packets that the kernel got with CE."""
    return beside.nstat("IpExtInCEPkts") + beside.nstat("Ip6InCEPkts")


@pytest.mark.parametrize("family", FAMILIES)
def test_they_do_not_want_it(beside: Beside, family: int) -> None:
    beside.fresh(TcpSettings(ecn_request=True))
    beside.sysctl("tcp_ecn", 0)
    beside.mark(10)
    ours, theirs = active(beside, family)
    exchange(beside, ours, theirs, SOME, SOME)
    assert not ours.statistics().ecn
    assert ours.statistics().ce_marks == 0


def test_we_do_not_want_it(beside: Beside) -> None:
    beside.fresh(TcpSettings(ecn=False))
    beside.sysctl("tcp_ecn", 1)
    ours, theirs = passive(beside)
    assert " ecn " not in beside.ss(port_of(theirs), "-io")
    exchange(beside, ours, theirs, SOME, SOME)


def test_a_path_that_loses_what_asks(beside: Beside) -> None:
    """RFC 3168 6.1.1.1: our third SYN does not ask."""
    beside.fresh(TcpSettings(ecn_request=True))
    beside.filter("tcp flags & (syn | ecn | cwr) == (syn | ecn | cwr) counter drop")
    ours, theirs = active(beside)
    assert " ecn " not in beside.ss(port_of(theirs), "-io")
    exchange(beside, ours, theirs, SOME, SOME)
    assert not ours.statistics().ecn
