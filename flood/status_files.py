"""Counts the files that wait outside of the records, in incoming for example."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from flood import layout, obstacle, syscalls
from flood.identity import Identity
from flood.layout import Place
from flood.spool import Spool
from flood.states import FAILED, INCOMING, INCOMING_TMP
from flood.temporary import Temporary
from flood.walk import Found, Oddity


@dataclass(frozen=True)
class Lying:
    """A file with its place; `since` (aware) is when its inode last changed, which is when it got
    there at the latest."""

    place: Place
    identity: Identity
    since: datetime

    @property
    def size(self) -> int:
        """In bytes."""
        return self.identity.size


@dataclass(frozen=True)
class Closed:
    """A directory that this user cannot look into, whatever lies in it; `since` (aware) is when it
    was made, where the filesystem tells that: nothing in it is older."""

    path: str
    since: datetime

    @property
    def waiting(self) -> Place | None:
        """Its profile and bucket, with the beginning of the keys that lie in it, a slash at its
        end; None outside of incoming, or above the buckets."""
        place = layout.parse(f"{self.path}/*")
        if place is None or place.state != INCOMING:
            return None
        return place._replace(key=place.key.removesuffix("*"))


@dataclass
class Ignored:
    """Files whose names say that they are still being written; the `oldest` by its path, with the
    moment (aware) that it is there `since` at the latest."""

    files: int = 0
    oldest: str | None = None
    since: datetime | None = None

    def add(self, found: Found) -> None:
        """Count one more."""
        self.files += 1
        since = _changed(found)
        if self.since is None or since < self.since:
            self.oldest, self.since = found.path, since


@dataclass
class Files:
    """What lies where; `misplaced` are those of `incoming` above the buckets, `ignored` those that
    fit a pattern; `back` those that
    cannot go on, each with the path of what is in its way in processing, such as an earlier file of
    the same key; `whole` is False where the time did not suffice for all of them, or some are in
    directories that are `closed`."""

    copying: list[Lying] = field(default_factory=list)
    incoming: list[Lying] = field(default_factory=list)
    back: list[tuple[Lying, str]] = field(default_factory=list)
    failed: list[Lying] = field(default_factory=list)
    closed: list[Closed] = field(default_factory=list)
    misplaced: list[str] = field(default_factory=list)
    ignored: Ignored = field(default_factory=Ignored)
    whole: bool = True

    def without(self, taken: Collection[tuple[Place, Identity]]) -> "Files":
        """The same but for these files of `incoming`."""
        if not taken:
            return self
        incoming = [one for one in self.incoming if (one.place, one.identity) not in taken]
        back = [one for one in self.back if (one[0].place, one[0].identity) not in taken]
        return replace(self, incoming=incoming, back=back)


def look(spool: Spool, ignore: Sequence[str], clock: Callable[[], float], seconds: float) -> Files:
    """Walk the directories for so many seconds of `clock` at most, each for its share of what is
    left; names that fit one of the patterns of `ignore` are none of flood's."""
    files = Files()
    end = clock() + seconds
    temporary = Temporary(ignore)
    walks = ((INCOMING, files.incoming), (FAILED, files.failed), (INCOMING_TMP, files.copying))
    for number, (state, lying) in enumerate(walks):
        now = clock()
        deadline = now + (end - now) / (len(walks) - number)
        for found in spool.walk(state):
            if isinstance(found, Oddity):
                ignored = state == INCOMING and temporary.is_in(found.path)
                if found.unreadable and not ignored:
                    files.closed.append(closed(spool, found.path))
                    files.whole = False
                continue
            one = placed(found)
            if state == INCOMING and temporary.fits(found.path):
                files.ignored.add(found)
            elif one is not None:
                lying.append(one)
                path = _in_the_way(spool, one) if state == INCOMING else None
                if path is not None:
                    files.back.append((one, path))
            elif state == INCOMING:
                files.misplaced.append(found.path)
            if clock() > deadline:
                files.whole = False
                break
    return files


def placed(found: Found) -> Lying | None:
    """What a walk has met, with its place; None where it has none."""
    place = layout.parse(found.path)
    if place is None:
        return None
    return Lying(place, found.identity, _changed(found))


def _changed(found: Found) -> datetime:
    return datetime.fromtimestamp(found.changed, timezone.utc)


def left(spool: Spool, files: Files) -> list[tuple[Place, Identity]]:
    """Those files of `incoming` that do not lie there any more."""
    return [
        (one.place, one.identity)
        for one in files.incoming
        if spool.identify(one.place.path) != one.identity
    ]


def closed(spool: Spool, path: str) -> Closed:
    born = syscalls.birth_time(spool.absolute(path))
    made = None if born is None else datetime.fromtimestamp(born, timezone.utc)
    # Whatever comes into it changes the directory: it would never grow old while files come.
    return Closed(path, made or spool.changed_at(path) or datetime.now(timezone.utc))


def _in_the_way(spool: Spool, one: Lying) -> str | None:
    path = obstacle.in_the_way(spool, one.place)
    # That may be this very file, which was taken in between.
    return path if path and spool.identify(one.place.path) == one.identity else None
