"""What commands say to a person while they work."""

import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from flood.text import printable

if TYPE_CHECKING:
    from rich.progress import ProgressColumn


def prepare() -> None:
    """See to it that stdin, stdout, stderr are open, and that any name can be printed.

    Of a process that was started without one of them, the next file to be opened, as a database,
    would get its number, and whatever is printed: to be called before anything is opened.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # Python has None in their place; the streams it would have made are as good as these.
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115  open until the end
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names need not fit the locale


class Terminal:
    """Lines on stderr, each with the command's name before it; progress bars where that is a
    terminal. `quiet` keeps back everything but problems with warnings.

    That nobody listens ends nothing: `unheard` is why stdout took no more, None while it does or
    its reader had enough.
    """

    def __init__(self, command: str, *, quiet: bool) -> None:
        self.unheard: OSError | None = None
        self._command = command
        self._quiet = quiet
        self._live = not quiet and sys.stderr.isatty()

    def problem(self, text: str) -> None:
        """Say what went wrong, or is odd."""
        _write(sys.stderr, f"{self._command}: {printable(text)}\n")

    def notice(self, text: str) -> None:
        """Say what is good to know."""
        if not self._quiet:
            self.problem(text)

    def say(self, text: str) -> None:
        """Say on stdout what was done."""
        if not self._quiet:
            self.show(text)

    def show(self, text: str) -> None:
        """Print on stdout what was asked for."""
        error = _write(sys.stdout, f"{printable(text)}\n")
        if error is not None and error.errno != errno.EPIPE:
            self.unheard = self.unheard or error

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
    def busy(self, title: str) -> Iterator[None]:
        """Show that work goes on whose amount nobody knows."""
        if not self._live:
            yield
            return
        from rich.console import Console

        with Console(stderr=True).status(title):
            yield

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


def _write(stream: TextIO, line: str) -> OSError | None:
    try:
        stream.write(line)
        stream.flush()
    except OSError as error:
        # What is left in the stream's buffer would fail once more as Python ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return error
    return None


def _nothing(_count: int) -> None:
    pass
