"""Times, names: how the tables hold them."""

import os
from datetime import datetime, timezone
from functools import lru_cache


def utc_text(moment: datetime) -> str:
    """An aware time as the tables hold it."""
    # Not strftime, whose %Y has fewer digits for the first thousand years.
    text = moment.astimezone(timezone.utc).isoformat(timespec="microseconds")
    return f"{text.removesuffix('+00:00')}Z"


@lru_cache(maxsize=16)  # the records of one claim have their times in common
def utc_moment(text: str) -> datetime:
    """The aware time behind a text of the tables."""
    # Python 3.10's fromisoformat does not know the Z.
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def name_value(name: str) -> str | bytes:
    """A path as the tables hold it."""
    if name.isascii():
        return name
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return os.fsencode(name)
    return name


def name_from(value: str | bytes) -> str:
    """A path as the tables hold it, turned back."""
    return value if isinstance(value, str) else os.fsdecode(value)
