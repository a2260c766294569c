"""Tells the names that programs use while they still write."""

import re
from collections.abc import Sequence
from fnmatch import translate
from typing import Final


class Temporary:
    """Shell patterns of such names; one that ends in a slash is for directories."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._files: Final = _compiled([each for each in patterns if not each.endswith("/")])
        self._directories: Final = _compiled([each for each in patterns if each.endswith("/")])

    def fits(self, path: str) -> bool:
        """Whether the path has such a name, or lies in a directory that has."""
        return self.pattern(path) is not None

    def pattern(self, path: str) -> str | None:
        """The pattern that fits the last part of the path, or a directory in it; None if none."""
        *directories, name = path.split("/")
        for pattern, compiled in self._files:
            if compiled.match(name):
                return pattern
        for pattern, compiled in self._directories:
            if any(compiled.match(each) for each in directories):
                return pattern
        return None


def _compiled(patterns: Sequence[str]) -> list[tuple[str, re.Pattern[str]]]:
    return [(pattern, re.compile(translate(pattern.removesuffix("/")))) for pattern in patterns]
