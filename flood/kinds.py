"""The kinds of value that a setting can have, each with its way in from text, its way back."""

import json
import math
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from flood.expand import expand_user
from flood.units import duration, duration_text, size, size_text

TRUE: Final = ("true", "yes", "on", "1")
FALSE: Final = ("false", "no", "off", "0")

#: What a time says that does not end.
FOREVER: Final = "forever"

_SEVERAL: Final = (
    "allowed: one such as *.bak; several as [*.bak, *.old], on a command line a flag for each; "
    'in quotes whatever is meant as it stands, such as "a, b*"'
)

#: An element of a list with its comma, quotes and all.
_ELEMENT: Final = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|"[^"]*"|'[^']*'|[^,]+)\s*(?:,|$)""")
#: What stands for one character in a shell pattern.
_BRACKET: Final = re.compile(r"\[!?\]?[^]]*\]")


class Unspeakable(ValueError):
    """What is wrong with a value that has a secret in it, and is not to be shown."""


@dataclass(frozen=True)
class Kind:
    """`read` takes a text with the environment, `write` gives a text that `read` takes.

    `read` raises ValueError with what is wrong, then what is allowed, to be put after the value;
    Unspeakable where the value is to be left out.
    """

    read: Callable[[str, Mapping[str, str]], Any]
    write: Callable[[Any], str] = str


def durations(low: float, high: float) -> Kind:
    """Seconds as a float, from `low` to `high`."""
    allowed = f"allowed: {duration_text(low)} to {duration_text(high)}"

    def read(text: str, _environ: Mapping[str, str]) -> float:
        try:
            seconds = duration(text)
        except ValueError:
            raise ValueError(
                f"is no duration; write 30, 0.5, 30s, 5m or 1h30m; {allowed}"
            ) from None
        if not low <= seconds <= high:
            raise ValueError(f"is out of range; {allowed}")
        return seconds

    return Kind(read, duration_text)


def keeping(low: float, high: float) -> Kind:
    """Seconds as a float, from `low` to `high`, or None for ever."""
    allowed = f"allowed: {FOREVER}, or {duration_text(low)} to {duration_text(high)}"
    seconds = durations(low, high)

    def read(text: str, environ: Mapping[str, str]) -> float | None:
        if text.strip().lower() == FOREVER:
            return None
        try:
            return float(seconds.read(text, environ))
        except ValueError as error:
            raise ValueError(f"{str(error).partition(';')[0]}; {allowed}") from None

    return Kind(read, lambda value: FOREVER if value is None else duration_text(value))


def sizes(low: int, high: int) -> Kind:
    """Bytes as an int, from `low` to `high`."""
    allowed = f"allowed: {size_text(low)} to {size_text(high)}"

    def read(text: str, _environ: Mapping[str, str]) -> int:
        try:
            count = size(text)
        except ValueError:
            raise ValueError(f"is no size; write 16777216, 16MiB or 16MB; {allowed}") from None
        if not low <= count <= high:
            raise ValueError(f"is out of range; {allowed}")
        return count

    return Kind(read, size_text)


def counts(low: int, high: int) -> Kind:
    """A whole number from `low` to `high`."""
    allowed = f"allowed: {low} to {high}"

    def read(text: str, _environ: Mapping[str, str]) -> int:
        if not re.fullmatch("[0-9]{1,9}", text.strip()):
            raise ValueError(f"is no whole number; {allowed}")
        if not low <= int(text) <= high:
            raise ValueError(f"is out of range; {allowed}")
        return int(text)

    return Kind(read)


def choices(words: Sequence[str]) -> Kind:
    """One of `words`, in any case."""

    def read(text: str, _environ: Mapping[str, str]) -> str:
        if text.strip().lower() not in words:
            raise ValueError(f"is not known; allowed: {', '.join(words)}")
        return text.strip().lower()

    return Kind(read)


def _read_path(text: str, environ: Mapping[str, str]) -> str:
    if not text or "\0" in text or not _is_encodable(text):
        raise ValueError("is no path; allowed: such as /srv/flood or ~/flood")
    try:
        return os.path.abspath(expand_user(text, environ))
    except OSError as error:
        raise ValueError(
            "is relative to the current directory, which cannot be found out "
            f"({error.strerror}); allowed: an absolute path"
        ) from None


def _read_path_of_secrets(text: str, environ: Mapping[str, str]) -> str:
    if "://" in text:
        raise Unspeakable(
            "is the name of a file, and no URL, as that is a secret: write the URL into a file "
            "that only you can read (chmod 600), then name the file here"
        )
    return _read_path(text, environ)


def _read_command(text: str, _environ: Mapping[str, str]) -> str:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(
            f"cannot be split into words ({str(error).lower()}); allowed: such as "
            "/usr/local/bin/tell --to ops"
        ) from None
    if not words or "\0" in text or not _is_encodable(text):
        raise ValueError("is no command; allowed: such as /usr/local/bin/tell --to ops")
    return text


def _is_encodable(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def _read_fraction(text: str, _environ: Mapping[str, str]) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:  # also false for NaN
        raise ValueError("is out of range; allowed: 0 to 1, such as 0.25")
    return abs(number)  # "-0" counts as 0


def _write_pattern(pattern: str) -> str:
    plain = _unquoted(pattern) is None and _wrong_in_pattern(pattern) is None
    return pattern if plain else _quoted(pattern)


def _read_yes_or_no(text: str, _environ: Mapping[str, str]) -> bool:
    word = text.strip().lower()
    if word not in TRUE + FALSE:
        raise ValueError("is neither true nor false; allowed: true, false")
    return word in TRUE


def elements(text: str) -> list[str]:
    """The elements of a list `[a, "b"]`, each as it is written: what was in quotes still is."""
    with suppress(ValueError):
        given = json.loads(text)
        if all(isinstance(each, str) for each in given):
            return [_quoted(each) for each in given]
    return [each.strip() for each in _ELEMENT.findall(text[1:-1])]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _unquoted(text: str) -> str | None:
    """What is in quotes; None where not all of it is."""
    quote = text[:1]
    if len(text) < 2 or quote not in ("'", '"') or text[-1] != quote:
        return None
    with suppress(ValueError):
        return str(json.loads(text))
    inner = text[1:-1]
    return None if quote in inner else inner


def _wrong_in_pattern(text: str) -> str | None:
    """What shows that a text without quotes was not meant as one pattern; None if nothing does."""
    if text.startswith("[") and text.endswith("]") and "," in text:
        return "is a list, and taken as one pattern"
    rest = _BRACKET.sub("", text)
    if "[" in rest or "]" in rest:
        return "has a bracket without its counterpart"
    if "," in rest or any(map(str.isspace, rest)):
        return "holds a comma or a blank"
    return None


def _read_pattern(text: str, _environ: Mapping[str, str]) -> str:
    text = text.strip()
    inner = _unquoted(text)
    wrong = _wrong_in_pattern(text) if inner is None else None
    if wrong is not None:
        raise ValueError(f"{wrong}; {_SEVERAL}")
    text = text if inner is None else inner
    if text in ("", "!"):
        raise ValueError("is no pattern; allowed: such as *.bak, or !*.tmp to take one back")
    if "/" in text[:-1] or "\0" in text:
        raise ValueError("can match no name; allowed: such as *.bak, or dir/ for a directory")
    return text


#: An absolute path; relative ones start from the current directory, `~` is a home directory.
PATH: Final = Kind(_read_path)
#: A path whose file holds secrets, so that nobody gives one of them instead.
PATH_OF_SECRETS: Final = Kind(_read_path_of_secrets)
#: A command, its words as shlex.split has them; no shell reads it.
COMMAND: Final = Kind(_read_command)
FRACTION: Final = Kind(_read_fraction, repr)
YES_OR_NO: Final = Kind(_read_yes_or_no, lambda value: "true" if value else "false")
#: A shell pattern (Python's fnmatch) of file names, with a slash at its end of directories', or
#: one after `!`.
PATTERN: Final = Kind(_read_pattern, _write_pattern)
