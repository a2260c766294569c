"""Times of the tables, turned back."""

from datetime import datetime

from flood import columns, models


def utc_moment(text: str) -> datetime:
    """The aware time behind a text of the tables; raises DamagedError for what is none."""
    try:
        moment = columns.utc_moment(text)
    except (ValueError, TypeError, AttributeError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise models.DamagedError(f"{text!r} stands for a time")
    return moment
