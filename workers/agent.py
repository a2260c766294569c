"""What one consumer process delivers with."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from logging import ERROR, INFO, WARNING, getLogger
from threading import Lock
from typing import Final

from flood import leaps, log, queries, status_workers
from flood.config import Settings
from flood.leaps import Running
from flood.locks import WorkerLocks
from flood.profiles import Profile
from flood.retention import Keeping, Retention
from flood.spool import Spool
from flood.syscalls import hard_links_guarded
from flood.tally import Tally
from workers.pace import Pace
from workers.progress import Progress
from workers.rests import Rests
from workers.transfer import Uploader
from workers.turns import Turns

#: How long nothing more is said of a lack of descriptors or memory, in seconds.
SCARCITY_SILENCE: Final = 600.0

#: How long files wait for which no descriptor or memory was left, in seconds, at least and at most.
SCARCE_LEAST: Final = 1.0
SCARCE_MOST: Final = 30.0

#: Who ends by himself stays for files that wait for so many seconds at most.
SCARCE_BRIEFLY: Final = 8.0

#: A pause of so many seconds that a store asks for is waited for; for a longer one files are put
#: off, so that everybody sees until when.
BRIEF_PAUSE: Final = 45.0

#: How long after files are due again the ring for them comes, in seconds, at most and at least; a
#: tenth of what they wait, in between.
RING_LATE: Final = 1.0
RING_SOON: Final = 0.25

logger = getLogger(__name__)


@dataclass
class _Lent:
    uploader: Uploader
    users: int = 0


@dataclass
class Agent:
    """The spool, the settings, the profiles with an uploader each.

    `look` answers the profiles that count now, the same object while they are the same, with
    `at_once` after a look at their file. `make_uploader` is called once for each profile, and again
    when it has changed; `now` answers aware times, `clock` monotonic
    seconds; `uniform` is the source of chance for delays; `stopping` tells that the consumer is
    to end, `links_guarded` that nobody can make a hard link to what he could not read; `running`
    answers for how long the machine has been; `outdated` whether the credentials that count are
    those of before, as what their file says now is wrong.
    """

    settings: Settings
    look: Callable[..., Mapping[str, Profile]]
    spool: Spool
    locks: WorkerLocks
    make_uploader: Callable[[Profile], Uploader]
    now: Callable[[], datetime]
    clock: Callable[[], float]
    uniform: Callable[[float, float], float]
    stopping: Callable[[], bool]
    #: Multipart uploads that the store does not let go, of which the log has told.
    left_behind: set[str] = field(default_factory=set)
    #: The record whose multipart upload a sweep tried to abort last.
    cleared: int = 0
    #: Held by the one sweep of this process that aborts such uploads.
    clearing: Lock = field(default_factory=Lock)
    tally: Tally = field(default_factory=Tally)
    _away: bool = False
    _scarcity_told: float = -math.inf
    _scarce: tuple[float, float] | None = None
    _scarce_until: float = -math.inf
    links_guarded: Callable[[], bool] = hard_links_guarded
    running: Callable[[], Running] = leaps.running
    outdated: Callable[[], bool] = lambda: False
    _uploaders: dict[Profile, _Lent] = field(default_factory=dict)
    _paces: dict[Profile, Pace] = field(default_factory=dict)
    _rings: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    _hastened: str | None = ""  # what was never looked at
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        #: How far this process' attempts have come, for whoever looks.
        self.progress = Progress(self.locks, now=self.now, clock=self.clock)
        #: Those that were there when `renew` looked last.
        self.profiles = self.look()

    def renew(self, *, at_once: bool = False) -> None:
        """Go on with the profiles that count now; the uploaders of others end with their use."""
        profiles = self.look(at_once=at_once)
        with self._lock:
            if profiles is self.profiles:
                return
            self.profiles = profiles
            known = profiles.values()
            ended = [self._uploaders.pop(one) for one in list(self._uploaders) if one not in known]
            self._paces = {one: pace for one, pace in self._paces.items() if one in known}
        for one in ended:
            if not one.users:
                one.uploader.close()

    def replaced(self, profile: Profile) -> bool:
        """Whether the credentials have something else under this profile's name by now."""
        self.renew(at_once=True)
        return self.profiles.get(profile.name) != profile

    @contextmanager
    def uploader(self, profile: Profile) -> Iterator[Uploader]:
        """The profile's uploader, the same for every thread."""
        with self._lock:
            if profile not in self._uploaders:
                self._uploaders[profile] = _Lent(self.make_uploader(profile))
            lent = self._uploaders[profile]
            lent.users += 1
        try:
            yield lent.uploader
        finally:
            with self._lock:
                lent.users -= 1
                ended = not lent.users and self._uploaders.get(profile) is not lent
            if ended:
                lent.uploader.close()

    def pace(self, profile: Profile) -> Pace:
        """How many transfers at once the profile's store bears, the same for every thread."""
        with self._lock:
            if profile not in self._paces:
                self._paces[profile] = Pace(profile, self.settings.concurrency, self.clock)
            return self._paces[profile]

    def brief_pause(self, destination: tuple[str, str]) -> float:
        """For how many seconds the destination's files are not even claimed, as its store wants to
        be left alone for no longer than a moment: a backlog would be put off all at once."""
        profile, bucket = destination
        known = self.profiles.get(profile)
        pause = 0.0 if known is None else self.pace(known).pause(bucket)
        return pause if pause <= BRIEF_PAUSE else 0.0

    def heed_haste(self) -> None:
        """Leave no store alone any longer if somebody has asked for that since the last look."""
        asked = queries.hastened_at()
        with self._lock:
            paces = list(self._paces.values()) if asked != self._hastened else []
            self._hastened = asked
        for pace in paces:
            pace.resume()

    def rings_after(self, destination: tuple[str, str], delays: Iterable[float]) -> list[float]:
        """Return after how many seconds to ring for what was put off by so many seconds each: for
        none that a ring on its way comes in time for."""
        with self._lock:
            now = self.clock()
            coming = [each for each in self._rings.get(destination, ()) if each > now]
            seconds = []
            for delay in sorted(set(delays)):
                # A little late, so that what is put off until the same moment needs no other.
                late = delay + min(RING_LATE, max(RING_SOON, delay / 10))
                if not any(now + delay <= each <= now + late for each in coming):
                    seconds.append(late)
                    coming.append(now + late)
            self._rings[destination] = coming
        return seconds

    @cached_property
    def turns(self) -> Turns:
        """Whose records this process claims next."""
        return Turns(
            self.locks,
            able=partial(status_workers.able, self.spool),
            paused=lambda destination: self.brief_pause(destination) > 0.0,
            large=self.settings.multipart_threshold,
            profiles=lambda: self.profiles,
            now=self.now,
        )

    @cached_property
    def rests(self) -> Rests:
        """Which stores fail at what can wait."""
        one = self.settings
        return Rests(one.retry_initial_delay, one.retry_jitter, self.uniform, self.clock)

    @cached_property
    def retention(self) -> Retention:
        """What the owner of the spool wants to keep; it remembers where it was."""
        one = self.settings
        return Retention(
            self.spool,
            one.database,
            Keeping(one.keep_completed, one.keep_failed, one.keep_records),
            now=self.now,
            clock=self.clock,
            stopping=self.stopping,
            running=self.running,
        )

    def at_home(self) -> bool:
        """Whether the spool is there; the log says once when it goes, and when it is back."""
        present = self.spool.present()
        with self._lock:
            changed = present == self._away
            self._away = not present
        if changed:
            log.event(
                logger,
                INFO if present else ERROR,
                "spool is back" if present else "spool is away",
                path=self.spool.root,
                next=None if present else "its files wait; is its disk mounted?",
            )
        return present

    def scarce_pause(self) -> float:
        """For how many seconds files wait that had no descriptor or memory: as a rule other
        attempts of this process have them, and give them back in a moment. While none gets a file
        to its end the pause is as long as that goes on."""
        with self._lock:
            now = self.clock()
            since, last = self._scarce or (now, now)
            if now - last > 2 * SCARCE_MOST:
                since = now  # nobody has waited meanwhile
            self._scarce = since, now
            pause = min(max(now - since, SCARCE_LEAST), SCARCE_MOST)
            if pause <= SCARCE_BRIEFLY:
                self._scarce_until = max(self._scarce_until, now + pause + RING_LATE)
        return pause

    def lacks_briefly(self) -> bool:
        """Whether files wait for descriptors or memory that this process is about to have again."""
        with self._lock:
            return self.clock() < self._scarce_until

    def gets_through(self) -> None:
        """Take down that a file has come to its end, whatever others lack."""
        with self._lock:
            self._scarce = None

    def tell_scarcity(self, reason: str) -> None:
        """Say that files wait for descriptors or memory, unless that was said not long ago."""
        with self._lock:
            silent = self.clock() - self._scarcity_told < SCARCITY_SILENCE
            if not silent:
                self._scarcity_told = self.clock()
        if not silent:
            log.event(
                logger,
                WARNING,
                "short of descriptors or memory",
                reason=reason,
                next="files go fewer at a time: raise ulimit -n, or see what takes the memory",
            )

    def close(self) -> None:
        """Give all connections back."""
        with self._lock:
            for lent in self._uploaders.values():
                lent.uploader.close()
            self._uploaders.clear()
