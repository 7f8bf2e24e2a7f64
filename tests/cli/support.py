"""The real command, as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NoReturn

import pytest


def usernet(*arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        [sys.executable, "-m", "proxy.cli", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=50,
        env={**os.environ, **(env or {})},
    )


def skip(reason: str) -> NoReturn:
    """Skip with a reason; where CI is set nothing is skipped, it fails."""
    if os.environ.get("CI"):
        pytest.fail(f"in CI nothing is skipped: {reason}")
    pytest.skip(reason)
