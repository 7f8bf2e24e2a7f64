"""Every dialogue in dialogues/*.txt, at sequence numbers that wrap within it and at such that change their sign."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.dialogue import DialogueError, Script, load
from tests.support.stage import Stage
from tests.support.wording import PLAIN, WRAPPING, Numbers

SCRIPTS = [script for path in sorted(Path(__file__).with_name("dialogues").glob("*.txt")) for script in load(path)]


@pytest.mark.parametrize("numbers", [WRAPPING, PLAIN], ids=["wraps", "plain"])
@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_dialogue(script: Script, numbers: Numbers) -> None:
    Stage(script, numbers).play()


def test_one_connection_s_challenges_are_no_other_s() -> None:
    """CVE-2016-5696: a limit that connections share tells one of them about another."""
    script = Script("here", "CVE-2016-5696", "a challenge", ((1, "established"), (2, "they 900:- R"), (3, "we 1:1 A")))
    for _ in range(3):
        Stage(script, WRAPPING).play()  # all at the same time


def play(*lines: str) -> None:
    Stage(Script("here", "RFC 0", "a case", tuple(enumerate(lines, 1))), WRAPPING).play()


def test_a_failure_shows_both_sides() -> None:
    with pytest.raises(DialogueError) as caught:
        play("established", "they  1:1 A +5 burst 2", "we    1:5 A win 7", "we    9:9 R")
    text = str(caught.value)
    assert "here:3: we    1:5 A win 7" in text
    assert "- we    1:5 A win 7" in text
    assert "+ we    1:6 A win 2055" in text
    assert "- we    9:9 R" in text


@pytest.mark.parametrize(
    "lines",
    [
        ("established", "write 5"),  # said and not written
        ("established", "they  1:1 A +5", "we    1:6 A"),  # not said yet
        ("established", "they  1:1 A +5", "+0.06 we 1:6 A"),  # said earlier
        ("established", "they  1:1 A +5", "+1 state ESTABLISHED"),  # said meanwhile
        ("established", "they  1:1 A +5", "read 6"),
        ("established", "timer 1"),
    ],
)
def test_what_a_script_does_not_allow(lines: tuple[str, ...]) -> None:
    with pytest.raises(DialogueError):
        play(*lines)


def test_a_word_that_nobody_knows() -> None:
    with pytest.raises(ValueError, match="here:1"):
        play("estalbished")


def test_there_are_many() -> None:
    assert len(SCRIPTS) >= 120
    assert all(script.lines for script in SCRIPTS)
