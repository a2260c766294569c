"""Follows a directory tree through inotify, telling which files may have arrived."""

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from logging import ERROR, WARNING, getLogger
from typing import Final

from inotify_simple import INotify, flags

from flood import directories, inotify_limits, log
from flood.scans import Scan
from flood.spool import Spool
from flood.tree import TOO_LONG
from flood.watches import Watches

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
    #: Which of these lie in each directory.
    _in: dict[str, set[str]] = field(default_factory=dict)

    def began(self, directory: str, path: str) -> None:
        """A file has been made: what had its name before is gone."""
        self.files.pop(path, None)
        self.begun[path] = None
        self._in.setdefault(directory, set()).add(path)

    def came(self, directory: str, path: str, *, closed: bool) -> None:
        """A file may have arrived."""
        self.begun.pop(path, None)
        self.files[path] = closed
        self._in.setdefault(directory, set()).add(path)

    def appeared(self, directory: str, path: str) -> None:
        """A directory is to be scanned."""
        self.directories[path] = None
        self._in.setdefault(directory, set()).add(path)

    def left(self, path: str) -> None:
        """A file was moved away. One that was moved here before stays: they may have been
        exchanged, of which the one that came is told first (renameat2(2))."""
        self.begun.pop(path, None)
        if self.files.get(path):
            del self.files[path]

    def forget(self, directory: str) -> None:
        """The directory is somewhere else now, with what lies in it."""
        for path in self._in.pop(directory, ()):
            self.files.pop(path, None)
            self.begun.pop(path, None)
            self.directories.pop(path, None)


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
        self._watches = Watches()
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
        before = self._watches.add(directory, watch)
        if before is not None and directory != self._root:
            self._give_back(before)  # the root's own has yet to tell that it was taken away
        return True

    def scan(self, directory: str) -> Scan:
        """Every file and oddity below a directory, each directory being watched before it is
        listed; None for a step without any. What vanishes meanwhile is passed over."""
        if directory == self._root:
            self.complete = True  # until a limit says otherwise; it may have been raised
            if self._events is None:
                self._open()
        waiting = [directory]
        while waiting:
            current = waiting.pop()
            yield None
            if not self.watch(current):
                continue
            self._seen(current)
            try:
                with directories.listed(self._spool.absolute(current)) as entries:
                    for entry in entries:
                        path = f"{current}/{entry.name}"
                        if _is_directory(entry):
                            waiting.append(path)
                            yield None
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
        directory = self._watches.directory(event.wd)
        if directory is None:
            return
        if event.mask & _GONE:
            self._watches.remove(event.wd)
            news.root_gone = news.root_gone or directory == self._root
            return
        if event.mask & flags.MOVE_SELF:
            self._forget(directory, news)
            news.root_gone = True
            return
        path = f"{directory}/{event.name}"
        if event.mask & flags.ISDIR:
            if event.mask & flags.MOVED_FROM:
                self._forget(path, news)
                news.directories.pop(path, None)
                if self._spool.is_directory(path):
                    # Exchanged for that one (renameat2(2)), which was told of before.
                    news.appeared(directory, path)
            elif event.mask & (flags.CREATE | flags.MOVED_TO):
                news.appeared(directory, path)
        elif event.mask & flags.MOVED_FROM:
            news.left(path)
        elif event.mask & flags.CREATE:
            # Most often its close follows at once; a hard link has no other event.
            news.began(directory, path)
        elif event.mask & (flags.CLOSE_WRITE | flags.MOVED_TO):
            news.came(directory, path, closed=bool(event.mask & flags.CLOSE_WRITE))

    def _forget(self, directory: str, news: News) -> None:
        """Drop what is known of a directory that was moved away, and of all below it. If it went to
        another place in the tree, the scan of that place sets the watches again."""
        for below, watch in self._watches.remove_all(directory):
            news.forget(below)
            self._give_back(watch)

    def _give_back(self, watch: int) -> None:
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
