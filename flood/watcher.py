"""Follows a directory tree through inotify, telling which files may have arrived."""

import errno
import os
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from logging import ERROR, WARNING, getLogger
from typing import Any, Final

from inotify_simple import INotify, flags

from flood import directories, inotify_limits, log
from flood.spool import Spool
from flood.tree import TOO_LONG

logger = getLogger(__name__)

_MASK: Final = (
    flags.CLOSE_WRITE
    | flags.MOVED_TO
    | flags.MOVED_FROM
    | flags.CREATE
    | flags.DELETE_SELF
    | flags.ONLYDIR
    | flags.DONT_FOLLOW
)
# Which limit of the kernel's an error means, with what it counts.
_KNOBS: Final = {
    errno.ENOSPC: (inotify_limits.WATCHES, "directories"),
    errno.EMFILE: (inotify_limits.INSTANCES, "trees"),
}
_GONE: Final = flags.IGNORED | flags.DELETE_SELF | flags.UNMOUNT


#: As many events as the kernel keeps for a reader by default (fs.inotify.max_queued_events).
ENOUGH: Final = 16_384

# A directory that cannot be read is looked at so often, so many seconds apart; there are seldom
# more than a few of them. After that it is left to re-scans.
_LOOKS: Final = 60
_LOOK: Final = 1.0
_DENIED_AT_MOST: Final = 100

_CLOSED: Final = "give flood's user all rights to it: flood-check says how"


@dataclass
class News:
    """What a look at the events has brought: files (each with whether its writer has closed it),
    files that somebody has begun, directories to be scanned, whether anything was missed."""

    files: dict[str, bool] = field(default_factory=dict)
    begun: dict[str, None] = field(default_factory=dict)
    directories: dict[str, None] = field(default_factory=dict)
    overflow: bool = False
    root_gone: bool = False


class Watcher:
    """inotify watches on every directory below one directory of the spool.

    `seen` is told of each directory that a scan finds; what cannot be looked at in one that is
    `ignored` is passed over without a word. Without any watch, as when the kernel's
    limits are reached, `complete` is False and only scans find what arrives.
    """

    def __init__(
        self,
        spool: Spool,
        root: str,
        seen: Callable[[str], None] = lambda _directory: None,
        ignored: Callable[[str], bool] = lambda _directory: False,
    ) -> None:
        self._spool = spool
        self._root = root
        self._seen = seen
        self._ignored = ignored
        self._paths: dict[int, str] = {}
        self._watches: dict[str, int] = {}
        self._events: INotify | None = None
        #: Directories that could not be watched, with how often they are looked at.
        self._denied: dict[str, int] = {}
        self._next_look = 0.0
        self._said: set[tuple[str, int | None]] = set()
        self.complete = True
        self._open()

    def _open(self) -> None:
        try:
            self._events = INotify(nonblocking=True)
        except OSError as error:
            self._limited(error, self._root)

    def fileno(self) -> int:
        """The descriptor that becomes readable with events; -1 without inotify."""
        return -1 if self._events is None else int(self._events.fileno())

    def close(self) -> None:
        """Give all watches back."""
        if self._events is not None:
            self._events.close()
            self._events = None

    def watch(self, directory: str) -> bool:
        """Watch one directory; False if it is gone. Set the watch before listing the directory, or
        what arrives in between is missed."""
        if self._events is None:
            return True
        try:
            mask = _MASK | flags.MOVE_SELF if directory == self._root else _MASK
            watch = self._events.add_watch(self._spool.absolute(directory), mask)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return False
            self._limited(error, directory)
            return True
        # A directory that was renamed keeps its watch: what was remembered of it is overwritten.
        old = self._paths.get(watch)
        if old is not None and old != directory and self._watches.get(old) == watch:
            del self._watches[old]
        self._paths[watch] = directory
        self._watches[directory] = watch
        return True

    def scan(self, directory: str) -> Generator[str, None, None]:
        """Every file and oddity below a directory, each directory being watched before it is
        listed. What vanishes meanwhile is passed over."""
        if directory == self._root:
            self.complete = True  # until a limit says otherwise; it may have been raised
            if self._events is None:
                self._open()
        waiting = [directory]
        while waiting:
            current = waiting.pop()
            if not self.watch(current):
                continue
            self._seen(current)
            try:
                with directories.listed(self._spool.absolute(current)) as entries:
                    for entry in entries:
                        path = f"{current}/{entry.name}"
                        if _is_directory(entry):
                            waiting.append(path)
                        else:
                            yield path
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    continue
                if self._first_time(current, error):
                    log.event(
                        logger, WARNING, "cannot read directory", path=current, error=error.strerror
                    )

    def read(self) -> News:
        """Everything that has happened since the last call, without waiting.

        Events are read before any work is done on them, so that the kernel's queue has room; yet no
        more than ENOUGH, as a busy producer makes them faster than they are read.
        """
        news = News()
        if self._events is None:
            return news
        self._look_again(news)
        events: list[_Event] = []
        while len(events) < ENOUGH and (more := self._events.read(timeout=0)):
            events += more
        for event in events:
            self._note(event, news)
        return news

    def _look_again(self, news: News) -> None:
        """Have directories that could not be watched scanned once they can be."""
        now = time.monotonic()
        if not self._denied or now < self._next_look:
            return
        self._next_look = now + _LOOK
        for directory, looks in list(self._denied.items()):
            if os.access(self._spool.absolute(directory), os.R_OK, effective_ids=True):
                news.directories[directory] = None
                looks = 0
            if looks > 1:
                self._denied[directory] = looks - 1
            else:
                del self._denied[directory]  # to a re-scan

    def _note(self, event: "_Event", news: News) -> None:
        if event.mask & flags.Q_OVERFLOW:
            news.overflow = True
            return
        directory = self._paths.get(event.wd)
        if directory is None:
            return
        if event.mask & _GONE:
            del self._paths[event.wd]
            if self._watches.get(directory) == event.wd:
                del self._watches[directory]
            news.root_gone = news.root_gone or directory == self._root
            return
        if event.mask & flags.MOVE_SELF:
            self._forget(directory)
            news.root_gone = True
            return
        path = f"{directory}/{event.name}"
        if event.mask & flags.ISDIR:
            if event.mask & flags.MOVED_FROM:
                self._forget(path)
                _drop(news, path)
            elif event.mask & (flags.CREATE | flags.MOVED_TO):
                news.directories[path] = None
        elif event.mask & flags.MOVED_FROM:
            news.files.pop(path, None)
            news.begun.pop(path, None)
        elif event.mask & flags.CREATE:
            # Most often its close follows at once; a hard link has no other event.
            news.begun[path] = None
        elif event.mask & (flags.CLOSE_WRITE | flags.MOVED_TO):
            news.begun.pop(path, None)
            news.files[path] = bool(event.mask & flags.CLOSE_WRITE)

    def _forget(self, directory: str) -> None:
        """Drop the watches below a directory that was moved away. If it went to another place in
        the tree, the scan of that place sets them again."""
        below = f"{directory}/"
        for path in [p for p in self._watches if p == directory or p.startswith(below)]:
            watch = self._watches.pop(path)
            self._paths.pop(watch, None)
            try:
                if self._events is not None:
                    self._events.rm_watch(watch)
            except OSError:
                pass  # the directory is deleted already

    def _first_time(self, about: str, error: OSError) -> bool:
        if self._ignored(about):
            return False
        if len(self._said) > 10_000:
            self._said.clear()
        known = (about, error.errno) in self._said
        self._said.add((about, error.errno))
        return not known

    def _limited(self, error: OSError, directory: str) -> None:
        if error.errno not in _KNOBS:
            # Out of reach, perhaps only until whoever made it has given it its mode.
            if len(self._denied) < _DENIED_AT_MOST:
                self._denied.setdefault(directory, _LOOKS)
            if self._first_time(directory, error):
                told = TOO_LONG if error.errno == errno.ENAMETOOLONG else error.strerror
                then = _CLOSED if isinstance(error, PermissionError) else None
                log.event(logger, ERROR, "cannot watch", path=directory, error=told, next=then)
            return
        self.complete = False
        name, purpose = _KNOBS[error.errno]
        limit = inotify_limits.limit(name)
        # Of a limit that was raised, and reached again, somebody has to hear once more.
        if not self._first_time(f"{limit.knob}={limit.value}", error):
            return
        tree = self._spool.absolute(self._root)
        wanted = sum(1 for _ in os.walk(tree)) if error.errno == errno.ENOSPC else 0
        log.event(
            logger,
            ERROR,
            "cannot watch every directory",
            path=directory,
            reason=f"this user may watch {limit.value or 0} {purpose}: until that is raised, files "
            "are found by scanning, more slowly",
            run=limit.raise_to(2 * wanted),
        )


class _Event:
    """What inotify_simple, which has no types, answers."""

    wd: int
    mask: int
    name: str


def _is_directory(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _drop(news: News, directory: str) -> None:
    below = f"{directory}/"
    every: tuple[dict[str, Any], ...] = (news.files, news.begun, news.directories)
    for known in every:
        for path in [p for p in known if p == directory or p.startswith(below)]:
            del known[path]
