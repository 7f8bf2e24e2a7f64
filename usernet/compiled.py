"""Whether the data path runs compiled (setup.py), and how it does not: USERNET_KERNEL=python runs its sources."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from importlib.util import find_spec
from types import ModuleType
from typing import Final

VARIABLE: Final = "USERNET_KERNEL"  # "python" or "native": to compare them, or to see which one a fault is of


class _SourcesFirst:
    """Finds our sources where the import system would prefer what they were compiled to."""

    @staticmethod
    def find_spec(fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if path is None or not fullname.startswith(("usernet.", "proxy.")):
            return None
        for directory in path:
            if spec := FileFinder(directory, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(fullname):
                return spec
        return None


def prefer_sources() -> None:
    """From now on, and before anything that could be compiled is imported."""
    sys.meta_path.insert(0, _SourcesFirst)


def describe_data_path() -> tuple[bool, str]:
    """Whether it is compiled, and why."""
    spec = find_spec("usernet.wire.tcp")
    if spec is not None and (spec.origin or "").endswith(tuple(EXTENSION_SUFFIXES)):
        return True, "since it was compiled with the package"
    if os.environ.get(VARIABLE) == "python":
        return False, f"as {VARIABLE} says"
    return False, "since it was not compiled when the package was installed: an editable install, or no C compiler"
