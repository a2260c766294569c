"""Goes round the destinations that have something due."""

from collections.abc import Collection, Generator, Iterator
from datetime import datetime
from typing import Final

from flood import due_queries

Destination = tuple[str, str]

#: Through so many buckets one search goes: a millisecond or two, in which nobody else can write.
LOOKS: Final = 1000

#: So many destinations that had their turns are remembered.
TURNS: Final = 1000

# What a statement costs besides, in buckets.
_STATEMENT: Final = 10


class Rounds:
    """Where each profile's next search begins, and whose turn was when.

    It begins behind the bucket that was chosen last, or where the last search was broken off, since
    thousands that wait for their retries may come before the one that is due. For one thread at a
    time.
    """

    def __init__(self) -> None:
        # The profile that was searched last comes last.
        self._places: dict[str, str] = {}
        self._turns: dict[Destination, int] = {}
        self._count = 0

    def due(self, profiles: Collection[str], now: datetime) -> Iterator[Destination]:
        """Where something is due: those first whose turn comes next. Who takes one of them says
        so by `choose`; what is not found by one search is by a later one."""
        ranks = {profile: rank for rank, profile in enumerate(self._places)}
        left = LOOKS
        for profile in sorted(profiles, key=lambda each: ranks.get(each, -1)):
            left = yield from self._round(profile, now, left)
            if left <= 0:
                return

    def choose(self, destination: Destination) -> None:
        """It has its turn, and comes last in the next round."""
        profile, bucket = destination
        self._places.pop(profile, None)
        self._places[profile] = bucket

    def claimed(self, destination: Destination) -> None:
        """Records of it were claimed, whoever chose it."""
        self._count += 1
        self._turns.pop(destination, None)
        self._turns[destination] = self._count
        if len(self._turns) > TURNS:
            del self._turns[next(iter(self._turns))]

    def last_turn(self, destination: Destination) -> int:
        """The number of its last claim, of all that were made; 0 where that is long ago."""
        return self._turns.get(destination, 0)

    def _round(self, profile: str, now: datetime, left: int) -> Generator[Destination, None, int]:
        """Those of one profile; return how many buckets more the search may go through."""
        start = self._places.get(profile, "")
        after, until = start, None
        found = False
        while left > 0:
            seen = due_queries.look(profile, after, until, now, left)
            left -= seen.passed + _STATEMENT
            if seen.bucket is not None:
                after = seen.bucket
                if seen.due:
                    found = True
                    yield profile, after
            elif start and until is None:
                after, until = "", start
            else:
                after = start
                break
        if found:
            # Nobody wants it now: it keeps its place among the profiles.
            before = self._places if profile in self._places else {profile: "", **self._places}
            self._places = {**before, profile: after}
        else:
            self.choose((profile, after))
        return left
