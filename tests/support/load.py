"""The load generator of tests/bench/load, compiled when its source is newer than what there is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "tests" / "bench" / "load" / "src"
PROGRAM = ROOT / "build" / "bench" / "load"
TIMEOUT = 300  # s


class LoadFailed(Exception):
    """What the generator said."""


def program() -> str:
    """Where it is; rustc makes it in a few seconds."""
    newest = max(path.stat().st_mtime for path in SOURCE.iterdir())
    if not PROGRAM.exists() or PROGRAM.stat().st_mtime < newest:
        PROGRAM.parent.mkdir(parents=True, exist_ok=True)
        command = ["rustc", "--edition", "2021", "-O", "-D", "warnings", "-o", str(PROGRAM), str(SOURCE / "main.rs")]
        subprocess.run(command, check=True, timeout=300)
    return str(PROGRAM)


def load(prefix: list[str], mode: str, **options: object) -> dict[str, Any]:
    """Run it to its end behind `prefix` (an `ip netns exec`, say); its line.  The modes are in its main.rs."""
    command = [*prefix, program(), mode, *(f"{key}={value}" for key, value in options.items())]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT)
    if done.returncode:
        raise LoadFailed(done.stderr.strip().removeprefix("load: "))
    line: dict[str, Any] = json.loads(done.stdout)
    return line
