"""What commands say to a person while they work."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flood.text import printable

if TYPE_CHECKING:
    from rich.progress import ProgressColumn


class Terminal:
    """Lines on stderr, each with the command's name before it; progress bars where that is a
    terminal. `quiet` keeps back everything but problems with warnings."""

    def __init__(self, command: str, *, quiet: bool) -> None:
        self._command = command
        self._quiet = quiet
        self._live = not quiet and sys.stderr.isatty()

    def problem(self, text: str) -> None:
        """Say what went wrong, or is odd."""
        sys.stderr.write(f"{self._command}: {printable(text)}\n")

    def notice(self, text: str) -> None:
        """Say what is good to know."""
        if not self._quiet:
            self.problem(text)

    def say(self, text: str) -> None:
        """Say on stdout what was done."""
        if not self._quiet:
            sys.stdout.write(f"{printable(text)}\n")

    @contextmanager
    def bytes_bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar over so many bytes; gives the function that advances it."""
        if not self._live:
            yield _nothing
            return
        from rich import progress

        columns = (
            progress.DownloadColumn(binary_units=True),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
        )
        with self._bar(title, total, columns) as advance:
            yield advance

    @contextmanager
    def files_bar(self, title: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """A bar over so many files, None where nobody knows yet; gives the function that advances
        it."""
        if not self._live:
            yield _nothing
            return
        from rich import progress

        columns = (progress.MofNCompleteColumn(), progress.TimeElapsedColumn())
        with self._bar(title, total, columns) as advance:
            yield advance

    @contextmanager
    def _bar(
        self, title: str, total: int | None, columns: "tuple[ProgressColumn, ...]"
    ) -> Iterator[Callable[[int], None]]:
        # Imported here, as rich takes longer to import than a small file to put.
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            *columns,
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
        )
        with bar:
            task = bar.add_task(title, total=total)
            yield lambda count: bar.advance(task, count)


def _nothing(_count: int) -> None:
    pass
