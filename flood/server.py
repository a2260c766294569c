"""Server mode: takes up what waits, then follows what arrives."""

import select
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from logging import ERROR, INFO, WARNING, getLogger
from typing import Final

from flood import layout, log, models
from flood.door import Candidate, Why
from flood.errors import NoRoomError, SpoolError
from flood.heard import Heard
from flood.identity import Identity
from flood.intake import BATCH, Intake
from flood.later import Later
from flood.scans import Scans
from flood.seldom import Seldom
from flood.spool import Spool
from flood.states import INCOMING, PROCESSING
from flood.stop import Stop
from flood.walk import Found, Oddity
from flood.watcher import Watcher

#: Seconds between scans where not every directory can be watched.
LIMITED_RESCAN: Final = 30.0

#: What part of the time the scans of processing may take: they find what power failures and people
#: left there, and a backlog of a million files takes minutes.
SCANS: Final = 0.05

#: Seconds until another try after the database, or the disk, refused a batch.
TROUBLE_PAUSE: Final = 2.0

logger = getLogger(__name__)


class Server:
    """The loop of flood-watch.

    `check` raises SpoolError or NoRoomError while nothing may be taken in; `clock` is monotonic
    seconds; `tick` is called about every second, and after each batch.
    """

    def __init__(
        self,
        spool: Spool,
        intake: Intake,
        *,
        check: Callable[[], None],
        profiles: Callable[[], Collection[str]],
        rescan_interval: float,
        clock: Callable[[], float],
        stop: Stop,
        tick: Callable[[], None],
    ) -> None:
        self._spool = spool
        self._intake = intake
        self._check = check
        self._profiles = profiles
        self._rescan_interval = rescan_interval
        self._clock = clock
        self._stop = stop
        self._tick = tick
        ignored = intake.door.ignores_all_in
        self._watcher = Watcher(spool, INCOMING, self._prepare_bucket, ignored)
        self._prepared: set[str] = set()
        self._later = Later()
        self._heard = Heard()
        self._scans = Scans(self._watcher.scan)
        self._takes: Iterator[Found | None] | None = None
        self._taking = Seldom(SCANS)
        self._scanned = 0.0
        #: Until all that lay there has been taken up.
        self._starting = True
        self._trouble_until = 0.0
        self._in_trouble = False
        self._lost = False

    def prepare(self) -> None:
        """Create the directories of every profile, with those of every bucket seen in any state."""
        self._leave(self._spool.prepare_destinations(self._profiles()))

    def renew(self) -> None:
        """There are other profiles: have their directories made, and all of incoming looked at."""
        self._lost = True

    def _leave(self, refused: Iterable[tuple[str, str]]) -> None:
        """What stands in the way of one destination is a line in the log: the others go on, and
        moves make the directories that they need."""
        for path, reason in refused:
            self._intake.door.leave(path, reason)

    def run(self) -> None:
        """Take up processing and incoming, follow events meanwhile, then until the stop."""
        try:
            self._rescan(at_once=True)
            while not self._stop.is_set():
                self._wait()
                self._turn()
                self._tick()
        finally:
            self._watcher.close()
            models.close()

    def _begin_taking(self) -> None:
        self._taking.begins(self._clock())
        self._takes = self._in_processing()

    def _in_processing(self) -> Iterator[Found | None]:
        """The files there; None for a step without any."""
        for found in self._spool.steps(PROCESSING):
            if isinstance(found, Oddity):
                self._intake.turn_away(found)
                yield None
            else:
                yield found

    def _take_up_some(self) -> None:
        self._intake.take_up_stranded()
        if self._takes is None:
            return
        try:
            batch = list(islice(self._takes, BATCH))
            self._intake.take_up([found for found in batch if found is not None])
        except BaseException:
            # The batch is lost to the walk: it begins afresh, later with a scan.
            self._takes = self._in_processing() if self._starting else None
            raise
        if not batch:
            self._takes = None
            self._taking.ends(self._clock())

    # --- one turn of the loop ------------------------------------------------------------------

    def _turn(self) -> None:
        now = self._clock()
        if now < self._trouble_until:
            return
        if now >= self._next_scan() and not self._scans:
            self._rescan()
        if self._guarded(lambda: self._take(now)) is None:
            # Nothing is forgotten: a scan finds all that was not taken, in whatever number.
            self._heard.clear()
            self._scans.clear()
            self._scans.add(INCOMING)
        elif self._starting and not self._scans and self._takes is None:
            self._starting = False
            log.event(logger, INFO, "caught up", waiting=len(self._later))

    def _take(self, now: float) -> None:
        """Take some of what came, then look at some of processing, which holds up no newer file: of
        one key the older one is in its way there, with a record or without."""
        try:
            self._check()
        except SpoolError:
            self._lost = True
            raise
        except NoRoomError:
            self._take_up_some()  # that has been taken in already
            raise
        if self._lost:
            self._restore()
        self._admit(self._batch(now))
        self._take_up_some()

    def _admit(self, batch: list[tuple[Candidate, Identity | None]]) -> None:
        self._intake.take_up_stranded()
        result = self._intake.admit(batch)
        now = self._clock()
        waiting = {candidate.path for candidate, _, _ in result.later}
        for candidate, _ in batch:
            if candidate.path not in waiting:
                self._later.forget(candidate.path)
        for candidate, why, identity in result.later:
            self._later.add(candidate, why, identity, now)
            # What is odd in processing is turned away while it starts.
            if why is Why.OCCUPIED and not self._starting:
                self._intake.door.tell_of_oddity(candidate.path)

    def _batch(self, now: float) -> list[tuple[Candidate, Identity | None]]:
        chosen: dict[str, tuple[Candidate, Identity | None]] = {}
        for candidate, still in self._later.due(now)[:BATCH]:
            chosen[candidate.path] = (candidate, still)
        for path, closed in self._heard.take(BATCH).items():
            candidate = Candidate(path, closed, ahead=self._starting)
            chosen[path] = (candidate, self._later.still(path, now))
        steps = len(chosen)
        while self._scans:
            some = self._scans.some()
            for found in some:
                if found is not None and found not in self._later:
                    chosen.setdefault(found, (Candidate(found, ahead=self._starting), None))
            steps += len(some)
            # Asked afterwards: a busy producer's events alone might fill each batch.
            if steps >= BATCH:
                break
        return list(chosen.values())

    def _next_scan(self) -> float:
        # Asked each time, as a limit may be reached, or raised, at any time.
        interval = self._rescan_interval
        if not self._watcher.complete:
            interval = min(interval, LIMITED_RESCAN)
        return self._scanned + interval

    def _rescan(self, *, at_once: bool = False) -> None:
        """Look through incoming, and through processing if that may be done again, or `at_once`."""
        self._scanned = self._clock()
        self._prepared.clear()
        self._scans.add(INCOMING)
        if at_once or (self._takes is None and self._taking.may_begin(self._scanned)):
            self._begin_taking()

    def _hear(self) -> None:
        news = self._watcher.read()
        self._heard.add(news.files)
        now = self._clock()
        for path in news.begun:
            if path not in self._later and not self._intake.door.ignores(path):
                self._later.add(Candidate(path, begun=True), Why.WRITING, None, now)
        for directory in news.directories:
            self._scans.add(directory)
        if news.overflow:
            log.event(logger, WARNING, "missed events", next="everything is scanned")
            self._later.doubt()
        if news.root_gone:
            log.event(logger, ERROR, "incoming was taken away", next="it is created again")
            self._lost = True
        if news.overflow or news.root_gone:
            self._scans.add(INCOMING)

    def _restore(self) -> None:
        """The directories were away, or without their profile; what lies in them now was heard of
        by nobody."""
        self._spool.prepare()
        self.prepare()
        self._lost = False
        self._rescan(at_once=True)

    def _prepare_bucket(self, directory: str) -> None:
        parts = directory.split("/")
        if len(parts) != 3 or directory in self._prepared:
            return
        if parts[1] in self._profiles() and layout.is_name(parts[2]):
            self._prepared.add(directory)
            self._leave(self._spool.prepare_destination(parts[1], parts[2]))

    def _wait(self) -> None:
        now = self._clock()
        busy = self._heard or self._scans or self._takes is not None
        if busy and now >= self._trouble_until:
            seconds = 0.0
        else:
            next_look = self._later.next_look()
            due = [now + 1.0, self._next_scan(), *([] if next_look is None else [next_look])]
            seconds = max(0.0, min(due) - now, self._trouble_until - now)
        poller = select.poll()
        poller.register(self._stop.fileno(), select.POLLIN)
        if self._watcher.fileno() >= 0 and now >= self._trouble_until:
            poller.register(self._watcher.fileno(), select.POLLIN)
        poller.poll(seconds * 1000)
        self._hear()

    def _guarded(self, step: Callable[[], None]) -> bool | None:
        """Run a step; None if the database or the disk refused it, which is logged once until it
        has worked again."""
        try:
            step()
        except (models.DatabaseError, OSError, SpoolError, NoRoomError) as error:
            self._trouble_until = self._clock() + TROUBLE_PAUSE
            if not self._in_trouble:
                self._in_trouble = True
                log.event(
                    logger,
                    ERROR,
                    "cannot take files in",
                    error=type(error).__name__,
                    reason=models.explain(error),
                    next="they wait in incoming, and are tried again every two seconds",
                )
            return None
        if self._in_trouble:
            self._in_trouble = False
            log.event(logger, INFO, "takes files in again")
        return True
