"""Gives every destination its turn at the workers."""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

from flood import claims as claiming
from flood import due_queries, queries
from flood.locks import WorkerLocks
from flood.queries import Busy
from flood.record_values import Claimed
from workers.rounds import Destination, Rounds

#: An attempt that has lasted for so long may well last longer.
LONG: Final = timedelta(seconds=10)

#: What has been due for so long nobody was about to take.
MOMENT: Final = timedelta(seconds=0.25)

#: From this size on, in bytes, a file may keep a worker busy for long on a line that is slow.
HEAVY: Final = 8 * 1024**2


class _Memory(threading.local):
    """Where one thread was last, whether it was refused an unproven store's files, what it was
    refused for the time being, and whether it only stands in for others."""

    last: Destination | None = None
    refused: bool = False
    stands_in: bool = False

    def __init__(self) -> None:
        self.crowded: set[Destination] = set()


class Turns:
    """Whose records the threads of this process claim. `able` answers the workers of all processes
    that can go on; `large` is the size in bytes from which on a file is sent by itself; `profiles`
    answers those that can be served; `paused` whether a destination is to be left alone for a
    moment, as its store wants; `now` aware times.

    Tasks come in the order of admission, so that a file behind another destination's backlog would
    wait for all of it; a few long uploads, or a store that hangs, would hold up everything else.
    """

    def __init__(
        self,
        locks: WorkerLocks,
        *,
        able: Callable[[], Collection[str]],
        large: int,
        profiles: Callable[[], Collection[str]],
        paused: Callable[[Destination], bool],
        now: Callable[[], datetime],
    ) -> None:
        self._locks = locks
        self._able = able
        self._large = large
        self._heavy = min(HEAVY, large)
        self._profiles = profiles
        self._paused = paused
        self._now = now
        self._memory = _Memory()
        self._rounds = Rounds()
        # Profiles at whose store an attempt of this process took long and delivered nothing.
        self._silent: set[str] = set()

    def claim(self, ids: Sequence[int], asked: Destination) -> tuple[Destination, list[Claimed]]:
        """Claim what is due of `ids`, with more of the same destination; or of another one that
        comes first, as fewer workers are there, and this one was not the last time. Return the
        destination of what was claimed.

        To be called inside `models.write()`, so that nobody else chooses meanwhile.
        """
        self._memory.refused = False
        self._memory.crowded = set()
        busy = queries.at_work()
        for destination in self._order(asked, busy):
            claims = claiming.claim(
                ids if destination == asked else (),
                *destination,
                owner=self._locks.own(),
                large=self._large,
                heavy=self._heavy,
                room=self._has_room,
                now=self._now(),
            )
            if claims:
                self._memory.last = destination
                self._rounds.claimed(destination)
                return destination, claims
        return asked, []

    def _order(self, asked: Destination, busy: Sequence[Busy]) -> Iterator[Destination]:
        """The destinations, none of which is to be left alone now, of which the first one is wanted
        that has something to claim."""
        goes_round = not self._memory.stands_in
        first = self._next(asked, busy, self._memory.last) if goes_round else None
        if first is not None:
            # Also if it gets nothing now: others behind it shall have their turns.
            self._rounds.choose(first)
            yield first
        if not (self._paused(asked) or self._is_crowded(asked, busy)):
            yield asked
        if goes_round and (self._memory.refused or self._memory.crowded):
            # Where this worker was last, too: the tasks before its own may all be refused ones.
            other = self._next(asked, busy, None, refused=True)
            if other is not None:
                self._rounds.choose(other)
                yield other

    def more(self, there: Destination, company: int) -> list[Claimed]:
        """Claim more small files of what this thread is at, with `company` of them on their way,
        unless another destination comes first, or too many workers are at this one.

        To be called inside `models.write()`, as `claim`.
        """
        busy = queries.at_work()
        if self._next(there, busy, self._memory.last) is not None or self._is_crowded(there, busy):
            return []
        return claiming.more(
            *there,
            owner=self._locks.own(),
            large=self._heavy,
            company=company,
            now=self._now(),
        )

    def may_yield(self) -> bool:
        """Whether this thread has been at work for longest of those that can go elsewhere: they
        are not stopped, at no heavy file, nor at work for so long that their store may hang."""
        then = self._now() - LONG
        light = self._light()
        known = [(one.since, one.owner) for one in queries.at_work() if one.since > then]
        first = min((one for one in known if one[1] in light), default=None)
        return first is not None and first[1] == self._locks.own()

    def waits(self) -> bool:
        """Whether something has been due for a moment where nobody is, though it may be sent.

        To be called inside `models.write()`, as `claim`.
        """
        busy = queries.at_work()
        present = {(one.profile, one.bucket) for one in busy}
        able = self._profiles()
        known = [each for each in due_queries.profiles() if each in able]
        return any(
            not (each in present or self._paused(each) or self._is_crowded(each, busy))
            for each in self._rounds.due(known, self._now() - MOMENT)
        )

    def refused(self) -> bool:
        """Whether this thread's last claim found nothing, as the store has yet to show that it
        answers: a moment later it may be another matter."""
        return self._memory.refused

    def crowded(self) -> Collection[Destination]:
        """What this thread's last claim was refused though it is due, as workers have been there
        for long: nobody may ring for it when that is over."""
        return self._memory.crowded

    def stands_in(self) -> None:
        """This thread, which stands in for those that stores keep, is to claim only what it asks
        for, and nothing heavy: nobody would be left."""
        self._memory.stands_in = True

    def ended(self, claims: Sequence[Claimed], *, delivered: bool) -> None:
        """Take down whether an attempt on these claims has shown that its store answers."""
        if not claims:
            return
        if delivered:
            self._silent.discard(claims[0].profile)
        elif self._now() - claims[0].claimed_at >= LONG:
            self._silent.add(claims[0].profile)

    def passed_over(self, ended: Sequence[Claimed]) -> list[Destination]:
        """What was perhaps refused while this attempt went on, and may be taken now that it has
        ended."""
        if not ended:
            return []
        first, now = ended[0], self._now()
        found = []
        if now - first.claimed_at >= LONG:
            found.append((first.profile, first.bucket))
        if any(one.identity.size >= self._heavy for one in ended):
            heavy = due_queries.with_large(self._heavy, now, self._profiles())
            found += [heavy] if heavy and heavy not in found else []
        return found

    def _next(
        self,
        asked: Destination,
        busy: Sequence[Busy],
        last: Destination | None,
        *,
        refused: bool = False,
    ) -> Destination | None:
        """What comes before `asked`, for a worker that was at `last`; anything else if that was
        `refused`. What is crowded keeps its place, which is the first once it is not."""
        crowded: set[str] = set()
        while True:
            first = self._first(asked, busy, last, crowded, refused=refused)
            if first is None or not self._is_crowded(first, busy):
                return first
            crowded.add(first[0])

    def _first(
        self,
        asked: Destination,
        busy: Sequence[Busy],
        last: Destination | None,
        crowded: Collection[str],
        *,
        refused: bool,
    ) -> Destination | None:
        """The same, of profiles that are not among those known as `crowded`."""
        present = [(one.profile, one.bucket) for one in busy] + ([last] if last else [])
        buckets, profiles = Counter(present), Counter(profile for profile, _ in present)

        def load(destination: Destination) -> tuple[int, int]:
            return profiles[destination[0]], buckets[destination]

        most, paused = load(asked), refused or self._paused(asked)
        # The tasks of two destinations may alternate: each is then asked for when the worker comes
        # from the other. A third one that has had no turn for longer goes before them.
        since = self._rounds.last_turn(asked) if asked != last else 0
        if not (any(most) or paused or since):
            return None

        def comes_first(each: Destination) -> bool:
            if each in (last, asked) or self._paused(each):
                return False
            longer = load(each) == most and self._rounds.last_turn(each) < since
            return paused or load(each) < most or longer

        able = self._profiles()
        known = [each for each in due_queries.profiles() if each in able and each not in crowded]
        # Where fewer workers are comes first; each lot is searched by itself, so that thousands of
        # buckets in one hide nothing in another.
        for workers, lot in groupby(sorted(known, key=profiles.__getitem__), profiles.__getitem__):
            if workers > most[0] and not paused:
                break
            due = filter(comes_first, self._rounds.due(list(lot), self._now()))
            best = _least(due, buckets)
            if best is not None:
                return best
        return None

    def _is_crowded(self, destination: Destination, busy: Sequence[Busy]) -> bool:
        """Whether of the workers that are at no heavy file all but one are at stores that may hang,
        of which this profile's is one: it has taken nothing for this bucket for as long as LONG; or
        they have been at this profile for so long. Others must not wait for it, if there are any.
        """
        profile = destination[0]
        if len(self._profiles()) < 2:
            return False
        if profile not in self._silent and all(one.profile != profile for one in busy):
            return False  # what nobody knows anything of is tried
        # What is heavy holds up nobody, as it has its limit; nor is anybody who was stopped waited
        # for, nor is there one to be kept for others where there is but one.
        light = self._light()
        at_work = [one for one in busy if one.owner in light]
        enough = len(light) - 1
        if enough < 1 or len(at_work) < enough:
            return False
        then = self._now() - LONG
        if sum(one.profile == profile and one.since <= then for one in at_work) >= enough:
            if due_queries.is_due(destination, self._now()):
                self._memory.crowded.add(destination)
            return True
        if queries.delivered_since(*destination, then):
            return False
        held = [
            one
            for one in at_work
            if one.profile == profile or not queries.delivered_since(one.profile, one.bucket, then)
        ]
        unproven = len(held) >= enough
        self._memory.refused = self._memory.refused or unproven
        return unproven

    def _light(self) -> set[str]:
        """The workers that are at no heavy file, and not stopped."""
        return set(self._able()) - queries.owners_of(self._heavy)

    def _has_room(self) -> bool:
        """Whether one more worker may take what is heavy: of two or more one is left for the
        rest."""
        if self._memory.stands_in:
            return False
        able = set(self._able())
        return len(queries.owners_of(self._heavy) & able) < max(1, len(able) - 1)


def _least(due: Iterable[Destination], workers: Mapping[Destination, int]) -> Destination | None:
    """The first of these at which there are the fewest workers."""
    best = None
    for each in due:
        if best is None or workers[each] < workers[best]:
            best = each
        if not workers[best]:
            break
    return best
