"""Finds the certificates of the authorities that are trusted."""

import os
from importlib.util import find_spec


def authorities() -> str:
    """Return the file, or the directory, with the certificates of the authorities that are trusted:
    what this machine's owner named, else those that botocore would take: certifi's where that is
    installed, or its own.

    Decided here because an empty variable means "verify nothing" to some versions of botocore.
    """
    named = (os.environ.get(name, "").strip() for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"))
    return next(filter(None, named), None) or _bundled()


def _bundled() -> str:
    try:
        from certifi import where
    except ImportError:
        # Looking for botocore does not load it.
        found = find_spec("botocore")
        places = found.submodule_search_locations if found else None
        if not places:
            raise
        return os.path.join(places[0], "cacert.pem")
    return where()
