"""Commands in tmux, as somebody has them who logs in from elsewhere."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.acceptance.harness import PATIENCE, Flood

WIDTH, HEIGHT = 80, 24

#: Of the sequences that select a rendition, those of colours (ECMA-48, SGR).
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:[349][0-7]|10[0-7]|[34]8)[;m]")

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not here")


class Pane:
    """A shell in a tmux server of its own, in which flood's commands are found."""

    def __init__(self, flood: Flood, directory: Path, **variables: str) -> None:
        programs = directory / "bin"
        programs.mkdir()
        for name in ("check", "status", "drain"):
            program = programs / f"flood-{name}"
            program.write_text(
                f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m flood.commands.{name} "$@"\n'
            )
            program.chmod(0o755)
        environ = {**flood.environ, "PATH": f"{programs}:{os.environ['PATH']}", **variables}
        self._tmux = ["tmux", "-u", "-S", str(directory / "socket"), "-f", os.devnull]
        size = ("-x", str(WIDTH), "-y", str(HEIGHT))
        subprocess.run(
            [*self._tmux, "new-session", "-d", *size, "-c", str(flood.directory), "/bin/sh"],
            env=environ,
            check=True,
        )

    def close(self) -> None:
        """End the server with all that runs in it."""
        subprocess.run([*self._tmux, "kill-server"], check=False)

    def _ask(self, *command: str) -> str:
        return subprocess.run(
            [*self._tmux, *command], capture_output=True, text=True, check=True, timeout=PATIENCE
        ).stdout

    def press(self, *keys: str) -> None:
        """Press keys, by their names or as text."""
        self._ask("send-keys", *keys)

    def shown(self, *options: str) -> str:
        """What the screen shows; lines that went over its edge are one again."""
        return self._ask("capture-pane", "-p", "-J", *options)

    def until(self, words: str, *, alternate: bool = False) -> list[str]:
        """The lines of the screen, or of the alternate one, once these words are in it."""
        deadline = time.monotonic() + PATIENCE
        while words not in (shown := self.shown()) or self._is_alternate() is not alternate:
            assert time.monotonic() < deadline, shown
            time.sleep(0.05)
        return shown.splitlines()

    def _is_alternate(self) -> bool:
        return self._ask("display-message", "-p", "#{alternate_on}") == "1\n"

    def run(self, line: str) -> tuple[int, list[str]]:
        """How a command has ended, with what it has left on the screen, or above it."""
        self.press("-R")
        self._ask("clear-history")
        self.press(f'{line}; echo "ended: $?"', "Enter")
        self.until("\nended: ")
        _typed, *left = self.shown("-S", "-").splitlines()
        end = next(number for number, each in enumerate(left) if each.startswith("ended: "))
        return int(left[end].removeprefix("ended: ")), left[:end]

    def is_coloured(self) -> bool:
        """Whether anything on the screen has a colour."""
        return COLOUR.search(self.shown("-e")) is not None


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path, as one of a socket has to be."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}], ids=["coloured", "plain"])
def test_in_tmux_nothing_goes_over_the_edge(
    flood: Flood, bucket: str, directory: Path, variables: dict[str, str]
) -> None:
    coloured = not variables
    flood.run("-m", "flood.commands.watch", "--once")
    flood.drop(bucket, "key", b"data")
    flood.drop("nowhere", f"{'größe-🎂-' * 8}/{'x' * 120}", b"data")
    flood.run("-m", "flood.commands.watch", "--once")
    pane = Pane(flood, directory, **variables)
    try:
        status, checked = pane.run("flood-check")
        assert (status, checked[-1]) == (1, "2 errors, 1 warning")
        # What is to be copied may go over the edge.
        assert fits([each for each in checked if "mends:" not in each])
        assert pane.is_coloured() is coloured

        status, waiting = pane.run("flood-status")
        assert status == 0
        assert stages(waiting) == {bucket: "due", "nowhere": "due"}
        assert fits(waiting)
        assert pane.is_coloured() is coloured

        pane.press("flood-status --live", "Enter")
        live = pane.until(f"main/{bucket}", alternate=True)
        assert len(live) == HEIGHT
        assert fits(live)
        assert pane.is_coloured() is coloured
        pane.press("q")
        assert stages(pane.until("flood-status --live")) == stages(waiting), "it is as it was"

        status, drained = pane.run("flood-drain")
        assert status == 1
        assert drained[-1].startswith("flood-drain: 1 file failed, 1 file uploaded (4 Bytes)")
        # Whole sentences, as any error; nothing is left of the bar between them.
        assert all(each.startswith("flood-drain: ") for each in drained), drained

        status, settled = pane.run("flood-status")
        assert status == 0
        assert stages(settled) == {bucket: "completed", "nowhere": "failed"}
        assert fits(settled)
        assert pane.is_coloured() is coloured
    finally:
        pane.close()


def fits(lines: list[str]) -> bool:
    return bool(lines) and all(cell_len(each) <= WIDTH for each in lines)


def stages(lines: list[str]) -> dict[str, str]:
    """The stage of each bucket, of flood-status' table of destinations."""
    table = lines[next(n for n, each in enumerate(lines) if each.startswith("DESTINATION")) + 1 :]
    rows = [each.split() for each in table[: table.index("")]]
    return {destination.removeprefix("main/"): stage for destination, stage, *_ in rows}
