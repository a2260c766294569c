"""Delivers files into incoming, whole or not at all."""

import errno
import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from logging import INFO, getLogger
from typing import Final

from flood import layout, log, syscalls
from flood.destination import Destination
from flood.errors import FloodError, NoRoomError
from flood.put_copy import Copier, Copy, NotCopied, trouble
from flood.put_outcome import BROKEN, NO_ROOM, OCCUPIED, STOPPED, Delivered
from flood.put_plan import Source, Stopped, batches
from flood.put_rows import Rows
from flood.record_values import Reason
from flood.spool import Occupied, Spool
from flood.states import INCOMING, INCOMING_TMP
from flood.tree import Vanished
from flood.walk import Oddity

#: How long a name that still waits in incoming is waited for, in seconds.
PATIENCE: Final = 5.0
_LOOK: Final = 0.1

#: Flushes at once: a journal takes several in one write.
_FLUSHES: Final = 8

#: Copies that may wait for their turn with a descriptor open, before others are begun.
_HELD: Final = 256

logger = getLogger(__name__)


class Put:
    """One run of flood-put. `clock` is monotonic seconds; `pause` waits for so many seconds, or
    until the stop; `patience` is how long names that wait in incoming are waited for, in seconds;
    `ignores` tells the paths that flood-watch never takes, by their names; `problem` is told why a
    file was not delivered, `delivered` is kept up to date whatever happens. The caller holds the
    put lock."""

    def __init__(
        self,
        spool: Spool,
        destination: Destination,
        copier: Copier,
        rows: Rows,
        delivered: Delivered,
        *,
        patience: float,
        clock: Callable[[], float],
        pause: Callable[[float], None],
        stopping: Callable[[], bool],
        ignores: Callable[[str], bool],
        problem: Callable[[str], None],
    ) -> None:
        self._spool = spool
        self._destination = destination
        self._copier = copier
        self._rows = rows
        self._delivered = delivered
        self._patience = patience
        self._clock = clock
        self._pause = pause
        self._stopping = stopping
        self._ignores = ignores
        self._problem = problem
        #: Copies that lie in incoming_tmp, by path.
        self._open: dict[str, Copy] = {}

    def run(self, sources: Sequence[Source]) -> None:
        """Deliver what can be delivered.

        Raises NoRoomError, Stopped, FloodError; no copy is left behind.
        """
        reason = BROKEN
        try:
            with ThreadPoolExecutor(_FLUSHES) as pool:
                self._run(sources, pool)
        except NoRoomError:
            reason = NO_ROOM
            raise
        except Stopped:
            reason = STOPPED
            raise
        finally:
            self._discard(list(self._open.values()), reason)

    def _run(self, sources: Sequence[Source], pool: ThreadPoolExecutor) -> None:
        later: list[Source] = []
        for batch in batches(sources):
            free, taken = self._parted(batch)
            later += taken
            self._deliver(free, pool)
            if len(self._open) >= _HELD:
                self._wait_for_turn(later, pool)
                later = []
        self._wait_for_turn(later, pool)

    def _wait_for_turn(self, later: list[Source], pool: ThreadPoolExecutor) -> None:
        """Deliver what became occupied while it was copied, and `later`, which was before; refuse
        what still is when the patience ends."""
        deadline = self._clock() + self._patience
        later = self._without_hope(later)
        while True:
            self._move(list(self._open.values()))
            free, later = self._parted(later)
            for batch in batches(free):
                self._deliver(batch, pool)
            if not later and not self._open:
                return
            if self._clock() >= deadline:
                break
            self._pause(_LOOK)
            self._check_stop()
        later = self._without_hope(later)  # whatever came into the way meanwhile
        held = list(self._open.values())
        for source in [*later, *(copy.source for copy in held)]:
            self._delivered.refused += 1
            self._problem(
                f"{source.path}: an earlier file for {self._destination.uri(source.key)}, or for a "
                "part of this path, still waits in incoming: try again later"
            )
        self._discard(held, OCCUPIED)

    def _without_hope(self, later: Sequence[Source]) -> list[Source]:
        """Refuse what no patience helps, copied or not; return the others of `later`."""
        for copy in list(self._open.values()):
            obstacle = self._obstacle(copy.source)
            if obstacle is not None:
                self._fail(NotCopied(f"{copy.source.path}: {obstacle}"), copy)
        hopeful = []
        for source in later:
            obstacle = self._obstacle(source)
            if obstacle is None:
                hopeful.append(source)
            else:
                self._fail(NotCopied(f"{source.path}: {obstacle}"))
        return hopeful

    def _obstacle(self, source: Source) -> str | None:
        """What stands in the way for good, as flood-watch never takes it."""
        parts = self._destination.place(source.key).path.split("/")
        for length in range(1, len(parts) + 1):
            path = "/".join(parts[:length])
            where = self._spool.absolute(path)
            kind = self._spool.oddity(path)
            if kind is not None:
                return f"{where} is a {kind}, which flood-watch leaves alone: remove it"
            if self._spool.identify(path) is None:
                continue
            if layout.parse(path) is None:
                return f"{where} is a file, where a directory is needed: move it away"
            if self._ignores(path):
                return f"{where} is a file whose name flood-watch ignores: rename it"
        return self._never_emptied("/".join(parts))

    def _never_emptied(self, path: str) -> str | None:
        """What lies below the very place, where that is a directory."""
        if not self._spool.exists(path) or self._spool.identify(path) is not None:
            return None
        for found in self._spool.walk(path):
            if isinstance(found, Oddity) or self._ignores(found.path):
                where = self._spool.absolute(found.path)
                return (
                    f"{where}, which flood-watch leaves alone, lies below that name: move it away"
                )
        return None

    def _parted(self, sources: Sequence[Source]) -> tuple[list[Source], list[Source]]:
        """Those whose place in incoming is free, and the others."""
        free: list[Source] = []
        taken: list[Source] = []
        for source in sources:
            (taken if self._occupied(source) else free).append(source)
        return free, taken

    def _occupied(self, source: Source) -> bool:
        path = self._destination.place(source.key).path
        try:
            descriptor = syscalls.open_without_links(self._spool.absolute(path), os.O_PATH)
        except OSError as error:
            return error.errno in (errno.ENOTDIR, errno.ELOOP)
        directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        os.close(descriptor)
        if directory:
            # It may be what is left of files that were taken: S3 has room for a beside a/b.
            self._spool.remove_empty(path)
            self._spool.prune(f"{path}/below")
        return not directory or self._spool.exists(path)

    def _deliver(self, sources: Sequence[Source], pool: ThreadPoolExecutor) -> None:
        copies = []
        for source in sources:
            self._check_stop()
            try:
                copy = self._copier.begin(source)
            except NotCopied as error:
                self._fail(error)
                continue
            self._open[copy.path] = copy
            copies.append(copy)
        self._rows.begin(copies)
        announced = [copy.identity for copy in copies]
        for copy in copies:
            self._check_stop()
            try:
                self._copier.fill(copy)
            except NotCopied as error:
                self._fail(error, copy)
        self._flush(copies, pool)
        self._rows.correct(
            [
                copy
                for copy, identity in zip(copies, announced, strict=True)
                if copy.path in self._open and copy.identity != identity
            ]
        )
        self._move([copy for copy in copies if copy.path in self._open])

    def _flush(self, copies: Sequence[Copy], pool: ThreadPoolExecutor) -> None:
        open_ = [copy for copy in copies if copy.path in self._open]
        flushes = [pool.submit(self._spool.flush, copy.writer) for copy in open_]
        wait(flushes)
        for copy, flush in zip(open_, flushes, strict=True):
            error = flush.exception()
            if isinstance(error, OSError):
                what = trouble(error, copy.source)
                if isinstance(what, NoRoomError):
                    raise what
                self._fail(what, copy)
            copy.close_data()

    def _move(self, copies: Sequence[Copy]) -> None:
        """Rename into incoming; what is occupied stays open."""
        moved = []
        for copy in copies:
            try:
                self._spool.move(copy.path, copy.target)
            except Occupied:
                continue
            except Vanished:
                self._fail(NotCopied(f"{copy.source.path}: somebody removed its copy"), copy)
            except OSError as error:
                both = (os.path.dirname(self._spool.absolute(x)) for x in (copy.path, copy.target))
                what = trouble(error, copy.source, [*both])
                if isinstance(what, NoRoomError):
                    raise what from error
                self._fail(what, copy)
            else:
                del self._open[copy.path]
                copy.close()
                moved.append(copy)
        self._settle(moved)

    def _settle(self, moved: Sequence[Copy]) -> None:
        """Make renames last, then tell everybody."""
        self._flush_directories({os.path.dirname(copy.target) for copy in moved})
        self._rows.arrive(moved)
        for copy in moved:
            self._delivered.files += 1
            self._delivered.size += copy.identity.size
            if copy.record is not None:
                self._delivered.records[copy.record] = copy.source.key
            log.event(
                logger,
                INFO,
                "delivered",
                record=copy.record,
                profile=self._destination.profile,
                bucket=self._destination.bucket,
                key=copy.source.key,
                from_=INCOMING_TMP,
                to=INCOMING,
                size=copy.identity.size,
            )

    def _flush_directories(self, directories: set[str]) -> None:
        try:
            self._spool.flush_directories(directories)
        except FileNotFoundError:
            # The watcher has taken the files already, then somebody a directory that was empty.
            left = {
                each if self._spool.exists(each) else os.path.dirname(each) for each in directories
            }
            self._flush_directories(left)
        except OSError as error:
            raise FloodError(
                f"cannot flush {self._spool.root}: {error.strerror}; the files are there, but may "
                "not survive a power failure"
            ) from error

    def _fail(self, error: NotCopied, copy: Copy | None = None) -> None:
        self._delivered.failed += 1
        self._problem(str(error))
        if copy is not None:
            self._discard([copy], BROKEN._replace(message=layout.text(str(error))))

    def _discard(self, copies: Sequence[Copy], reason: Reason) -> None:
        for copy in copies:
            del self._open[copy.path]
            # The file first: on a full disk the rows need its room.
            with suppress(OSError):
                self._spool.remove(copy.path)
            copy.close()
        self._rows.abandon(copies, reason)

    def _check_stop(self) -> None:
        if self._stopping():
            raise Stopped
