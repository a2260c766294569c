"""Finds the files in processing that no record knows of."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from typing import Final

from flood import layout, queries
from flood.spool import Spool
from flood.states import PROCESSING
from flood.status_files import Files, Lying, closed, placed
from flood.status_queries import Destination
from flood.walk import Found, Oddity

#: What came later may only just have been taken: its record is yet to be committed, in seconds.
FRESH: Final = 10.0

#: So many files are looked up at a time.
_PAGE: Final = 500


def count(
    spool: Spool, files: Files, clock: Callable[[], float], seconds: float
) -> "tuple[Counter[Destination], bool]":
    """How many files lie in processing, by destination, as far as they are counted in so many
    seconds of `clock`, with whether those are all. Directories that cannot be looked into are added
    to `files`."""
    end = clock() + seconds
    found: Counter[Destination] = Counter()
    for each in spool.counts(PROCESSING):
        if clock() > end:
            return found, False
        if isinstance(each, Oddity):
            files.closed.append(closed(spool, each.path))
            files.whole = False
            continue
        place = layout.parse(f"{each[0]}/*")
        if place is not None:
            found[place.profile, place.bucket] += each[1]
    return found, True


def look(
    spool: Spool,
    suspects: Collection[Destination],
    now: datetime,
    clock: Callable[[], float],
    seconds: float,
) -> tuple[list[Lying], bool]:
    """The files of these destinations that lie in processing without a record, as whoever took them
    was killed before he could write it; as many as are found in so many seconds of `clock`, with
    whether those are all. To be called after the records are known of `now`."""
    end = clock() + seconds
    found: list[Lying] = []
    page: list[Lying] = []
    for one in _lying(spool, suspects, now):
        if len(page) == _PAGE:
            found += _unknown(page)
            page = []
            if clock() > end:
                return found, False
        page.append(one)
    return found + _unknown(page), True


def _lying(spool: Spool, suspects: Collection[Destination], now: datetime) -> Iterator[Lying]:
    before = now.timestamp() - FRESH
    for profile, bucket in suspects:
        for each in spool.walk(f"{PROCESSING}/{profile}/{bucket}"):
            if isinstance(each, Found) and each.changed <= before:
                one = placed(each)
                if one is not None:
                    yield one


def _unknown(page: list[Lying]) -> list[Lying]:
    known = queries.at_paths([one.place.path for one in page], PROCESSING)
    return [one for one in page if one.place.path not in known]
