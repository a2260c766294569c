"""Names the users of this machine."""

import os
import pwd


def name(number: int) -> str:
    """The user's name, or his number where he has none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def owner(path: str) -> str:
    """The name of the user that a file belongs to; raises OSError."""
    return name(os.stat(path).st_uid)


def mine() -> str:
    """The name of the user whose rights this process has."""
    return name(os.geteuid())
