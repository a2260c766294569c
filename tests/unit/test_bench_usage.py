"""Wrong usage of the benchmark is said before anything is measured."""

import os
import sys
from pathlib import Path

import pytest

from flood.options import OPTIONS
from tests.bench import report
from tests.bench.command_line import parse
from tests.bench.sink import MOST_THREADS


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(
    *arguments: str, patch: pytest.MonkeyPatch, capsys: "pytest.CaptureFixture[str]"
) -> str:
    """What is said of arguments that are refused."""
    patch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as ended:
        parse()
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.partition("scripts/bench: error: ")[2].strip()


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--scale", "nan", "--scale is more than 0, and at most 1000"),
        ("--scale", "inf", "--scale is more than 0"),
        ("--scale", "1e308", "--scale is more than 0"),
        ("--scale", "0", "--scale is more than 0"),
        ("--scale", "-1", "--scale is more than 0"),
        ("--sink-threads", "0", f"--sink-threads is from 1 to {MOST_THREADS}"),
        ("--sink-threads", str(MOST_THREADS + 1), "--sink-threads is from 1"),
        ("--rounds", "0", "--rounds begins with 1"),
        ("--consumers", "0", "--consumers is from 1 to 64"),
        ("--consumers", "65", "--consumers is from 1 to 64"),
        ("--report", "nowhere/x.json", "--report nowhere/x.json cannot be written: No such file"),
        ("--report", ".", "--report . cannot be written: Is a directory"),
        ("--report", "x" * 300, f"--report {'x' * 300} cannot be written: File name too long"),
        ("--report", "no\x1b[2J/x", "--report no\\x1b[2J/x cannot be written: No such file"),
        # Nobody can make a file there, root included.
        ("--report", "/proc/x.json", "--report /proc/x.json cannot be written: "),
        ("--plot", "nowhere/x.svg", "--plot nowhere/x.svg cannot be written: No such file"),
        ("--plot", "picture", "--plot picture: its name has no ending"),
    ],
)
def test_it_is_refused(
    option: str,
    value: str,
    words: str,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: "pytest.CaptureFixture[str]",
) -> None:
    said = refusal(option, value, patch=monkeypatch, capsys=capsys)
    assert said.startswith(words)
    assert list(here.iterdir()) == []


def test_as_many_consumers_as_flood_watch_takes_can_be_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = OPTIONS["consumers"].kind
    assert kind.read("64", {}) == 64
    with pytest.raises(ValueError, match="out of range"):
        kind.read("65", {})
    monkeypatch.setattr(sys, "argv", ["bench", "--consumers", "64"])
    assert parse().consumers == 64


def test_a_kind_of_picture_that_cannot_be_drawn_is_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: "pytest.CaptureFixture[str]"
) -> None:
    """Without matplotlib none can be."""
    said = refusal("--plot", "x.foo", patch=monkeypatch, capsys=capsys)
    assert said.startswith(("--plot x.foo: Format 'foo' is not supported", "--plot x.foo: matplot"))
    assert list(here.iterdir()) == []


def test_a_picture_of_a_known_kind_can_be_drawn(here: Path) -> None:
    pytest.importorskip("matplotlib")
    for kind in ("svg", "PNG"):
        path = here / f"x.{kind}"
        report.check_plot(path)
        assert list(here.iterdir()) == []
        report.plot(path, [], "nothing")
        assert path.stat().st_size > 0
        path.unlink()


@pytest.mark.parametrize("way", ["new", "there", "link"])
def test_what_can_be_written_is_left_as_it_is(
    here: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = here / "report.json"
    if way == "there":
        report.write_text("of yesterday")
    elif way == "link":
        report.symlink_to("elsewhere")
    before = sorted(os.listdir(here))
    monkeypatch.setattr(sys, "argv", ["bench", "--directory", ".", "--report", str(report)])
    assert parse().report == report
    assert sorted(os.listdir(here)) == before
    assert way != "there" or report.read_text() == "of yesterday"


def test_a_directory_may_be_named_from_here(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured runs in another."""
    (here / "there").mkdir()
    monkeypatch.setattr(sys, "argv", ["bench", "--directory", "there"])
    assert parse().directory == here / "there"
