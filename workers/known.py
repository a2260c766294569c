"""Remembers for a while which buckets can be used."""

from collections.abc import Callable, Iterable
from threading import Lock
from typing import Final

#: Names that lists have shown are remembered until so many are known, as many buckets as an account
#: at Amazon has by default: 2 MiB or so.
MOST: Final = 10_000


class Known:
    """Names that were found not longer than `seconds` ago, never those that were not.

    Any thread may ask; `clock` gives seconds that never go back.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._until: dict[str, float] = {}
        self._lock = Lock()

    def __contains__(self, name: str) -> bool:
        with self._lock:
            return self._clock() < self._until.get(name, float("-inf"))

    def add(self, name: str) -> None:
        """The name was found just now."""
        with self._lock:
            self._until[name] = self._clock() + self._seconds

    def add_listed(self, names: Iterable[str]) -> None:
        """A list has shown these just now; nobody has asked for them, so that those for which there
        is no room are left out."""
        with self._lock:
            now = self._clock()
            current = {name: until for name, until in self._until.items() if now < until}
            for name in names:
                if name in current or len(current) < MOST:
                    current[name] = now + self._seconds
            self._until = current
