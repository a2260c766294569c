"""What flood-check finds out, as plain values."""

from dataclasses import dataclass
from typing import Final

OK: Final = "ok"
#: Something is odd, or will matter later; flood works for all that.
WARNING: Final = "warning"
#: Something does not work.
ERROR: Final = "error"

# What findings are about, in the order in which they are shown.
SETTINGS: Final = "settings"
CREDENTIALS: Final = "credentials"
STORE: Final = "store"
SPOOL: Final = "spool"
DATABASE: Final = "database"
WORK: Final = "work"
NOTIFICATIONS: Final = "notifications"
TOPICS: Final = (SETTINGS, CREDENTIALS, STORE, SPOOL, DATABASE, WORK, NOTIFICATIONS)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what it is, how it is, what was seen; unless that is OK also
    what it means and what mends it, a command where there is one. `profile` is set where it is
    about one."""

    topic: str
    about: str
    status: str
    found: str
    meaning: str = ""
    remedy: str = ""
    profile: str | None = None
