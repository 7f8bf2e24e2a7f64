"""What pyproject.toml cannot say: mypyc compiles what each packet and each connection goes through, for a wheel.

The sources are in the wheel as well, and are what runs where they were not compiled: in an editable install, which is
for work on them, with USERNET_COMPILE=0, and where compiling fails, which USERNET_COMPILE=1 makes an error.

Coroutines are left out, see tests/test_compiled.py.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

COMPILED = [
    *(f"usernet/{name}/[!_]*.py" for name in ("wire", "burst", "wireguard", "tcp", "stack", "filter")),
    *(f"usernet/aio/{name}.py" for name in (
        "addresses", "device", "family", "filtered", "inlet", "relay", "sealer", "sockets", "stripes", "transports",
        "udp", "userspace",
    )),
    *(f"proxy/{name}.py" for name in (
        "client", "deadlines", "listener", "mux", "names", "pacing", "relay", "rules", "session",
    )),
    *(f"proxy/socks/{name}.py" for name in ("protocol", "socks4")),
    *(f"proxy/http/{name}.py" for name in ("framing", "head", "target", "writing")),
]  # fmt: skip
# What users are given and keep: mypyc's frozen dataclasses can neither be copied nor pickled
LEFT = {*glob("usernet/*/events.py"), *glob("usernet/*/statistics.py"), "usernet/filter/rules.py"}
FLAGS = ["--config-file=", "--namespace-packages", "--explicit-package-bases", "--ignore-missing-imports"]


class BuildAfresh(build):
    """An earlier build in this folder left modules that are not to get into the wheel: such as are compiled no more."""

    def run(self) -> None:
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


class BuildOrLeave(build_ext):
    """All of it or nothing: a module of which the shared library is missing could not be imported."""

    def build_extensions(self) -> None:
        try:
            super().build_extensions()
        except Exception as error:  # noqa: BLE001 - no compiler, no Python.h, no room: whatever it was
            _give_up(error)
            for extension in self.extensions:
                Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
            self.extensions.clear()


def _give_up(error: BaseException) -> None:
    if os.environ.get("USERNET_COMPILE") == "1":
        raise error
    logging.warning("usernet: nothing is compiled, so the sources run, which take half as much CPU again: %s", error)


def extensions() -> list[Extension]:
    from mypyc.build import mypycify

    paths = sorted({path for pattern in COMPILED for path in glob(pattern)} - LEFT)
    return mypycify([*FLAGS, *paths], opt_level="2", debug_level="0", group_name="usernet", multi_file=True)


found: list[Extension] = []
if "bdist_wheel" in sys.argv and os.environ.get("USERNET_COMPILE") != "0":
    try:
        found = extensions()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - how mypyc says that it does not understand something
        _give_up(error)

setup(
    ext_modules=found,
    cmdclass={"build": BuildAfresh, "build_ext": BuildOrLeave},
    options={} if found else {"bdist_wheel": {"py_limited_api": "cp311"}},
)
