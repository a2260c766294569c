"""Lines of a report, coloured where they go to a terminal."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from flood.terminal import Terminal
from flood.text import printable

#: How wide a mark is, with the blanks after it.
_MARK: Final = 9


@dataclass(frozen=True)
class Line:
    """One line for a person, `mark` before it; `style` as rich names it. On a terminal a long one
    goes on below its beginning, but for one that is `whole`: it holds a command, which is to be
    copied."""

    text: str
    style: str = ""
    indent: int = 0
    whole: bool = False
    mark: str = ""


def plain(line: Line) -> str:
    """The line as text that is safe on any terminal."""
    mark = f"{line.mark:<{_MARK}}" if line.mark else ""
    return f"{'  ' * line.indent}{mark}{printable(line.text)}".rstrip()


def show(lines: Iterable[Line], terminal: Terminal) -> None:
    """Print them on stdout."""
    if not sys.stdout.isatty():
        for line in lines:
            terminal.show(plain(line))
        return
    # Imported here, as rich takes long to import.
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    for line in lines:
        if line.whole or not line.indent:
            console.print(plain(line), style=line.style or None, markup=False, soft_wrap=line.whole)
            continue
        grid = Table.grid()
        marks = [f"{line.mark:<{_MARK}}"] if line.mark else []
        for _ in marks:
            grid.add_column(width=_MARK)
        grid.add_column(overflow="fold")
        grid.add_row(*marks, Text(printable(line.text)), style=line.style)
        console.print(Padding(grid, (0, 0, 0, 2 * line.indent), expand=False))
