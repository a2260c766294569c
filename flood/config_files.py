"""Finds flood's configuration files, then reads their syntax line by line."""

import difflib
import io
import os
import re
import stat
from collections.abc import Collection, Iterable, Mapping
from typing import Final, TextIO

import configargparse

from flood.expand import expand_user
from flood.kinds import FALSE, TRUE, YES_OR_NO, elements
from flood.options import OPTIONS
from flood.text import printable

SYSTEM_FILE: Final = "/etc/flood/flood.conf"
LOCAL_FILE: Final = "./flood.conf"

# As configargparse's own, but with the quotes; what follows a blank and a # is a comment.
_VALUE: Final = re.compile(r"""[^:=;#\s]+\s*[:=\s]\s*((['"]).+?\2|.*?)\s*(?:\s[;#].*)?""")


def candidates(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the paths where files are looked for, the weakest first.

    XDG_CONFIG_HOME counts only if it is absolute (XDG Base Directory Specification).
    """
    base = environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(base):
        base = expand_user("~/.config", environ)
    return (SYSTEM_FILE, os.path.join(base, "flood", "flood.conf"), LOCAL_FILE)


def existing(paths: Iterable[str], problems: list[str]) -> list[str]:
    """Return those of `paths` that are there; one that cannot be read as a file is a problem."""
    found = []
    for path in paths:
        try:
            wrong = _wrong(path)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue  # PermissionError: of a directory above, so that nobody can say it is there
        except OSError as error:
            wrong = f"cannot be read: {error.strerror}"
        if wrong is None:
            found.append(path)
        else:
            problems.append(f"{printable(path)}: {wrong}")
    return found


def _wrong(path: str) -> str | None:
    """Why what is there cannot be read as a file, None if it can; raises OSError if nothing is."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(path):
            return f"is a symbolic link that leads nowhere, to {printable(os.readlink(path))}"
        raise
    # To open a FIFO may take for ever, and no signal would end that. What is empty is none.
    regular = stat.S_ISREG(mode) or os.path.realpath(path) == os.devnull
    return None if regular else "is no regular file"


class FileSyntax(configargparse.DefaultConfigFileParser):  # type: ignore[misc]  # untyped
    """configargparse's own syntax, which forgives nothing that is likely a mistake.

    Unknown keys, repeated keys, keys without a value go to `problems` with file and line; the rest
    of the file is read on. `offered` are the keys that the command at hand has.
    """

    def __init__(self, problems: list[str], offered: Collection[str]) -> None:
        super().__init__()
        self._problems = problems
        self._offered = offered

    def __call__(self) -> "FileSyntax":
        # Older versions of configargparse want a class, which they call.
        return self

    def open(self, path: str) -> TextIO:
        """Open a file to be parsed; one that cannot be opened is a problem, then reads as empty."""
        try:
            wrong = _wrong(path)
            if wrong is None:
                # configargparse closes it. Paths need not be valid UTF-8; some editors write a BOM.
                return open(path, encoding="utf-8-sig", errors="surrogateescape")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            wrong = f"cannot be read: {reason}"
        self._problems.append(f"{printable(path)}: {wrong}")
        empty = io.StringIO()
        empty.name = path
        return empty

    def parse(self, stream: TextIO) -> dict[str, str | list[str]]:
        """Return values by key; those of a repeatable key as one list."""
        values: dict[str, str | list[str]] = {}
        lines: dict[str, int] = {}
        path = printable(stream.name)
        try:
            for number, line in enumerate(stream, 1):
                where = f"{path}, line {number}"
                for key, value in self._entry(line, where):
                    if isinstance(value, list):
                        values[key] = [*values.get(key, ()), *value]
                    elif key in values:
                        self._problems.append(
                            f"{where}: {key} is set for the second time, first in line {lines[key]}"
                        )
                    else:
                        values[key] = value
                    lines.setdefault(key, number)
        except OSError as error:
            self._problems.append(f"{path}: cannot be read: {error.strerror}")
        return {key: value for key, value in values.items() if key in self._offered}

    def _entry(self, line: str, where: str) -> Iterable[tuple[str, str | list[str]]]:
        try:
            entries = super().parse([line])
        except configargparse.ConfigFileParserException:
            self._problems.append(f"{where}: is neither 'key = value' nor a comment")
            return
        for written, value in entries.items():
            key = written.removeprefix("--")
            option = next((option for option in OPTIONS.values() if option.key == key), None)
            if option is None:
                self._problems.append(f"{where}: {printable(key)} is no setting{nearest(key)}")
            elif not option.in_files:
                self._problems.append(f"{where}: {key} cannot be set in a file")
            elif value in ("", []) or (line.strip() == written and option.kind is not YES_OR_NO):
                self._problems.append(f"{where}: {key} has no value")
            elif option.repeatable:
                yield key, _as_written(line)
            elif isinstance(value, list):
                self._problems.append(f"{where}: {key} takes one value, no list")
            elif option.kind is YES_OR_NO and value.lower() not in TRUE + FALSE:
                self._problems.append(
                    f"{where}: {key}: '{printable(value)}' is neither true nor false"
                )
            else:
                yield key, value


def _as_written(line: str) -> list[str]:
    """The elements of a repeatable key, in the quotes that configargparse takes away."""
    match = _VALUE.fullmatch(line.strip())
    text = match[1] if match else ""
    return elements(text) if text.startswith("[") and text.endswith("]") else [text]


def nearest(key: str) -> str:
    """Return which setting was meant, or which there are, as the end of a sentence."""
    known = [option.key for option in OPTIONS.values() if option.in_files]
    near = difflib.get_close_matches(key.lower().replace("_", "-"), known, n=1)
    return f"; is {near[0]} meant?" if near else f"; there are {', '.join(known)}"
