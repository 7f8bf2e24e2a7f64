"""For all tests."""

from __future__ import annotations

import gc
import signal

from hypothesis import settings

settings.register_profile("usernet", deadline=None)
settings.load_profile("usernet")

# A shell has its background jobs ignore it, and so would whatever a test starts
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What has been imported stays: a test that looks for garbage of its own need not go through it, in 50 ms."""
    gc.collect()
    gc.freeze()
