"""Finds what lies in processing where a file that arrived belongs."""

import os
from pathlib import PurePosixPath
from typing import Final

from flood.layout import Place
from flood.spool import Spool
from flood.states import PROCESSING

_ABOVE_KEYS: Final = 3  # state, profile, bucket


def in_the_way(spool: Spool, place: Place) -> str | None:
    """The path, from the server directory, of what keeps a file of this place from processing: what
    has its name, or a file where it needs a directory; None if there is neither."""
    path = place.moved(PROCESSING).path
    try:
        os.lstat(spool.absolute(path))
    except NotADirectoryError:
        above = PurePosixPath(path).parents
        places = (str(each) for each in above if len(each.parts) > _ABOVE_KEYS)
        return next((each for each in places if spool.identify(each) is not None), None)
    except OSError:
        return None
    return path
