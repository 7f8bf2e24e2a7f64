"""One laboratory per kind of far peer, shared by the tests of this folder; a usernet process of its own per test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.lab import PEERS, Lab, missing, peer_binary


def skip(reason: str) -> None:
    """Skip with a reason; where CI is set nothing is skipped, it fails."""
    if os.environ.get("CI"):
        pytest.fail(f"in CI nothing is skipped: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module", params=list(PEERS))
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Every test of a module that asks for it runs against each kind of far peer."""
    yield from laboratory(request.param)


@pytest.fixture(scope="module")
def gso_lab() -> Iterator[Lab]:
    """Only the current Go module's peer."""
    yield from laboratory("go-gso")


def laboratory(kind: str) -> Iterator[Lab]:
    reason = missing()
    if reason is None and peer_binary(kind) is None:
        reason = f"the far peer {PEERS[kind]} is not installed"
    if reason is not None:
        skip(reason)
    with Lab(kind) as lab:
        yield lab
