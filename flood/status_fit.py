"""Shortens what flood-status shows to the lines that a terminal has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.segment import Segment

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
            chosen, more = _cut(part, lines, least, count)
            left += more
            for line in chosen:
                yield from line
                yield Segment.line()
        if left:
            words = f"{left} lines more: a taller terminal shows them, or flood-status"
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


def _cut(part: Part, lines: "Lines", least: int, count: int) -> "tuple[Lines, int]":
    """So many of its lines, with how many are left out."""
    from rich.segment import Segment
    from rich.style import Style

    left = len(lines) - count
    if count <= least or not left:
        # A line is worth more than its heading.
        start = max(0, min(part.lead + 1, len(lines)) - count)
        return lines[start : start + count], left
    words = f"... {left + 1} lines more"
    return [*lines[: count - 1], [Segment(words, Style(dim=True))]], left + 1
