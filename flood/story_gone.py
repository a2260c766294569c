"""Tells whether the file of a record that waits is in no place any more."""

from typing import Final

from flood import layout, obstacle
from flood.layout import Place
from flood.spool import Spool
from flood.states import COMPLETED, FAILED, INCOMING, PROCESSING
from flood.story_queries import Record

# What of two identities has to be the same, as whoever claims, or sweeps, compares them. A disk
# that was mounted again has another device, and a file may change where it waits; yet in incoming
# the next version may have got the inode of one that is gone.
_INODE: Final = slice(1, 2)
_FILE: Final = slice(2)
_WHOLE: Final = slice(4)


def is_gone(spool: Spool, place: Place, record: Record) -> bool:
    """Whether the file of this record of the key at `place` lies neither where that says, nor where
    anybody may have moved it by now; not where nobody can tell."""
    ways = {
        way.path: _FILE
        for state in (COMPLETED, FAILED)
        for way in (place.moved(state), *layout.beside(place.moved(state), record.id))
    }
    ways[place.moved(INCOMING).path] = _WHOLE
    ways[place.moved(PROCESSING).path] = ways[record.path] = _INODE
    for path, part in ways.items():
        found = spool.identify(path)
        if found is None and spool.closed(path) is not None:
            return False
        if found is not None and found[part] == record.identity[part]:
            return False
    return True


def gives_way(spool: Spool, place: Place, record: Record) -> bool:
    """Whether this record in processing ends as soon as flood-watch takes a file of its key."""
    if record.owner is not None or obstacle.in_the_way(spool, place) is not None:
        return False
    return is_gone(spool, place, record)
