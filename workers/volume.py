"""Keeps what a worker sends side by side to what its line takes in a few seconds."""

from collections.abc import Callable
from typing import Final

#: So many bytes may be on their way before anything is known of the line.
FIRST: Final = 256 * 1024

#: A file of so many bytes adds nothing to speak of.
LITTLE: Final = 16 * 1024

#: Later as many as it takes in so many seconds.
SECONDS: Final = 10.0

# What is taken for the least time that a measurement takes, in seconds.
_LEAST: Final = 0.001


class Volume:
    """One worker's files on their way to one store.

    A file whose connection ends, or whose worker has to stop, is sent from its beginning again.
    Over a slow line files that go side by side all end together, late: none of them might ever get
    through. `clock` gives seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sizes: dict[int, int] = {}
        self._bytes = 0
        # So many bytes were taken since then, not counting the time in which nothing was sent.
        self._taken = 0.0
        self._since = self._rested = clock()

    def clear(self) -> None:
        """Nothing is on its way any more, whatever became of it."""
        if self._sizes:
            self._sizes.clear()
            self._bytes = 0
            self._rested = self._clock()

    def begins(self, record_id: int, size: int) -> None:
        """A file of so many bytes is on its way."""
        if not self._sizes:
            self._since += self._clock() - self._rested
        self._sizes[record_id] = size
        self._bytes += size

    def ends(self, record_id: int, *, taken: bool) -> None:
        """It is that no more, whether the store has taken it or not; once is enough."""
        size = self._sizes.pop(record_id, None)
        if size is None:
            return
        self._bytes -= size
        self._taken += size * taken
        self._rested = now = self._clock()
        if now - self._since > 2 * SECONDS:
            # What was long ago counts less and less.
            self._taken *= SECONDS / (now - self._since)
            self._since = now - SECONDS

    def has_room(self) -> bool:
        """Whether one more may go with those that are on their way."""
        if not self._taken:
            return self._bytes < FIRST
        elapsed = max(self._clock() - self._since, _LEAST)
        return self._bytes < SECONDS * self._taken / elapsed
