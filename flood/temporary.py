"""Tells the names that programs use while they still write."""

import re
from collections.abc import Sequence
from fnmatch import translate
from typing import Final


class Temporary:
    """Shell patterns of such names; one that ends in a slash is for directories."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._files: Final = _Patterns([each for each in patterns if not each.endswith("/")])
        self._directories: Final = _Patterns([each for each in patterns if each.endswith("/")])

    def fits(self, path: str) -> bool:
        """Whether the path has such a name, or lies in a directory that has."""
        return self.pattern(path) is not None

    def is_in(self, directory: str) -> bool:
        """Whether all that lies in the directory has such a name."""
        return self.fits(f"{directory}/")

    def pattern(self, path: str) -> str | None:
        """The pattern that fits the last part of the path, or a directory in it; None if none."""
        *directories, name = path.split("/")
        return self._files.first([name]) or self._directories.first(directories)


class _Patterns:
    """Shell patterns, the first of which that fits counts."""

    def __init__(self, patterns: Sequence[str]) -> None:
        each = [translate(pattern.removesuffix("/")) for pattern in patterns]
        self._each: Final = [*zip(patterns, map(re.compile, each), strict=True)]
        # Most names fit none of them, which this finds out at once.
        self._any: Final = re.compile("|".join(each) or "(?!)")

    def first(self, names: Sequence[str]) -> str | None:
        """The first pattern that fits one of the names; None if none does."""
        if not any(map(self._any.match, names)):
            return None
        return next(pattern for pattern, compiled in self._each if any(map(compiled.match, names)))
