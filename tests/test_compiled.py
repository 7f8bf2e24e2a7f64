"""What mypyc asks of the sources, and `make test-compiled` of what it makes of them."""

from __future__ import annotations

import ast
import copy
import dataclasses
import importlib
import inspect
import pickle
import pkgutil
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

import pytest

import proxy
import usernet
from usernet.compiled import describe_data_path
from usernet.errors import ConfigError, NameNotFound, NetworkClosed, NoRoute, Problem, WireError

OURS = ("usernet.", "proxy.")


def modules() -> list[ModuleType]:
    names = [
        found.name
        for package in (usernet, proxy)
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not found.name.endswith("__main__")
    ]
    return [importlib.import_module(name) for name in names]


def is_compiled(name: str) -> bool:
    spec = sys.modules[name].__spec__ if name in sys.modules else None
    return spec is not None and str(spec.origin).endswith(tuple(EXTENSION_SUFFIXES))


def test_who_is_compiled_has_no_interpreted_heirs() -> None:
    heirs = [
        f"{heir.__qualname__} of {module.__name__} inherits from {base.__qualname__} of {base.__module__}"
        for module in modules()
        for heir in vars(module).values()
        if inspect.isclass(heir) and heir.__module__ == module.__name__ and not is_compiled(module.__name__)
        for base in heir.__mro__[1:]
        if base.__module__.startswith(OURS) and is_compiled(base.__module__)
    ]
    assert not heirs
    assert is_compiled("usernet.wire.tcp") == describe_data_path()[0]


def source(module: ModuleType) -> Path:
    assert module.__spec__ is not None
    return Path(str(module.__spec__.origin)).with_name(f"{module.__name__.rpartition('.')[2]}.py")


def records() -> list[type]:
    """The classes of what users are given to keep, or give."""
    return [
        record
        for module in modules()
        if module.__name__.endswith((".events", ".statistics", ".rules", ".changes"))
        for record in vars(module).values()
        if dataclasses.is_dataclass(record) and inspect.isclass(record) and record.__module__ == module.__name__
    ]


@pytest.mark.parametrize("record", records())
def test_what_users_keep_is_copied_and_pickled(record: type) -> None:
    one = record(**{field.name: f"some {field.name}" for field in dataclasses.fields(record) if field.init})
    assert copy.deepcopy(one) == copy.copy(one) == pickle.loads(pickle.dumps(one)) == one


def test_errors_are_copied_and_pickled() -> None:
    problems = (Problem("wg0.conf", 3, "what", "remedy"),)
    for one in (NoRoute("no way"), NetworkClosed(), NameNotFound("no name"), WireError("slug"), ConfigError(problems)):
        for other in (copy.copy(one), pickle.loads(pickle.dumps(one))):
            assert (type(other), str(other), vars(other)) == (type(one), str(one), vars(one))
            assert getattr(other, "errno", None) == getattr(one, "errno", None)


def test_no_coroutine_is_compiled() -> None:
    """From Python 3.12 on mypyc's warn of a deprecated throw() whenever they are cancelled or what they await fails."""
    found = [
        f"{node.name} of {module.__name__}"
        for module in modules()
        if is_compiled(module.__name__) and module.__name__ != "usernet.burst._native"
        for node in ast.walk(ast.parse(source(module).read_text()))
        if isinstance(node, ast.AsyncFunctionDef)
    ]
    assert not found
