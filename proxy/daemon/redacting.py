"""Text that everybody may see: names, addresses, keys and paths give way to words that tell them only apart.

    redactor = Redactor(config)
    redactor.text("peer kM3ftE8r... at 203.0.113.7:51820")     # "peer PEER-1 at ADDRESS-1:51820"
    list(redactor.outline())                                    # the configuration, the same way

What is the same gets the same word, so that one still sees what belongs together.  Loopback, "any" and the default
routes say nothing about anybody, and stay.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from ipaddress import ip_address
from typing import Any, Final

from proxy.daemon.narrator import short_key
from usernet.config import Config
from usernet.config.access import BUILT_IN, SCHEMES

HIDDEN: Final = "REDACTED"
_LEFT_OUT: Final = ("line", "text", "warnings")  # of the configuration: they say in the file's words what else is there
_PLAIN: Final = {
    *BUILT_IN,
    *SCHEMES,
    "",
    "tcp",
    "udp",
    "http",
    "v1",
    "v2",
    "auto",
    "ipv4",
    "ipv6",
}  # values of literals
_KEY: Final = re.compile(r"[A-Za-z0-9+/_-]{24,}={0,2}")
_ADDRESS: Final = re.compile(r"(?<![\w.:])(?:[0-9A-Fa-f]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*|\d+(?:\.\d+){3})(?!\w)")
_PATH: Final = re.compile(r"(?<![\w.])~?/[^\s,;:'\")]+")
_NAME: Final = re.compile(r"(?<![\w.])(?:[\w-]+\.)+[A-Za-z][\w-]*[A-Za-z0-9]\.?(?![\w(])")
_QUOTED: Final = re.compile(r"(['\"])(?:(?!\1).)+\1")


class Redactor:
    """Knows what the configuration names, and by its looks what else may be somebody's."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._words: dict[str, str] = {}
        self._numbers: dict[str, int] = {}
        for number, peer in enumerate(config.peers, 1):
            for text in (short_key(peer.public_key), _base64(peer.public_key)):
                self._words[text] = f"PEER-{number}"
        for _ in self.outline():  # so that every name in it is known
            pass

    def text(self, text: str) -> str:
        """Without what is anybody's."""
        known = sorted(self._words, key=len, reverse=True)
        if known:
            pattern = "|".join(map(re.escape, known))
            text = re.sub(rf"(?<!\w)(?:{pattern})(?!\w)", lambda found: self._words[found[0]], text)
        text = _QUOTED.sub(lambda found: self._word("TEXT", found[0]), text)
        text = _KEY.sub(HIDDEN, text)
        text = _ADDRESS.sub(self._address, text)
        text = _PATH.sub(lambda found: self._word("PATH", found[0]), text)
        return _NAME.sub(lambda found: self._word("NAME", found[0].lower()), text)

    def _address(self, found: re.Match[str]) -> str:
        """What looks like one; a colon or a full stop may follow, which looks as if it belonged to it."""
        for text in (found[0], found[0].rstrip(":.")):
            if _is_address(text):
                return self.address(text) + found[0][len(text) :]
        return found[0]

    def address(self, text: str) -> str:
        """Of an IP address."""
        address = ip_address(text)
        return text if address.is_loopback or address.is_unspecified else self._word("ADDRESS", str(address))

    def outline(self) -> Iterator[str]:
        """The configuration: a line for each section, with what is not as it is by default."""
        config = self._config
        for field in fields(config):
            if field.name in _LEFT_OUT or getattr(config, field.name) == field.default:
                continue
            value = getattr(config, field.name)
            for one in value if isinstance(value, tuple) else (value,):
                shown = self._section(one) if is_dataclass(one) else self._value(one)
                if shown:
                    yield f"{field.name}: {shown}"

    def _section(self, section: Any) -> str:
        shown = [
            f"{field.name} {self._field(field, getattr(section, field.name))}"
            for field in fields(section)
            if field.name not in _LEFT_OUT and getattr(section, field.name) != field.default
        ]
        return ", ".join(shown)

    def _field(self, field: Field[Any], value: Any) -> str:
        return self._value(value) if field.repr else HIDDEN

    def _value(self, value: Any) -> str:
        match value:
            case bool() | int() | float() | None:
                return str(value)
            case str():
                return value if value in _PLAIN else self._named(value)
            case bytes():
                return self._words.get(_base64(value), HIDDEN)
            case (bytes() as packed, int(length)):
                return f"{self.address(str(ip_address(packed)))}/{length}"
            case (str(host), int(port)):
                return f"{self._value(host)}:{port}"
            case tuple() | frozenset():
                shown = [self._value(one) for one in value]
                return f"[{', '.join(sorted(shown) if isinstance(value, frozenset) else shown)}]"
            case _ if is_dataclass(value):
                return f"({self._section(value)})"
        return HIDDEN

    def _named(self, text: str) -> str:
        """A host's, a user's, a route's: whatever it is, it is known from now on."""
        return self.address(text) if _is_address(text) else self._word("NAME", text)

    def _word(self, kind: str, text: str) -> str:
        if text not in self._words:
            self._numbers[kind] = self._numbers.get(kind, 0) + 1
            self._words[text] = f"{kind}-{self._numbers[kind]}"
        return self._words[text]


def _base64(key: bytes) -> str:
    return binascii.b2a_base64(key, newline=False).decode("ascii")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
