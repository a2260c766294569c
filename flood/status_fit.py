"""Shortens what flood-status shows to the lines that a terminal has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.segment import Segment
    from rich.style import Style

    Lines = list[list[Segment]]


@dataclass(frozen=True)
class Part:
    """What is left out together, or cut off at its end. The lower `rank`, the longer it stays.

    `lead` is how many of its lines, such as a heading, say nothing by themselves. One that `stays`
    is shown in part where there is no room for its `least`: the lead with a line, without a lead
    all lines of the first of `shown`.
    """

    rank: int
    shown: "Sequence[RenderableType]"
    lead: int = 0
    stays: bool = False


class Fitted:
    """Parts, in their order, in as many lines as there are; the last line tells how many more
    there would be."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.segment import Segment
        from rich.text import Text

        height = options.height or console.height
        free = options.reset_height()
        drawn = [_drawn(part, console, free) for part in self._parts]
        total = sum(len(lines) for lines, _ in drawn)
        kept = [len(lines) for lines, _ in drawn]
        if total > height:
            kept = _share(self._parts, drawn, height - 1)
        left = 0
        for part, (lines, least), count in zip(self._parts, drawn, kept, strict=True):
            chosen, more = _cut(part, lines, least, count, options.max_width)
            left += more
            for line in chosen:
                yield from line
                yield Segment.line()
        if left:
            words = f"{_more(left)}: a taller terminal shows them, or flood-status"
            yield Text(words, "reverse", no_wrap=True, overflow="ellipsis")


def _drawn(part: Part, console: "Console", options: "ConsoleOptions") -> "tuple[Lines, int]":
    """All its lines, and how many of them it is worth showing at the least."""
    each = [console.render_lines(one, options, pad=False) for one in part.shown]
    lines = [line for one in each for line in one]
    return lines, part.lead + 1 if part.lead else len(each[0])


def _share(parts: Sequence[Part], drawn: "Sequence[tuple[Lines, int]]", room: int) -> list[int]:
    """How many lines of each part are shown: of each its least first, then all of it."""
    kept = [0] * len(parts)
    by_rank = sorted(range(len(parts)), key=lambda number: parts[number].rank)
    for number in by_rank:
        least = min(drawn[number][1], len(drawn[number][0]))
        if least <= room or parts[number].stays:
            kept[number] = min(least, room)
            room -= kept[number]
    for number in by_rank:
        if kept[number]:
            more = min(len(drawn[number][0]) - kept[number], room)
            kept[number] += more
            room -= more
    return kept


def _cut(part: Part, lines: "Lines", least: int, count: int, width: int) -> "tuple[Lines, int]":
    """So many of its lines, with how many are left out."""
    from rich.segment import Segment

    left = len(lines) - count
    if not left or not count:
        return lines[:count], left
    if count > least:
        return [*lines[: count - 1], [Segment(_mark(left + 1), _dim())]], left + 1
    # A line is worth more than its heading.
    start = max(0, min(part.lead + 1, len(lines)) - count)
    return _marked(lines[start : start + count], f"  {_mark(left)}", width, bool(part.lead)), left


def _marked(lines: "Lines", mark: str, width: int, headed: bool) -> "Lines":
    """The same, with the mark at the end of the first line that has room for it, as no line can be
    spared. Where none has, a heading is cut."""
    from rich.cells import cell_len
    from rich.segment import Segment

    room = width - len(mark)
    lengths = [cell_len("".join(each.text for each in line).rstrip()) for line in lines]
    fitting = [number for number, length in enumerate(lengths) if 0 < length <= room]
    if not fitting and headed and len(lines) > 1:
        fitting = [len(lines) - 2]
    for number in fitting[:1]:
        cut = Segment.adjust_line_length(lines[number], min(room, lengths[number]), pad=False)
        return [*lines[:number], [*cut, Segment(mark, _dim())], *lines[number + 1 :]]
    return lines


def _mark(left: int) -> str:
    return f"... {_more(left)}"


def _more(left: int) -> str:
    return "1 line more" if left == 1 else f"{left} lines more"


def _dim() -> "Style":
    from rich.style import Style

    return Style(dim=True)
