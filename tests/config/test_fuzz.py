"""Any text: a Config or a ConfigError, in which no key ever stands."""

from __future__ import annotations

import base64

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.config.test_parser import GOOD, OWN, PSK
from usernet.config import Config, parse
from usernet.config.keys import SECTIONS
from usernet.errors import ConfigError

LINES = GOOD.splitlines()
KEYS = sorted({key.name for table in SECTIONS.values() for key in table.values()})


def outcome(text: str) -> str:
    """What a person gets to see of it."""
    try:
        config = parse(text, "f", derive_public=bytes)
    except ConfigError as error:
        assert error.problems  # noqa: PT017
        assert all(problem.line >= 1 and problem.message and problem.remedy for problem in error.problems)  # noqa: PT017
        return str(error)
    assert isinstance(config, Config)
    return "\n".join(map(str, config.warnings)) + repr(config)


@settings(deadline=None)
@given(st.text())
def test_any_text(text: str) -> None:
    outcome(text)


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(LINES), st.text(max_size=40), st.from_regex(r"\[\w{0,9}\]?", fullmatch=True)))
)
def test_shuffled_lines(lines: list[str]) -> None:
    outcome("\n".join(lines))


@settings(deadline=None)
@given(st.sampled_from(KEYS), st.text(max_size=60), st.sampled_from(sorted(SECTIONS)))
def test_any_value(key: str, value: str, section: str) -> None:
    outcome(f"{GOOD}[{section}]\n{key} = {value}\n")


@settings(deadline=None)
@given(
    st.binary(min_size=32, max_size=32),
    st.sampled_from([*KEYS, "Nonsense"]),
    st.sampled_from(["", "Nonsense", *sorted(SECTIONS)]),
    st.sampled_from(
        [
            "{key} = {secret}",
            "{secret}",
            "[{secret}]",
            "{secret} = {key}",
            "{key} = {secret}, {secret}",
            "{key}{secret}",
        ]
    ),
    st.integers(0, 6),
)
def test_a_key_anywhere_is_never_shown(raw: bytes, key: str, section: str, line: str, cut: int) -> None:
    secret = base64.b64encode(raw).decode()[cut:]
    head = f"[{section}]\n" if section else ""
    seen = outcome(head + line.format(key=key, secret=secret) + "\n" + GOOD)
    pieces = (secret[at : at + 12] for at in range(0, len(secret) - 12, 6))
    if raw not in (bytes(32), base64.b64decode(OWN), base64.b64decode(PSK)):
        assert not any(piece in seen for piece in pieces)
