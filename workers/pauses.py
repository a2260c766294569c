"""Remembers for how long a store wants to be left alone."""

import math
from collections.abc import Callable
from typing import Final

_NEVER: Final = -math.inf


class Pauses:
    """One profile's, by bucket; but for `left` for one thread at a time. `clock` gives seconds
    that never go back.

    A store asks for a pause in its answer to one request (Retry-After, RFC 9110, 10.2.3), and may
    mean all of them, or that bucket, or that file. At first all is left alone. Where others get
    through after that, yet this bucket does not, or this file, the next pause is theirs alone: else
    one that is refused each time would have all others wait again and again.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # Until when all is left alone, under None, and single buckets.
        self._until: dict[str | None, float] = {}
        self._asked: dict[str, float] = {}
        self._through: dict[str, float] = {}

    def left(self, bucket: str | None) -> float:
        """Return for how many seconds nothing is to begin in the bucket, or at all for None."""
        until = max(self._until.get(each, _NEVER) for each in {None, bucket})
        return max(0.0, until - self._clock())

    def any(self) -> bool:
        """Whether anything is left alone now."""
        return max(self._until.values(), default=_NEVER) > self._clock()

    def asked(self, bucket: str | None, wait: float, *, again: bool) -> None:
        """The store wants to be left alone for so many seconds, as it said of a file in this bucket
        that has failed before if this is `again`, or of no bucket at all if that is None."""
        now = self._clock()
        asked = _NEVER if bucket is None else self._asked.get(bucket, _NEVER)
        through = _NEVER if bucket is None else self._through.get(bucket, _NEVER)
        if again and through > asked:
            pass  # it alone waits
        elif bucket is not None and through <= asked < max(self._through.values(), default=_NEVER):
            self._extend(bucket, now + wait)
        else:
            self._extend(None, now + wait)
        if bucket is not None:
            self._asked[bucket] = now

    def _extend(self, scope: str | None, until: float) -> None:
        self._until[scope] = max(self._until.get(scope, _NEVER), until)

    def got_through(self, bucket: str) -> None:
        """A file of this bucket was taken."""
        self._through[bucket] = self._clock()

    def end(self) -> None:
        """Leave nothing alone any longer, as somebody has asked for."""
        self._until.clear()
