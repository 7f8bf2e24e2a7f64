"""The README's example is a file that can be used."""

from __future__ import annotations

import re
from pathlib import Path

from usernet.config import parse
from usernet.config.hashes import is_hash


def test_the_example() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    example, access = re.findall(r"```ini\n(.*?)```", text, re.DOTALL)
    config = parse(example, "README.md")
    assert config.warnings == ()
    assert config.proxies[0].password == "correct horse"
    rules = parse(example + access, "README.md").access
    assert [rule.route for rule in rules.rules] == ["refuse", "office", "tor", "direct"]
    assert is_hash(rules.users[0].secret)
