"""Gives every destination its turn at the workers."""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from functools import partial

from flood import claims as claiming
from flood import queries
from flood.locks import WorkerLocks
from flood.record_values import Claimed

Destination = tuple[str, str]


class _Memory(threading.local):
    """Where one thread was last."""

    last: Destination | None = None


class Turns:
    """Whose records the threads of this process claim. `large` is the size in bytes from which on a
    file is sent by itself; `profiles` answers those that can be served; `now` aware times.

    Tasks come in the order of admission, so that a file behind another destination's backlog would
    wait for all of it, and a few long uploads would hold up everything else.
    """

    def __init__(
        self,
        locks: WorkerLocks,
        *,
        large: int,
        profiles: Callable[[], Collection[str]],
        now: Callable[[], datetime],
    ) -> None:
        self._locks = locks
        self._large = large
        self._profiles = profiles
        self._now = now
        self._memory = _Memory()

    def claim(self, ids: Sequence[int], asked: Destination) -> tuple[Destination, list[Claimed]]:
        """Claim what is due of `ids`, with more of the same destination; or of another one that
        comes first, as fewer workers are there, and this one was not the last time. Return the
        destination of what was claimed.

        To be called inside `models.write()`, so that nobody else chooses meanwhile.
        """
        at_work = queries.at_work()
        order: list[tuple[Destination, Sequence[int]]] = [(asked, ids)]
        first = self._first(asked, at_work)
        if first is not None:
            order.insert(0, (first, ()))
        for destination, wanted in order:
            claims = claiming.claim(
                wanted,
                *destination,
                owner=self._locks.own(),
                large=self._large,
                room=partial(self._has_room, at_work),
                now=self._now(),
            )
            if claims:
                self._memory.last = destination
                return destination, claims
        return asked, []

    def large_waiting(self, ended: Sequence[Claimed]) -> Destination | None:
        """Where a large file is due, which may have been passed over for want of room, if there is
        room now that the attempt on these has ended."""
        if not any(self._is_large(claim.identity.size) for claim in ended):
            return None
        return queries.large_due(self._large, self._now())

    def _first(
        self, asked: Destination, at_work: Sequence[tuple[Destination, int]]
    ) -> Destination | None:
        last = self._memory.last
        present = [destination for destination, _ in at_work] + ([last] if last else [])
        buckets, profiles = Counter(present), Counter(profile for profile, _ in present)

        def load(destination: Destination) -> tuple[int, int]:
            return profiles[destination[0]], buckets[destination]

        if not any(load(asked)):
            return None
        known = self._profiles()
        due = queries.due_after(last or asked, self._now())
        best = min((each for each in due if each[0] in known), key=load, default=asked)
        return best if load(best) < load(asked) else None

    def _has_room(self, at_work: Sequence[tuple[Destination, int]]) -> bool:
        """Whether one more worker may take a large file: one is left for the others."""
        busy = sum(self._is_large(size) for _, size in at_work)
        return busy < max(1, self._locks.alive() - 1)

    def _is_large(self, size: int) -> bool:
        return size >= self._large
