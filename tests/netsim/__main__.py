"""`make netsim`: run every simulation, print it, and compare with the snapshot.  `--update` writes a new one."""

from __future__ import annotations

import sys
import time

from tests.netsim.scenarios import SECTIONS, render
from tests.netsim.snapshot import SNAPSHOT, join, read


def main(arguments: list[str]) -> int:
    known = read()
    changed = False
    found = []
    for section in SECTIONS:
        began = time.monotonic()
        text = render(section)
        found.append(text)
        print(text)
        print(f"({time.monotonic() - began:.1f} s)\n", file=sys.stderr)
        if known.get(section.title) != text:
            changed = True
            print("This differs from the snapshot, which says:\n" + known.get(section.title, "nothing\n"))
    if "--update" in arguments:
        SNAPSHOT.write_text(join(found))
        return 0
    return int(changed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
