"""Stage 2: a section's entries -> values, by the rows of keys.py.  What is wrong with them is collected, not raised."""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping
from typing import Any

from usernet.config import files, keys
from usernet.config.lines import Entry, Section, shown
from usernet.config.values import BadValue
from usernet.errors import Problem

# A section's values by lower-case key: (value, line); of a key that may be repeated, a list of them.
Values = dict[str, Any]


class Collector:
    """The problems and warnings of a configuration.  `file`: that of what is looked at just now."""

    def __init__(
        self, file: str, environ: Mapping[str, str], *, kernel: bool, generate: Callable[[], bytes] | None
    ) -> None:
        """`kernel`: there may be a TUN, for which some keys mean something.  `generate`: gives a kept private key."""
        self.kernel = kernel
        self.generate = generate
        self.file = file
        self.environ = environ
        self.holds_keys = False  # itself, and not only the names of where they are
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def wrong(self, line: int, message: str, remedy: str) -> None:
        self.problems.append(Problem(self.file, line, message, remedy))

    def warn(self, line: int, message: str, remedy: str) -> None:
        self.warnings.append(Problem(self.file, line, message, remedy))

    def missing(self, found: Values, key: str, section: Section, remedy: str) -> None:
        if key.lower() not in found:
            self.wrong(section.line, f"[{keys.TITLES[section.name]}] has no {key}", remedy)

    def unknown_section(self, section: Section) -> None:
        if section.name in keys.REFUSED_SECTIONS:
            self.wrong(section.line, *keys.REFUSED_SECTIONS[section.name])
            return
        titles = list(keys.TITLES.values())
        meant = keys.closest(section.name, titles)
        every = "the sections are " + ", ".join(f"[{title}]" for title in titles)
        remedy = f"did you mean [{meant}]?" if meant else every
        self.wrong(section.line, f"there is no section {shown(section.name)}", remedy)

    def values(self, section: Section, into: Values) -> Values:
        """Parse a section's entries.  A wrong value leaves a None, as a misspelt key does: it is not missing, too."""
        table = keys.SECTIONS[section.name]
        misspelt: Values = {}
        for entry in section.entries:
            name = entry.key.lower()
            key = table.get(name)
            if key is None:
                if (meant := self._unknown_key(section.name, entry)) is not None:
                    misspelt[meant.name.lower()] = [(None, entry.line)] if meant.several else (None, entry.line)
                continue
            value = None
            try:
                text = entry.value if key.not_applicable else expand(entry.value, self.environ)
                value = key.parse(self._secret(key, text, entry) if key.secret else text)
            except BadValue as bad:
                self.wrong(entry.line, f"{key.name}: {bad.message}", bad.remedy)
            if key.not_applicable and not (self.kernel and key.kernel):
                self.warn(entry.line, f"{key.name} is not applicable here: {key.not_applicable}", key.remedy)
            if key.several:
                into.setdefault(name, []).append((value, entry.line))
                continue
            if name in into:
                self.warn(
                    entry.line,
                    f"{key.name} was set in line {into[name][1]} already: this one counts",
                    "keep one of them",
                )
            into[name] = (value, entry.line)
        for name, nothing in misspelt.items():
            into.setdefault(name, nothing)
        return into

    def _secret(self, key: keys.Key, text: str, entry: Entry) -> str:
        """A key that stands elsewhere: in a file, or with whoever keeps the one that was made here."""
        if text == "generate" and key.name == "PrivateKey":
            if self.generate is None:
                raise BadValue(
                    "only `usernet run` can generate and keep a key",
                    "write the one of `usernet genkey`, or leave the file out where the daemon that runs can be asked",
                )
            return binascii.b2a_base64(self.generate(), newline=False).decode("ascii")
        if text.startswith("file:"):
            path = text.removeprefix("file:")
            secret, exposed = files.read_secret(self.file, path)
            if exposed:
                message = f"{key.name}: everybody on this machine can read {shown(path)}"
                self.warn(entry.line, message, files.CLOSE_IT)
            return secret
        self.holds_keys |= text == entry.value
        return text

    def _unknown_key(self, section: str, entry: Entry) -> keys.Key | None:
        """The one that was probably meant."""
        refused = keys.REFUSED_KEYS.get((section, entry.key.lower()))
        if refused:
            self.wrong(entry.line, f"{entry.key} {refused[0]}", refused[1])
            return None
        table = keys.SECTIONS[section]
        elsewhere = [keys.TITLES[name] for name, other in keys.SECTIONS.items() if entry.key.lower() in other]
        meant = keys.closest(entry.key, [known.name for known in table.values()])
        if elsewhere:
            remedy = f"it belongs to [{elsewhere[0]}]"
        elif meant:
            remedy = f"did you mean {meant}?"
        else:
            remedy = "the keys are " + ", ".join(known.name for known in table.values())
        self.wrong(entry.line, f"[{keys.TITLES[section]}] has no key {shown(entry.key)}", remedy)
        return table[meant.lower()] if meant and not elsewhere else None


def expand(text: str, environ: Mapping[str, str]) -> str:
    """wireproxy's references: a value that begins with $ names a variable of the environment, and $$ stands for a $."""
    if not text.startswith("$"):
        return text
    if text.startswith("$$"):
        return text[1:]
    try:
        return environ[text[1:]]
    except KeyError:
        raise BadValue(
            f"there is no environment variable {shown(text[1:])}", "set it, or write $$ for a value that begins with $"
        ) from None


def joined(found: Values, name: str) -> list[Any]:
    """The values of all lines of a key that may be repeated."""
    return [item for value, _ in found.get(name, ()) for item in value or ()]


def single(found: Values, name: str, default: Any = None) -> Any:
    """The value of a key; `default` where it is missing or wrong."""
    value = found.get(name, (None,))[0]
    return default if value is None else value
