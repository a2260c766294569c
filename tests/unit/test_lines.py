"""Lines of a report on a real terminal."""

import os
import pty
import sys

import pytest

from flood import lines
from flood.lines import Line
from flood.terminal import Terminal

WORDS = " ".join(f"word{number}" for number in range(30))


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, shown: list[Line], width: int) -> list[str]:
    """What a terminal of that many columns gets."""
    ours, theirs = pty.openpty()
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with open(theirs, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        lines.show(shown, Terminal("test", quiet=False))
        stdout.flush()
        text = os.read(ours, 65536).decode()
    os.close(ours)
    return [line.rstrip() for line in text.splitlines()]


@pytest.mark.parametrize("lead", ["", "- ", "files     "])
@pytest.mark.parametrize("indent", [0, 2])
def test_a_long_line_goes_on_below_the_beginning_of_its_text(
    monkeypatch: pytest.MonkeyPatch, lead: str, indent: int
) -> None:
    first, *others = on_a_terminal(monkeypatch, [Line(WORDS, indent=indent, lead=lead)], 50)
    before = f"{'  ' * indent}{lead}"
    assert first.startswith(f"{before}word0 ")
    assert len(others) > 2
    blanks = " " * len(before)
    assert all(line.startswith(f"{blanks}word") for line in others)
    assert " ".join([first[len(before) :], *(line.strip() for line in others)]) == WORDS
    assert max(map(len, [first, *others])) <= 50


def test_a_command_is_left_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Line(WORDS, indent=1, lead="mends: ", whole=True)
    assert on_a_terminal(monkeypatch, [whole], 50) == [f"  mends: {WORDS}"]
    assert lines.plain(whole) == f"  mends: {WORDS}"
