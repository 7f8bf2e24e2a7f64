"""Writes one number after the other into the store of the path given, by a child that somebody kills, again and again.

`python writer.py PATH TIMES [UID]`: each child's process id and the number before it are said on standard output, and
that it is gone; each begins at a line on standard input, so that whoever kills them can look at the store in between.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from proxy.state.file import FileStore
from proxy.state.store import NoValue, StoreError


def number_in(store: FileStore) -> int:
    try:
        return int(store.read("number"))
    except NoValue:
        return 0


def main(path: Path, times: int) -> None:
    parent = os.getpid()
    for _ in range(times):
        if not sys.stdin.readline():
            return
        store = FileStore(path)
        number = number_in(store)
        child = os.fork()
        if not child:
            while os.getppid() == parent:
                number += 1
                store.write("number", b"%d" % number)
            os._exit(0)
        print(child, number, flush=True)
        os.waitpid(child, 0)
        print("gone", flush=True)


if len(sys.argv) > 3:
    os.setuid(int(sys.argv[3]))
try:
    main(Path(sys.argv[1]), int(sys.argv[2]))
except StoreError as error:
    sys.exit(str(error))
