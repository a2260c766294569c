"""Lays out what flood-status shows in the width that there is."""

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from flood.status_words import name, text
from flood.text import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.measure import Measurement
    from rich.table import Table

#: To how many columns of a terminal a name is cut at most, before something else is left out.
_LEAST: Final = 12

#: Between two columns of a table.
_GAP: Final = 2


class Columns:
    """A table without lines; a header that begins with > is for numbers. The columns `giving`, of
    names, are cut on a narrow terminal. Where that does not suffice those of `expendable` are left
    out, in that order, so that what a row is about stays."""

    def __init__(
        self,
        *headers: str,
        style: str = "bold",
        giving: Collection[int] = (0,),
        expendable: Sequence[int] = (),
    ) -> None:
        self._headers = headers
        self._style = style
        self._giving = giving
        self._expendable = expendable
        self._rows: list[Sequence[RenderableType]] = []

    def add_row(self, *cells: "RenderableType") -> None:
        """Add one cell for each header."""
        self._rows.append(cells)

    @property
    def row_count(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.table import Table

        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style=self._style)
        kept = self._kept(console, options)
        for number in kept:
            right = self._headers[number].startswith(">")
            table.add_column(
                name(self._headers[number][right:]),
                justify="right" if right else "left",
                no_wrap=number not in self._giving,
            )
        for row in self._rows:
            table.add_row(*(row[number] for number in kept))
        yield table

    def _kept(self, console: "Console", options: "ConsoleOptions") -> list[int]:
        """The columns that there is room for."""
        from rich.measure import Measurement

        widths = {}
        for number, header in enumerate(self._headers):
            cells = (header.removeprefix(">"), *(row[number] for row in self._rows))
            widest = max(Measurement.get(console, options, cell).maximum for cell in cells)
            widths[number] = min(widest, _LEAST) if number in self._giving else widest
        for number in self._expendable:
            if sum(widths.values()) + _GAP * (len(widths) - 1) <= options.max_width:
                break
            del widths[number]
        return list(widths)


class Flow:
    """Words that are broken into lines only between these pieces, unless one is too long by
    itself."""

    def __init__(self, *pieces: str) -> None:
        self._pieces = pieces

    def __rich_measure__(self, console: "Console", options: "ConsoleOptions") -> "Measurement":
        from rich.measure import Measurement

        return Measurement.get(console, options, printable(" ".join(self._pieces)))

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.cells import cell_len
        from rich.text import Text

        line = ""
        for piece in map(printable, self._pieces):
            longer = f"{line} {piece}" if line else piece
            if line and cell_len(longer) > options.max_width:
                yield Text(line)
                longer = piece
            line = longer
        yield Text(line)


def facts(*rows: tuple[str, Sequence[str]]) -> "Table":
    """Names with what there is to say of each."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for title, pieces in rows:
        table.add_row(text(title, "bold"), Flow(*pieces))
    return table


def section(table: Columns) -> "Iterator[RenderableType]":
    """A table with a line before it."""
    yield ""
    yield table
