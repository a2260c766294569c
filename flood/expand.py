"""Expands the abbreviations in paths from an environment that is passed in."""

import os
import pwd
import re
from collections.abc import Mapping
from typing import Final

_VARIABLE: Final = re.compile(r"\$(\w+|\{[^}]*\})", re.ASCII)


def expand_user(path: str, environ: Mapping[str, str]) -> str:
    """Return `path` with a leading `~` or `~name` replaced by that user's home directory.

    As os.path.expanduser, but HOME comes from `environ`. What cannot be resolved stays as it is.
    """
    if not path.startswith("~"):
        return path
    name, slash, rest = path[1:].partition("/")
    try:
        if name:
            home = pwd.getpwnam(name).pw_dir
        else:
            home = environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir
    except (KeyError, ValueError):  # ValueError: the name holds a NUL
        return path
    return (home.rstrip("/") + slash + rest) or "/"


def expand_variables(path: str, environ: Mapping[str, str]) -> str:
    """Return `path` with `$NAME` or `${NAME}` replaced from `environ`; unknown ones stay."""

    def value(match: re.Match[str]) -> str:
        return environ.get(match[1].strip("{}"), match[0])

    return _VARIABLE.sub(value, path)
