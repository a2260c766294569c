"""Decides whether a file in incoming may be taken."""

import os
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from enum import Enum
from logging import WARNING, getLogger
from typing import Final, NamedTuple

from flood import layout, log, models, syscalls
from flood.database_files import is_own
from flood.identity import Identity, identity_of
from flood.layout import Place
from flood.profiles import may_be_named
from flood.spool import Spool
from flood.states import PROCESSING
from flood.temporary import Temporary
from flood.tree import TOO_LONG, NotRegular, Vanished

#: How long a file that cannot be probed must stand still before it counts as closed, in seconds.
STANDSTILL: Final = 2.0

#: The same for a file that was seen being created, whose close will most likely be seen as well.
BEGUN_STANDSTILL: Final = 300.0

#: After so many seconds a file under a temporary name may have been forgotten.
FORGOTTEN: Final = 3600.0

logger = getLogger(__name__)


class Why(Enum):
    """Why a file in incoming is not taken now."""

    WRITING = "somebody has it open for writing"
    STANDSTILL = "it must stand still, as nobody can tell whether it is open for writing"
    OCCUPIED = (
        "its place in processing is taken, as a rule by an earlier file of its key that is still "
        "being worked on: flood-status says by what"
    )
    LINKED = (
        "it has a second name (hard link), which this kernel lets every user give to any file: "
        "remove the other names, or run sysctl fs.protected_hardlinks=1"
    )
    ERROR = "it cannot be moved"


class Candidate(NamedTuple):
    """A file in incoming that may be taken; `closed` if an event said that its writer closed it,
    `begun` if one said that it was created, after which a close should follow; `ahead` if it was
    there at start-up, so that its row may have run ahead."""

    path: str
    closed: bool = False
    begun: bool = False
    ahead: bool = False


class Door:
    """What stands between incoming and processing.

    `profiles` answers which profiles the credentials have now, `ignore` has shell patterns of names
    that are not taken, `now` answers aware times, `links_guarded` whether the kernel sees to it
    that nobody makes a hard link to what he could not read.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        profiles: Callable[[], Collection[str]],
        ignore: Sequence[str],
        now: Callable[[], datetime],
        links_guarded: Callable[[], bool] = syscalls.hard_links_guarded,
    ) -> None:
        self._spool = spool
        self._profiles = profiles
        self._temporary = Temporary(ignore)
        self._now = now
        self._links_guarded = links_guarded
        self._warned: set[tuple[str, str]] = set()

    def ignores(self, path: str) -> bool:
        """Whether this is a name that some program uses while it writes."""
        return self._temporary.fits(path)

    def ignores_all_in(self, directory: str) -> bool:
        """Whether nothing in this directory is taken, whatever its name."""
        return self._temporary.is_in(directory)

    def look(
        self, candidate: Candidate, still: Identity | None
    ) -> tuple[Place, Why | None, Identity | None] | None:
        """Whether the file can be taken: its place, why not yet, its identity; None if it is not
        flood's to take.

        `still` is the identity that it had STANDSTILL seconds ago, where that is known.
        """
        path = candidate.path
        if self._spool.too_long(path):
            self.leave(path, TOO_LONG)
            return None
        if self.ignores(path):
            self._leave_ignored(path)
            return None
        place = layout.parse(path)
        if place is None:
            self.leave(path, "it must lie below incoming/PROFILE/BUCKET/: move it there")
            return None
        if place.profile not in self._profiles():
            remedy = "no profile can have that name, move it below one that they have"
            if may_be_named(place.profile):
                remedy = "add it to their file"
            self.leave(path, f"the credentials have no profile '{place.profile}': {remedy}")
            return None
        target = place.moved(PROCESSING).path
        if not self._spool.vacant(target):
            # Where it is itself in processing already there is nothing to wait for.
            return (place, Why.OCCUPIED, None) if self._spool.exists(path) else None
        if self._is_database(path):
            self.leave(path, "it is flood's own database under another name: remove it")
            return None
        try:
            descriptor, identity = self._spool.open(path)
        except Vanished:
            return None
        except NotRegular:
            self.leave(path, "it is no regular file")
            return None
        except OSError as error:
            # Unreadable: it is taken all the same, so that its failure is recorded.
            known = self._spool.identify(path)
            if known is None:
                self.leave(path, f"it cannot be looked at: {error.strerror}")
                return None
            writing, identity = None, known
        else:
            try:
                writing = syscalls.open_for_writing(descriptor)
                status = os.fstat(descriptor)
            finally:
                os.close(descriptor)
            identity = identity_of(status)
            if status.st_nlink > 1 and not self._links_guarded():
                return place, Why.LINKED, identity
        if writing:
            return place, Why.WRITING, identity
        if writing is None and not candidate.closed and identity != still:
            return place, Why.STANDSTILL, identity
        return place, None, identity

    def _is_database(self, path: str) -> bool:
        absolute = self._spool.absolute(path)
        try:
            status = os.lstat(absolute)
        except OSError:
            return False
        return status.st_nlink > 1 and is_own(models.path(), absolute, status)

    def tell_of_oddity(self, path: str) -> None:
        """Say so if what keeps a file of incoming waiting is nothing that ends by itself."""
        place = layout.parse(path)
        target = path if place is None else place.moved(PROCESSING).path
        kind = self._spool.oddity(target)
        if kind is not None:
            self.leave(
                target,
                f"it is no regular file but a {kind}: files of this name wait until it is removed",
            )

    def leave(self, path: str, reason: str) -> None:
        """Say once why a file stays where it is."""
        if (path, reason) in self._warned:
            return
        if len(self._warned) > 10_000:
            self._warned.clear()
        self._warned.add((path, reason))
        log.event(logger, WARNING, "left alone", path=path, reason=reason)

    def _leave_ignored(self, path: str) -> None:
        """A name that programs use while they write is left without a word, for an hour."""
        identity = self._spool.identify(path)
        if identity is not None and self._now().timestamp() - identity.mtime_ns / 1e9 > FORGOTTEN:
            self.leave(
                path,
                "its name says that it is still being written, yet it has not changed for an hour:"
                " rename it, or take the pattern back (--ignore '!PATTERN')",
            )
