"""Tests that need what a machine may lack say what; where CI is set nothing is skipped: there it is a failure."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def skip(reason: str) -> NoReturn:
    """Skip this test, or fail it in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"in CI nothing is skipped: {reason}")
    pytest.skip(reason)


def needs(*names: str) -> None:
    """Skip unless these programs are installed."""
    absent = [name for name in names if shutil.which(name) is None]
    if absent:
        skip(f"needs {', '.join(absent)}")
