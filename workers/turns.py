"""Gives every destination its turn at the workers."""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from flood import claims as claiming
from flood import due_queries, queries
from flood.locks import WorkerLocks
from flood.queries import Busy
from flood.record_values import Claimed

Destination = tuple[str, str]

#: An attempt that has lasted for so long may well last longer.
LONG: Final = timedelta(seconds=10)


class _Memory(threading.local):
    """Where one thread was last."""

    last: Destination | None = None


class Turns:
    """Whose records the threads of this process claim. `large` is the size in bytes from which on a
    file is sent by itself; `profiles` answers those that can be served; `now` aware times.

    Tasks come in the order of admission, so that a file behind another destination's backlog would
    wait for all of it; a few long uploads, or a store that hangs, would hold up everything else.
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
        busy = queries.at_work()
        order: list[tuple[Destination, Sequence[int]]] = [(asked, ids)]
        first = self._first(asked, busy)
        if first is not None:
            order.insert(0, (first, ()))
        for destination, wanted in order:
            if self._is_crowded(destination[0], busy):
                continue
            claims = claiming.claim(
                wanted,
                *destination,
                owner=self._locks.own(),
                large=self._large,
                room=partial(self._has_room, busy),
                now=self._now(),
            )
            if claims:
                self._memory.last = destination
                return destination, claims
        return asked, []

    def passed_over(self, ended: Sequence[Claimed]) -> list[Destination]:
        """What was perhaps refused while this attempt went on, and may be taken now that it has
        ended."""
        if not ended:
            return []
        first, now = ended[0], self._now()
        found = []
        if now - first.claimed_at >= LONG:
            found.append((first.profile, first.bucket))
        if self._is_large(first.identity.size):
            large = due_queries.with_large(self._large, now)
            found += [large] if large and large not in found else []
        return found

    def _first(self, asked: Destination, busy: Sequence[Busy]) -> Destination | None:
        last = self._memory.last
        present = [(one.profile, one.bucket) for one in busy] + ([last] if last else [])
        buckets, profiles = Counter(present), Counter(profile for profile, _ in present)

        def load(destination: Destination) -> tuple[int, int]:
            return profiles[destination[0]], buckets[destination]

        if not any(load(asked)):
            return None
        known = self._profiles()
        due = due_queries.destinations_after(last or asked, self._now())
        best = min((each for each in due if each[0] in known), key=load, default=asked)
        return best if load(best) < load(asked) else None

    def _is_crowded(self, profile: str, busy: Sequence[Busy]) -> bool:
        """Whether all workers but one have been at this profile's store for long: it may hang, and
        others must not wait for it, if there are any."""
        begun = self._now() - LONG
        long = sum(one.profile == profile and one.since <= begun for one in busy)
        return long > 0 and len(self._profiles()) > 1 and long >= self._most()

    def _has_room(self, busy: Sequence[Busy]) -> bool:
        """Whether one more worker may take a large file."""
        return sum(self._is_large(one.size) for one in busy) < self._most()

    def _most(self) -> int:
        """How many workers may be at what takes long: one is left for the rest."""
        alive = self._locks.alive()
        return alive - 1 if alive > 1 else 1

    def _is_large(self, size: int) -> bool:
        return size >= self._large
