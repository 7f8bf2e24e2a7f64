"""What pyproject.toml cannot say: with USERNET_COMPILE=1 in the environment, mypyc compiles a wheel's sans-IO core.

The sources are in the wheel as well, and are what runs where they were not compiled.  An editable install is for work
on them, so nothing is compiled there.
"""

from __future__ import annotations

import os
import sys
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError

CORE = ("wire", "tcp", "stack", "wireguard", "filter")
LEFT = {"usernet/stack/events.py"}  # mypyc finds no built-in class in a dataclass's annotations
FLAGS = ["--config-file=", "--namespace-packages", "--explicit-package-bases", "--ignore-missing-imports"]


class BuildExtensions(build_ext):
    """All of the core or nothing: a module without the library that all of them share could not be imported."""

    def run(self) -> None:
        try:
            super().run()
        except CCompilerError as error:
            self.warn(f"the core is not compiled: {error}")
            self.extensions = []


def core() -> list[Extension]:
    if os.environ.get("USERNET_COMPILE") != "1" or "bdist_wheel" not in sys.argv:
        return []
    from mypyc.build import mypycify

    paths = sorted({path for name in CORE for path in glob(f"usernet/{name}/[!_]*.py")} - LEFT)
    extensions: list[Extension] = mypycify([*FLAGS, *paths], opt_level="2", debug_level="0", group_name="usernet")
    return extensions


compiled = core()
setup(
    ext_modules=compiled,
    cmdclass={"build_ext": BuildExtensions},
    options={} if compiled else {"bdist_wheel": {"py_limited_api": "cp311"}},
)
