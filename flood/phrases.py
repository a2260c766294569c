"""Puts how many files there are, with some of their paths, into words."""

from collections.abc import Sequence
from typing import Final

from humanize import intcomma

#: How many paths are named.
NAMED: Final = 3


def files(count: int) -> str:
    """So many files."""
    return f"{intcomma(count)} {'file' if count == 1 else 'files'}"


def named(paths: Sequence[str]) -> str:
    """Some of the paths where they are many."""
    more = f" and {intcomma(len(paths) - NAMED)} more" if len(paths) > NAMED else ""
    return f"{', '.join(paths[:NAMED])}{more}"
