"""What pyproject.toml cannot say: with USERNET_COMPILE=1 in the environment, mypyc compiles a wheel's sans-IO core.

The sources are in the wheel as well, and are what runs where they were not compiled.  An editable install is for work
on them, so nothing is compiled there.
"""

from __future__ import annotations

import os
import sys
from glob import glob

from setuptools import Extension, setup

CORE = ("wire", "tcp", "stack", "wireguard", "filter")
LEFT = {"usernet/stack/events.py"}  # mypyc finds no built-in class in a dataclass's annotations
FLAGS = ["--config-file=", "--namespace-packages", "--explicit-package-bases", "--ignore-missing-imports"]

wanted = os.environ.get("USERNET_COMPILE") == "1"
extensions: list[Extension] = []
if wanted and "bdist_wheel" in sys.argv:
    from mypyc.build import mypycify

    paths = sorted({path for name in CORE for path in glob(f"usernet/{name}/[!_]*.py")} - LEFT)
    extensions = mypycify([*FLAGS, *paths], opt_level="2", debug_level="0", group_name="usernet")

setup(
    ext_modules=extensions,
    setup_requires=["mypy>=1.16"] if wanted else [],  # it brings mypyc, which nobody else has to download
    options={} if extensions else {"bdist_wheel": {"py_limited_api": "cp311"}},
)
