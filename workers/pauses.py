"""Remembers for how long a store wants to be left alone."""

import math
from collections.abc import Callable
from typing import Final

_NEVER: Final = -math.inf


class Pauses:
    """One profile's, by bucket; but for `left` for one thread at a time. `clock` gives seconds
    that never go back.

    A store asks for a pause in its answer to one request (Retry-After, RFC 9110, 10.2.3), and may
    mean all of them, or that bucket, or that file. At first all is left alone. If the bucket gets
    nothing through after that, the next pause is its own alone; if others of it get through, yet
    this file does not, that file's: else what is refused each time would have all others wait
    again and again.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # Until when all is left alone, under None, and single buckets.
        self._until: dict[str | None, float] = {}
        # When the store asked for a pause last, by bucket, and whose that was; none's if a file's.
        self._asked: dict[str, float] = {}
        self._scopes: dict[str, str | None] = {}
        self._through: dict[str, float] = {}

    def left(self, bucket: str | None) -> float:
        """Return for how many seconds nothing is to begin in the bucket, or at all for None."""
        until = max(self._until.get(each, _NEVER) for each in {None, bucket})
        return max(0.0, until - self._clock())

    def any(self) -> bool:
        """Whether anything is left alone now."""
        return max(self._until.values(), default=_NEVER) > self._clock()

    def asked(self, bucket: str, wait: float, begun: float, *, again: bool) -> None:
        """The store wants to be left alone for so many seconds, as it said of what had `begun` then
        in this bucket, and has failed before if this is `again`."""
        last = self._asked.get(bucket, _NEVER)
        if begun > last:
            through = self._through.get(bucket, _NEVER) > last
            self._asked[bucket] = self._clock()
            if again and through:
                self._scopes.pop(bucket, None)
            else:
                self._scopes[bucket] = None if through or last == _NEVER else bucket
        # What was under way already when it said so says nothing else.
        if bucket in self._scopes:
            scope = self._scopes[bucket]
            until = self._clock() + wait
            self._until[scope] = max(self._until.get(scope, _NEVER), until)

    def got_through(self, bucket: str) -> None:
        """A file of this bucket was taken."""
        self._through[bucket] = self._clock()

    def end(self) -> None:
        """Leave nothing alone any longer, as somebody has asked for."""
        for each in (self._until, self._asked, self._scopes):
            each.clear()
