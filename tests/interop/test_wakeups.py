"""A handshake with a peer that has an address of its own: the far kernel is pinged, and answers."""

from __future__ import annotations

import pytest

from tests.interop.conftest import running
from tests.support.lab import INNER_FAR, Lab, run, wait_for

pytestmark = [pytest.mark.interop, pytest.mark.timeout(60)]


def counter(lab: Lab, name: str) -> int:
    """Of the far host's kernel."""
    return int(run(*lab.far_command("nstat", "-asz", name)).split()[-2])


@pytest.mark.parametrize(("allowed", "pinged"), [(f"{INNER_FAR}/32", True), ("192.0.2.128/25", False)])
def test_the_far_kernel_is_pinged(gso_lab: Lab, allowed: str, pinged: bool) -> None:
    gso_lab.forget_near()
    path = gso_lab.config()
    path.write_text(path.read_text().replace("192.0.2.128/25, 2001:db8:2::/64", allowed))
    before = counter(gso_lab, "IcmpInEchos"), counter(gso_lab, "IcmpOutEchoReps")
    with running(gso_lab, path):
        wait_for(lambda: "completed" in gso_lab.log("usernet.log"), "the handshake")
        if pinged:
            wait_for(lambda: counter(gso_lab, "IcmpOutEchoReps") > before[1], "an answer")
    assert counter(gso_lab, "IcmpInEchos") - before[0] == pinged
