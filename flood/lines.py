"""Lines of a report, coloured where they go to a terminal."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from flood.terminal import Terminal
from flood.text import printable


@dataclass(frozen=True)
class Line:
    """One line for a person, `lead` before its text; `style` as rich names it. On a terminal a long
    one goes on below the beginning of its text, but for one that is `whole`: it holds a command,
    which is to be copied."""

    text: str
    style: str = ""
    indent: int = 0
    whole: bool = False
    lead: str = ""


def plain(line: Line) -> str:
    """The line as text that is safe on any terminal."""
    return f"{'  ' * line.indent}{line.lead}{printable(line.text)}".rstrip()


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
        if line.whole or not (line.indent or line.lead):
            console.print(plain(line), style=line.style or None, markup=False, soft_wrap=line.whole)
            continue
        grid = Table.grid()
        lead = [line.lead] if line.lead else []
        for each in lead:
            grid.add_column(width=len(each))
        grid.add_column(overflow="fold")
        grid.add_row(*lead, Text(printable(line.text)), style=line.style)
        console.print(Padding(grid, (0, 0, 0, 2 * line.indent), expand=False))
