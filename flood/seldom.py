"""Keeps what takes long to a share of the time."""

import math


class Seldom:
    """Something that is done again and again, yet takes at most `share` of the time.

    Times are seconds of a monotonic clock. What is broken off counts from its last beginning.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._began = 0.0
        self._again = -math.inf

    def may_begin(self, now: float) -> bool:
        """Whether enough time has passed since it was done."""
        return now >= self._again

    def begins(self, now: float) -> None:
        """Take down that it is being done."""
        self._began = now

    def ends(self, now: float) -> None:
        """Take down that it was done: it rests for as long as that takes to be a share."""
        self._again = now + (now - self._began) * (1.0 / self._share - 1.0)
