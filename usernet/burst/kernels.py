"""Which burst kernel runs here: the native one where the package was built with it, the reference everywhere else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Final

from usernet.burst.packets import Kernel
from usernet.burst.reference import ReferenceKernel
from usernet.compiled import VARIABLE
from usernet.errors import UsernetError

INTERFACE: Final = 4  # that of native/src/lib.rs


def choose_kernel(environ: Mapping[str, str] = os.environ) -> tuple[Kernel, str]:
    """A kernel, and why it is that one.  UsernetError if the environment asks for what there is not."""
    wanted = environ.get(VARIABLE, "")
    if wanted == "python":
        return ReferenceKernel(), f"as {VARIABLE} says"
    if wanted not in ("", "native"):
        raise UsernetError(f"{VARIABLE} is {wanted!r}; it may be 'native' or 'python'")
    try:
        native = import_module("usernet.burst._native")
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError)
        why = "was not built; install the package again where cargo is" if absent else f"cannot be loaded: {error}"
    else:
        if getattr(native, "INTERFACE", 0) == INTERFACE:
            kernel: Kernel = native.Kernel()
            return kernel, f"as {VARIABLE} says" if wanted else "since it was built with the package"
        why = "was built for another version of it; install the package again"
    if wanted:
        raise UsernetError(f"{VARIABLE} is 'native', but that kernel {why}")
    return ReferenceKernel(), f"since the native one {why}"


def default_kernel() -> Kernel:
    """The fastest kernel there is here, or the one that the environment asks for."""
    return choose_kernel()[0]
