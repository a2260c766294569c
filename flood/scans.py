"""Gives directories that are to be scanned their turns."""

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import islice
from typing import Final

#: How many files and directories one scan looks at before others have their turn.
SHARE: Final = 100

#: So many scans go on until they are through, one more for a while: each keeps a directory open.
OPEN: Final = 8

# How many times as many shares a directory has with its next trial.
_LONGER: Final = 4

#: Finds paths; None is a step that found none, as with a directory, which takes its time, too.
Scan = Generator[str | None, None, None]


@dataclass
class _Trial:
    """The scan of a directory that has no place: how many shares it may have, how many are left."""

    directory: str
    scan: Scan
    shares: int
    left: int


class Scans:
    """Scans that are under way or to come; `scan` begins one.

    What finds no place is tried, the least first: a small directory is through with that, however
    many large ones came before. A trial that is too short is closed, and the next one, which is
    longer, begins at the front: what was taken meanwhile is not there any more, yet what stays, as
    temporary names do, is passed each time.
    """

    def __init__(self, scan: Callable[[str], Scan]) -> None:
        self._scan = scan
        self._new: deque[str] = deque()
        self._begun: deque[Scan] = deque()
        self._trial: _Trial | None = None
        #: Those whose trial was too short, each with the shares of its next one.
        self._large: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._new or self._begun or self._trial or self._large)

    def add(self, directory: str) -> None:
        """Have a directory scanned, with all below it."""
        self._new.append(directory)

    def clear(self) -> None:
        """Forget all of them, and close what is open."""
        for scan in self._begun:
            scan.close()
        if self._trial is not None:
            self._trial.scan.close()
        self._new.clear()
        self._begun.clear()
        self._trial = None
        self._large.clear()

    def some(self) -> list[str | None]:
        """The next few paths, or steps without one: a share of what is tried, with one of those
        that have a place."""
        return [*self._try(), *self._go_on()]

    def _try(self) -> list[str | None]:
        trial = self._trial = self._trial or self._next_trial()
        if trial is None:
            return []
        found = list(islice(trial.scan, SHARE))
        trial.left -= 1
        if len(found) < SHARE:
            self._trial = None
        elif not trial.left:
            self._trial = None
            self._keep(trial)
        return found

    def _next_trial(self) -> _Trial | None:
        if self._new:
            directory, shares = self._new.popleft(), 1
        elif self._large:
            directory = min(self._large, key=self._large.__getitem__)
            shares = self._large.pop(directory)
        else:
            return None
        return _Trial(directory, self._scan(directory), shares, shares)

    def _keep(self, trial: _Trial) -> None:
        if len(self._begun) < OPEN and not self._large:
            self._begun.append(trial.scan)
            return
        trial.scan.close()
        self._large[trial.directory] = trial.shares * _LONGER

    def _go_on(self) -> list[str | None]:
        if len(self._begun) < OPEN and self._large:
            # The one that has waited longest: new ones, that are tried first, might come for ever.
            directory = next(iter(self._large))
            del self._large[directory]
            self._begun.append(self._scan(directory))
        if not self._begun:
            return []
        scan = self._begun.popleft()
        found = list(islice(scan, SHARE))
        if len(found) == SHARE:
            self._begun.append(scan)
        return found
