"""Looks over all files with all records, then again at whatever seems wrong."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from flood import fsck_kinds as kinds
from flood import fsck_queries as asking
from flood import layout
from flood.fsck_judge import Directories, Judge, records_named
from flood.fsck_kinds import Finding
from flood.fsck_queries import Recorded
from flood.identity import Identity
from flood.spool import Spool
from flood.states import COMPLETED, FAILED, INCOMING, INCOMING_TMP, PROCESSING, STATES
from flood.temporary import Temporary
from flood.walk import Oddity

#: How often something that keeps moving is looked at before it is left alone.
_LOOKS: Final = 6

#: How many files are judged with one question to the tables.
_BATCH: Final = 300

#: Files below these need a record each.
_WITH_RECORDS: Final = (f"{PROCESSING}/", f"{COMPLETED}/", f"{FAILED}/")


@dataclass
class Suspects:
    """What seemed wrong when everything was looked over in one go."""

    records: set[int] = field(default_factory=set)
    files: set[str] = field(default_factory=set)
    oddities: set[Oddity] = field(default_factory=set)
    #: Pairs of paths of one inode, the one that its way leads to last.
    names: set[tuple[str, str]] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.records or self.files or self.oddities or self.names)


@dataclass
class Counts:
    """How much was looked at: files by state, records."""

    files: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATES, 0))
    records: int = 0


class Listing:
    """What the five directories held when they were listed."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self.files: dict[str, Identity] = {}

    def identify(self, path: str) -> Identity | None:
        """The identity of the regular file at `path`; None if none was there."""
        return self.files.get(path)

    def changed_at(self, path: str) -> datetime | None:
        """When the inode last changed (aware); None if the file is gone."""
        return self._spool.changed_at(path)

    def closed(self, path: str) -> str | None:
        """The directory on the way to `path` that this user may not look into; None if none is."""
        return self._spool.closed(path)


class Survey:
    """One look over a spool, and further ones at what seems wrong, unless the spool is `still`.

    `judge` makes a judge for some directories, by what holds at that moment; `calm` waits until
    the changes that were under way are over, False if they do not end; `ignore` has the patterns of
    names that are left alone; `advance` is told how many
    files and records were looked at.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        judge: Callable[[Directories], Judge],
        calm: Callable[[], bool],
        still: bool,
        ignore: Sequence[str],
        advance: Callable[[int], None],
    ) -> None:
        self._spool = spool
        self._judge = judge
        self._calm = calm
        self._still = still
        self._temporary = Temporary(ignore)
        self._advance = advance
        self.counts = Counts()

    def run(self) -> list[Finding]:
        """Everything that is wrong, and stays so."""
        suspects = self._overlook()
        if self._still:
            return _sorted(self._look(suspects))
        confirmed: list[Finding] = []
        before: frozenset[Finding] = frozenset()
        for _ in range(_LOOKS):
            if not suspects:
                break
            if not self._calm():
                return [Finding(kinds.WRITER_STUCK), *_sorted(confirmed)]
            now = frozenset(self._look(suspects))
            confirmed += now & before
            before = now - before
            suspects = _narrowed(suspects, before)
        return _sorted(confirmed)

    # --- the first look --------------------------------------------------------------------------

    def _overlook(self) -> Suspects:
        suspects = Suspects()
        listing = Listing(self._spool)
        self._list(listing, suspects)
        judge = self._judge(listing)
        left = {path for path in listing.files if path.startswith(_WITH_RECORDS)}
        for page in asking.every():
            for recorded in page:
                finding = judge.record(recorded)
                if finding is not None:
                    suspects.records.add(recorded.row.id)
                _tick_off(recorded, listing.files, left)
            self.counts.records += len(page)
            self._advance(len(page))
        suspects.files |= left
        return suspects

    def _list(self, listing: Listing, suspects: Suspects) -> None:
        names: dict[tuple[int, int], str] = {}
        # What is in the place of one is told as that.
        for state in filter(self._spool.is_directory, STATES):
            for found in self._spool.walk(state):
                if isinstance(found, Oddity):
                    ignored = state == INCOMING and self._temporary.is_in(found.path)
                    if not (found.unreadable and ignored):
                        suspects.oddities.add(found)
                    continue
                self.counts.files[state] += 1
                self._advance(1)
                if self._spool.too_long(found.path):
                    suspects.oddities.add(Oddity(found.path, "too long"))
                    continue
                listing.files[found.path] = found.identity
                if state == INCOMING_TMP or layout.parse(found.path) is None:
                    suspects.files.add(found.path)
                other = names.setdefault((found.identity.device, found.identity.inode), found.path)
                if other != found.path and _below_state(other) == _below_state(found.path):
                    suspects.names.add((other, found.path))

    # --- further looks ---------------------------------------------------------------------------

    def _look(self, suspects: Suspects) -> Iterator[Finding]:
        judge = self._judge(self._spool)
        for recorded in asking.by_id(sorted(suspects.records)).values():
            finding = judge.record(recorded)
            if finding is not None:
                yield finding
        files = sorted(suspects.files)
        for start in range(0, len(files), _BATCH):
            yield from judge_files(judge, files[start : start + _BATCH])
            self._advance(0)
        for oddity in suspects.oddities:
            if self._spool.too_long(oddity.path):
                # Nobody can look at it by its path once more.
                yield Finding(kinds.TOO_LONG, oddity.path)
            elif self._spool.exists(oddity.path):
                kind = kinds.UNREADABLE if oddity.unreadable else kinds.STRANGE
                yield Finding(kind, oddity.path, detail=oddity.kind)
        for earlier, later in suspects.names:
            one, other = self._spool.identify(earlier), self._spool.identify(later)
            if one is not None and one == other:
                yield Finding(kinds.TWO_NAMES, earlier, detail=f"{kinds.ALSO}{later}")


def judge_files(judge: Judge, paths: Sequence[str]) -> Iterator[Finding]:
    """What is wrong with these files; not many at once, as all their records are fetched first."""
    places = [place for place in map(layout.parse, paths) if place is not None]
    ids = [number for path in paths for number in records_named(path)]
    by_inode: dict[tuple[int, int], list[Recorded]] = {}
    for recorded in asking.around(places, ids):
        identity = recorded.row.identity
        by_inode.setdefault((identity.device, identity.inode), []).append(recorded)
    for path in paths:
        finding = judge.file(path, by_inode)
        if finding is not None:
            yield finding


def _tick_off(recorded: Recorded, files: dict[str, Identity], left: set[str]) -> None:
    """Take the record's file from those that are left without one."""
    row = recorded.row
    found = files.get(row.path)
    if found is None or recorded.left_at or not row.path.startswith(_WITH_RECORDS):
        return
    whole = row.state == COMPLETED  # what was proven has not changed since
    same = found == row.identity if whole else found[:2] == row.identity[:2]
    if same and row.path.startswith(f"{row.state}/"):
        left.discard(row.path)


def _narrowed(suspects: Suspects, findings: frozenset[Finding]) -> Suspects:
    """Those suspects that these findings, which may be in motion, came from."""
    paths = {finding.path for finding in findings}
    records = {finding.record for finding in findings}
    return Suspects(
        records=suspects.records & records,
        files=suspects.files & paths,
        oddities={each for each in suspects.oddities if each.path in paths},
        names={each for each in suspects.names if each[0] in paths},
    )


def _sorted(findings: Iterable[Finding]) -> list[Finding]:
    # A record and its file may tell of the same: one is enough.
    once = {(each.kind.name, each.path, each.record): each for each in findings}
    return sorted(once.values(), key=lambda one: (one.path or "", one.record or 0))


def _below_state(path: str) -> str:
    return path.partition("/")[2]
