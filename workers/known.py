"""Remembers for a while which buckets can be used."""

from collections.abc import Callable
from threading import Lock


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
