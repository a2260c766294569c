"""Puts how many files there are, with some of their paths, into words."""

from collections.abc import Sequence
from typing import Final

from humanize import intcomma

#: How many paths are named.
NAMED: Final = 3


def files(count: int) -> str:
    """So many files."""
    return counted(count, "file")


def counted(count: int, one: str) -> str:
    """So many of what `one` is one of; its plural has an s."""
    return f"{intcomma(count)} {one}{'' if count == 1 else 's'}"


def named(paths: Sequence[str]) -> str:
    """Some of the paths where they are many."""
    more = f" and {intcomma(len(paths) - NAMED)} more" if len(paths) > NAMED else ""
    return f"{', '.join(paths[:NAMED])}{more}"
