"""Puts times, sizes, names into words for a person."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from humanize import naturaldelta, naturalsize

from flood.status import Status
from flood.text import printable

if TYPE_CHECKING:
    from rich.text import Text

# What was written after the look at the clock is not yet of another clock.
_CLOCKS_DIFFER: Final = timedelta(seconds=5)


def ago(status: Status, moment: datetime) -> str:
    """How long ago a moment was; one that is to come is of a clock that was set back since."""
    if moment - status.at > _CLOCKS_DIFFER:
        return f"{naturaldelta(moment - status.at)} from now, as the clock was set back"
    return f"{waited(status, moment)} ago"


def waited(status: Status, since: datetime) -> str:
    """For how long something has been waiting; what came before the clock was set back has only
    begun to."""
    return str(naturaldelta(max(status.at - since, timedelta())))


def until(status: Status, moment: datetime) -> str:
    """When a moment will be."""
    return f"in {naturaldelta(moment - status.at)}"


def size(count: int) -> str:
    """So many bytes, with their unit."""
    return naturalsize(count, binary=True).replace(" Bytes", " B").replace(" Byte", " B")


def clock(seconds: float | None) -> str:
    """So many seconds as hours, minutes, seconds; nothing where nobody knows."""
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))


def short(seconds: int) -> str:
    """A bound of age, as headings have it."""
    return f"{seconds // 3600}h" if seconds >= 3600 else f"{seconds // 60}m"


def text(words: str, style: str = "") -> "Text":
    """Words that are safe on any terminal."""
    from rich.text import Text

    return Text(printable(words) if not words.startswith("\n") else words, style=style)


def name(words: str) -> "Text":
    """A name, which is cut where the terminal is narrow."""
    from rich.text import Text

    return Text(printable(words), no_wrap=True, overflow="ellipsis")
