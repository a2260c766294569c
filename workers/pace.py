"""Keeps to as many transfers at once as a store bears."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from flood.log import event
from workers.classify_rule import Verdict
from workers.pauses import Pauses
from workers.transfer import PartEnded, Receipt, Upload
from workers.verdict import judge
from workers.volume import LITTLE, Volume

if TYPE_CHECKING:
    from flood.profiles import Profile

#: After a refusal nothing is raised for so many seconds, then by one after at least so many.
REST: Final = 1.0
STEP: Final = 0.25

_log = logging.getLogger(__name__)


class Begun(NamedTuple):
    """When a transfer began: after how many slowings, as which of those under way, at which time of
    the clock."""

    slowings: int
    under_way: int
    at: float


class _Own(threading.local):
    """What each thread has for itself."""

    volume: Volume | None = None


class Pace:
    """One profile's, for each worker of this process; any thread may use it.

    At first `most` transfers go at once. A store that asks for fewer gets half of what was under
    way, at least one; where they go well it gets one more for as many as are under way, until
    there are `most` again. `clock` gives seconds that never go back.
    """

    def __init__(self, profile: "Profile", most: int, clock: Callable[[], float]) -> None:
        self._about = {
            "profile": profile.name,
            "endpoint": profile.endpoint or f"Amazon S3, region {profile.region}",
        }
        self._most = most
        self._clock = clock
        self._limit = most
        #: Whether the store has asked for fewer, and does not yet get all again.
        self.slowed = False
        self._slowings = 0
        self._successes = 0
        self._raise_at = 0.0
        self._pauses = Pauses(clock)
        self._lock = threading.Lock()
        self._own = _Own()

    def limit(self) -> int:
        """Return how many transfers a worker may have under way."""
        return self._limit

    def pause(self, bucket: str | None = None) -> float:
        """Return for how many seconds no transfer is to begin, to this bucket or to any."""
        return self._pauses.left(bucket) if self.slowed else 0.0

    def resume(self) -> None:
        """Leave the store alone no longer, as somebody has asked for."""
        with self._lock:
            self._pauses.end()

    def begin(self, under_way: int) -> Begun:
        """Take down that a transfer begins, as the worker's last of so many."""
        return Begun(self._slowings, under_way, self._clock())

    def since(self, begun: Begun) -> float:
        """Return how many seconds ago a transfer began."""
        return self._clock() - begun.at

    @property
    def volume(self) -> Volume:
        """What this thread has on its way to the store."""
        if self._own.volume is None:
            self._own.volume = Volume(self._clock)
        return self._own.volume

    def refused(
        self, begun: Begun, wait: float | None, bucket: str = "", *, again: bool = False
    ) -> None:
        """The store asked for fewer transfers when it got this one, and to be left alone for `wait`
        seconds if that is not None, as `Pauses.asked` has it.

        What began before the last slowing tells nothing about it.
        """
        with self._lock:
            first, now = not self.slowed, self._clock()
            self.slowed = True
            if wait is not None:
                self._pauses.asked(bucket, wait, begun.at, again=again)
            if begun.slowings == self._slowings:
                self._slowings += 1
                self._limit = max(1, min(self._limit, begun.under_way) // 2)
                self._successes = 0
                self._raise_at = now + REST
            limit = self._limit
        if first:
            event(
                _log,
                logging.WARNING,
                "store asks for fewer requests",
                **self._about,
                transfers=limit,
                wait=wait,
                next="more of them go at once again when it takes them",
            )

    def got_through(self, bucket: str) -> None:
        """A transfer to this bucket went well."""
        with self._lock:
            self._pauses.got_through(bucket)

    def succeeded(self, under_way: int) -> None:
        """A transfer went well while so many were under way; to be told of while `slowed`."""
        with self._lock:
            now = self._clock()
            self._successes += 1
            enough = self._successes >= min(self._limit, under_way)
            if self._limit < self._most and enough and now >= self._raise_at:
                self._limit += 1
                self._successes = 0
                self._raise_at = now + STEP
            over = self.slowed and self._limit == self._most and not self._pauses.any()
            self.slowed = self.slowed and not over
        if over:
            event(
                _log,
                logging.INFO,
                "store takes all requests again",
                **self._about,
                transfers=self._most,
            )


def _unknown() -> int | None:
    return None


def _new(_record: int) -> bool:
    return False


class Steps:
    """What one worker has under way of a batch. Files of `large` bytes or more go in parts, each of
    which is little; `next_size` answers how many bytes the next one has, None if that is not known;
    `again` whether the file of a record has failed before. All are of one bucket.
    """

    def __init__(
        self,
        pace: Pace,
        large: int,
        next_size: Callable[[], int | None] = _unknown,
        bucket: str = "",
        again: Callable[[int], bool] = _new,
    ) -> None:
        self._pace = pace
        self._bucket = bucket
        self._again = again
        self._volume = pace.volume
        self._volume.clear()
        self._large = large
        self._next_size = next_size
        self._begun: dict[int, Begun] = {}
        #: Whether the store's wish to be left alone has ended it.
        self.over = False

    def of(self, uploads: Iterable[Upload]) -> Iterator[Upload]:
        """Yield the uploads, each as it is to begin, until the store wants to be left alone."""
        coming = iter(uploads)
        while not self.pause():
            upload = next(coming, None)
            if upload is None:
                return
            self._begun[upload.record_id] = self._pace.begin(len(self._begun) + 1)
            if upload.size < self._large:
                self._volume.begins(upload.record_id, upload.size)
            yield upload
        self.over = True

    def pause(self) -> float:
        """Return for how many seconds nothing more is to begin."""
        return self._pace.pause(self._bucket)

    def at_most(self) -> int:
        """Return how many transfers may be under way: no more than there are while the store wants
        to be left alone, or while what they send is as much as the line takes in a few seconds,
        unless the next one is little, or the first.
        """
        limit = self._pace.limit()
        if self.pause():
            return min(limit, max(1, len(self._begun)))
        if self._volume.has_room():
            return limit
        size = self._next_size()
        if size is not None and size <= LITTLE:
            return limit
        return min(limit, max(1, len(self._begun)))

    def taken(self, upload: Upload) -> None:
        """Learn that the line has room again, though the transfer has not ended."""
        self._volume.ends(upload.record_id, taken=True)

    def ended(self, upload: Upload, outcome: Receipt | Verdict) -> float:
        """Learn from what came of one of them; return after how many seconds that was."""
        under_way = len(self._begun)
        begun = self._begun.pop(upload.record_id)
        self._volume.ends(upload.record_id, taken=isinstance(outcome, Receipt))
        verdict = outcome if isinstance(outcome, Verdict) else None
        self._learn(begun, verdict, under_way, again=self._again(upload.record_id))
        return self._pace.since(begun)

    def part(self, under_way: int) -> PartEnded:
        """Learn from a part, too, as `Hooks.part_begins` has it; its file is under way alone."""
        begun = self._pace.begin(under_way)
        again = any(self._again(record_id) for record_id in self._begun)

        def ended(error: BaseException | None, under_way: int) -> None:
            self._learn(begun, None if error is None else judge(error), under_way, again=again)

        return ended

    def _learn(self, begun: Begun, verdict: Verdict | None, under_way: int, *, again: bool) -> None:
        if verdict is None:
            self._pace.got_through(self._bucket)
            if self._pace.slowed:
                self._pace.succeeded(under_way)
        elif verdict.fewer:
            self._pace.refused(begun, verdict.retry_after, self._bucket, again=again)
