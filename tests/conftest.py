"""For all tests: an example may take its time, for how long it took says more about the machine than about the code."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("usernet", deadline=None)
settings.load_profile("usernet")
