"""Names the users of this machine."""

import os
import pwd
from collections.abc import Sequence
from shlex import quote
from typing import Final

#: What a person does about EPERM, which no mode explains.
NOT_PERMITTED: Final = "see lsattr, and whose the file and its directory are"


def name(number: int) -> str:
    """The user's name, or his number where he has none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def with_group(user: str) -> str:
    """What chown(1) takes for the user with the group that he has; without one where he has no
    name, as chown knows of none then."""
    return user if user.isdigit() else f"{user}:"


def to_sudo(user: str) -> str:
    """What sudo(8) takes for the user."""
    return f"#{user}" if user.isdigit() else user


def owner(path: str) -> str:
    """The name of the user that a file belongs to; raises OSError."""
    return name(os.stat(path).st_uid)


def owns(path: str) -> bool:
    """Whether it is this user's, who may change its mode then; not where nobody can tell."""
    try:
        return os.stat(path).st_uid == os.geteuid()
    except OSError:
        return False


def opening(paths: Sequence[str]) -> str:
    """The command by which this user gets the rights to what is his own."""
    return f"chmod u+rwX {' '.join(map(quote, paths))}"


def access_to(denied: Sequence[str]) -> str:
    """What a person does about what is denied to this user."""
    if all(map(owns, denied)):
        return opening(denied)
    return f"run this as the user that flood runs as, or give {mine()} access to {denied[0]}"


def takes_over(path: str) -> bool:
    """Whether this user may be told to make a file with secrets his own: nobody is to get another
    one's by a command that he copies from a message, be it through a link."""
    me = os.geteuid()
    try:
        whose = {os.stat(path).st_uid, os.stat(os.path.dirname(path) or ".").st_uid}
    except OSError:
        return False
    return not me or (me in whose and whose <= {0, me} and not os.path.islink(path))


def mine() -> str:
    """The name of the user whose rights this process has."""
    return name(os.geteuid())
