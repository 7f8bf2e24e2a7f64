"""`make netsim`: run simulations, print them, and compare with the snapshot."""

from __future__ import annotations

import sys
import time

import click

from tests.netsim.scenarios import SECTIONS, render
from tests.netsim.snapshot import SNAPSHOT, join, read


@click.command()
@click.option("--update", is_flag=True, help="Write the results to the snapshot.")
@click.argument("titles", nargs=-1)
def main(update: bool, titles: tuple[str, ...]) -> None:
    """Run the sections whose titles begin with TITLES, or all."""
    known = read()
    changed = False
    for section in SECTIONS:
        if titles and not section.title.lower().startswith(tuple(title.lower() for title in titles)):
            continue
        began = time.monotonic()
        text, before = render(section), known.get(section.title)
        print(text)
        print(f"({time.monotonic() - began:.1f} s)\n", file=sys.stderr)
        if before != text:
            changed = True
            print("This differs from the snapshot, which says:\n" + (before or "nothing\n"))
        known[section.title] = text
    if update:
        SNAPSHOT.write_text(join([known[section.title] for section in SECTIONS if section.title in known]))
    elif changed:
        sys.exit(1)


if __name__ == "__main__":
    main()
