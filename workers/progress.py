"""Knows how far each worker's attempt has come, which its lock file says."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Final, NamedTuple

from flood.doing import Doing, encode
from flood.locks import WorkerLocks
from workers.transfer import Measure

#: Between two notes, in seconds.
INTERVAL: Final = 1.0

#: Over how many notes the rate is taken.
_SAMPLES: Final = 10


#: A worker that has sent nothing for so many seconds is taken to be at a store that hangs.
STILL: Final = 3.0


class _Attempt(NamedTuple):
    """One thread's, for others; when it began in monotonic seconds."""

    profile: str
    begun: float


class _State(threading.local):
    """One thread's attempt; since None while there is none."""

    since: datetime | None = None
    files = 0
    files_done = 0
    size = 0
    sent = 0
    due = 0.0
    total = 0
    sweeps = False
    stands_in = False

    def __init__(self) -> None:
        self.samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)


class Progress:
    """The notes of one process' workers, each thread's for itself: at most one a second, none that
    anything depends on. `now` answers aware times, `clock` monotonic seconds."""

    def __init__(
        self, locks: WorkerLocks, *, now: Callable[[], datetime], clock: Callable[[], float]
    ) -> None:
        self._locks = locks
        self._now = now
        self._clock = clock
        self._state = _State()
        # By thread; of each attempt also when its store took something last.
        self._attempts: dict[int, _Attempt] = {}
        self._moved: dict[int, float] = {}

    def hanging(self, workers: int, but: int) -> set[str]:
        """The profiles at whose stores workers of this process hang, if none of its so many workers
        is free, or has just begun; else none. The thread `but` is not one of them."""
        now = self._clock()
        # A copy, as threads come and go.
        at = {ident: one for ident, one in list(self._attempts.items()) if ident != but}
        if len(at) < workers or any(now - one.begun < STILL for one in at.values()):
            return set()
        still = {ident for ident in at if now - self._moved.get(ident, now) >= STILL}
        return {at[ident].profile for ident in still}

    def stands_in(self) -> None:
        """This thread is none of the workers that the process has as a rule."""
        self._state.stands_in = True
        self._write(0)

    def claimed(self, profile: str) -> None:
        """This thread begins an attempt at this profile's store."""
        now, own = self._clock(), threading.get_ident()
        self._moved[own] = now
        self._attempts[own] = _Attempt(profile, now)
        self._say()  # it may be long until the store lets it begin to send

    def begin(self, sizes: Sequence[int]) -> None:
        """This thread begins to send files of so many bytes each."""
        state = self._state
        state.samples.clear()
        state.since = self._now()
        state.files, state.files_done = len(sizes), 0
        state.size, state.sent = sum(sizes), 0
        state.total = 0
        self._moves(self._clock())
        self._say()

    def add(self, sizes: Sequence[int]) -> None:
        """More files of so many bytes each go with them."""
        self._state.files += len(sizes)
        self._state.size += sum(sizes)

    def leave(self, sizes: Sequence[int]) -> None:
        """Files of so many bytes each are not sent with them after all."""
        self._state.files -= len(sizes)
        self._state.size -= sum(sizes)

    def done(self, size: int) -> None:
        """One of the files, of so many bytes, is done with, whatever came of it."""
        state = self._state
        state.files_done += 1
        state.sent += size
        self._moves(self._clock())
        self._say()

    def sending(self, measure: Measure) -> None:
        """Files are under way, of which `measure` counts the bytes."""
        state, clock = self._state, self._clock()
        if clock >= state.due:
            more = measure()
            if state.sent + more != state.total:
                state.total = state.sent + more
                self._moves(clock)
            self._write(more, still=clock - self._moved[threading.get_ident()])

    def end(self) -> None:
        """This thread has nothing to do, or not any more."""
        self._attempts.pop(threading.get_ident(), None)
        self._moved.pop(threading.get_ident(), None)
        self._state.since = None
        self._say()

    @contextmanager
    def sweeping(self) -> Iterator[None]:
        """This thread sweeps. One that has done so before a second is over says nothing of it."""
        state = self._state
        state.sweeps = True
        due = state.due = self._clock() + INTERVAL
        try:
            yield
        finally:
            state.sweeps = False
            if state.due != due:
                self._write(0)

    def still(self) -> None:
        """This thread goes on with what it has said last, or has yet to say."""
        self._say()

    def _moves(self, clock: float) -> None:
        self._moved[threading.get_ident()] = clock

    def _say(self) -> None:
        if self._clock() >= self._state.due:
            self._write(0)

    def _write(self, more: int, still: float = 0.0) -> None:
        state, clock = self._state, self._clock()
        state.due = clock + INTERVAL
        doing = Doing(os.getpid(), self._now(), sweeps=state.sweeps, stands_in=state.stands_in)
        if state.since is not None:
            doing = Doing(
                pid=doing.pid,
                at=doing.at,
                since=state.since,
                files=state.files,
                files_done=state.files_done,
                size=state.size,
                sent=min(state.size, state.sent + more),
                rate=self._rate(clock, state.sent + more),
                still=still,
                stands_in=state.stands_in,
            )
        # On a full or a missing disk nobody learns how far it is, and that is all.
        with suppress(OSError):
            self._locks.note(encode(doing, int(clock * 1000)))

    def _rate(self, clock: float, sent: int) -> float | None:
        samples = self._state.samples
        samples.append((clock, sent))
        since, before = samples[0]
        # A part that is sent again makes it less for a while.
        return max(0, sent - before) / (clock - since) if clock > since else None
