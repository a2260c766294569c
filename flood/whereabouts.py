"""Finds settled files whose rows are a step behind."""

from typing import Protocol

from flood import layout
from flood.identity import Identity
from flood.layout import Place
from flood.record_values import Claimed, Row
from flood.states import COMPLETED, FAILED


class Directories(Protocol):
    """The spool, or a list of what it held."""

    def identify(self, path: str) -> Identity | None:
        """The identity of the regular file at `path`; None if none is there."""


def lies_in(spool: Directories, record: Claimed | Row) -> Place | None:
    """Where in completed or failed the record's very file lies; None if it is in neither."""
    identity = record.identity
    # What was given up may have changed since it was claimed, what was proven has not.
    for state, wanted in ((COMPLETED, identity), (FAILED, identity[:2])):
        place = Place(state, record.profile, record.bucket, record.key)
        for candidate in (place, *layout.beside(place, record.id)):
            found = spool.identify(candidate.path)
            if found is not None and found[: len(wanted)] == wanted:
                return candidate
    return None
