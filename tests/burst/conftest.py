"""Every test of a kernel is run with each of them."""

from __future__ import annotations

import pytest

from tests.support.burst import make_kernel
from usernet.burst import Kernel


@pytest.fixture(scope="session", params=["python", "native"])
def kernel(request: pytest.FixtureRequest) -> Kernel:
    return make_kernel(request.param)
