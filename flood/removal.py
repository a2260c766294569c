"""Deletes files of completed or failed whose time is over."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from logging import INFO, WARNING, getLogger
from typing import Final

from flood import departures, layout, log, models
from flood.columns import utc_text
from flood.departures import GONE, REMOVED, Lying
from flood.identity import Identity
from flood.record_values import Row
from flood.spool import Spool, flush_database
from flood.states import COMPLETED, FAILED
from flood.tree import NotRegular, Vanished

#: How many files one transaction takes, each with a descriptor; other writers wait meanwhile.
BATCH: Final = 100

_ALTERED: Final = "it is not the file of its record any more"
_UNPROVEN: Final = "its record has no receipt of the store"

logger = getLogger(__name__)


@dataclass
class Pruned:
    """What one run has done, or would do."""

    #: Files that were deleted, by state, and their bytes.
    files: dict[str, int] = field(default_factory=lambda: {COMPLETED: 0, FAILED: 0})
    size: int = 0
    #: Files among them whose records could not say so, as on a full disk.
    unnoted: int = 0
    records: int = 0
    directories: int = 0
    #: Files whose time is over, yet stay: each reason with how many there are.
    stay: dict[str, int] = field(default_factory=dict)
    #: Files that could not be deleted, with the reason.
    failed: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Due:
    """A file whose time is over, held by its descriptor."""

    lying: Lying
    identity: Identity
    descriptor: int


class Removal:
    """Deletes files of one spool with its `database`. `keep` is for how long those of each state
    are kept, `keep_records` for how long the records of those that are gone, in seconds, None for
    ever. `now` answers aware times; `spare` why nothing of failed goes for its age by that time,
    None if it may; `told` is shown each path that is deleted.

    First the row says that the file is settled, with the store's receipt if it is in completed, on
    the disk; then the very file is deleted; then the row says so. Who dies before that leaves a
    row whose file is not there, as somebody else may, at any time: the next run notes that.

    What it does raises SpoolError while the spool is away, what the database raises, OSError.
    """

    def __init__(
        self,
        spool: Spool,
        database: str,
        keep: Mapping[str, float | None],
        keep_records: float | None,
        *,
        now: Callable[[], datetime],
        spare: Callable[[datetime], str | None],
        told: Callable[[str], None],
    ) -> None:
        self._spool = spool
        self._database = database
        self._keep = keep
        self._keep_records = keep_records
        self._now = now
        self._spare = spare
        self._told = told

    def take(self, state: str, page: Sequence[Lying], pruned: Pruned) -> None:
        """Delete those files of a page whose time is over, and note which are gone."""
        with self.looked(state, page, pruned) as (due, missing):
            if due:
                flush_database(self._database)
            if due or missing:
                self._settle(state, due, missing, pruned)

    @contextmanager
    def looked(
        self, state: str, page: Sequence[Lying], pruned: Pruned
    ) -> Iterator[tuple[list[Due], list[Lying]]]:
        """Those files of a page whose time is over, each held, and those records whose file is not
        there, which is news."""
        # The clock is looked at after the page, so that it tells of a leap at which one of these
        # was settled; and at the very moment by which they are judged.
        now = self._now()
        spared = self._spare(now) if state == FAILED else None
        limit, late = _limit(now, self._keep[state]), _limit(now, self._keep_records)
        due: list[Due] = []
        missing: list[Lying] = []
        others: list[tuple[Lying, Identity]] = []
        with ExitStack() as stack:
            for one in page:
                if not _came(one, state):
                    missing += [one] if one.settled <= late else []
                    continue
                over = one.since <= limit
                try:
                    descriptor, identity = self._spool.hold(one.row.path)
                except Vanished:
                    missing.append(one)
                    continue
                except (NotRegular, OSError) as error:
                    if over:
                        reason = getattr(error, "strerror", None) or "it is no regular file"
                        pruned.failed.append((one.row.path, reason))
                    continue
                stack.callback(os.close, descriptor)
                if identity[:2] != one.row.identity[:2]:
                    others.append((one, identity))
                if not over:
                    continue
                if spared is not None:
                    pruned.stay[spared] = pruned.stay.get(spared, 0) + 1
                elif identity != one.row.identity:
                    pruned.stay[_ALTERED] = pruned.stay.get(_ALTERED, 0) + 1
                elif state == COMPLETED and not one.proven:
                    pruned.stay[_UNPROVEN] = pruned.stay.get(_UNPROVEN, 0) + 1
                else:
                    due.append(Due(one, identity, descriptor))
            missing += self._replaced(state, others, limit, pruned)
            # What a large file occupies is given back as its descriptor is closed: here, where no
            # writer waits for that.
            yield due, missing

    def _replaced(
        self, state: str, others: Sequence[tuple[Lying, Identity]], limit: str, pruned: Pruned
    ) -> list[Lying]:
        """Those records in whose place another record's file lies by now."""
        owned = departures.inodes([one.row.path for one, _ in others], state)
        found = [one for one, identity in others if identity[:2] in owned.get(one.row.path, ())]
        over = sum(one.since <= limit for one in found)
        if over:
            pruned.stay[_ALTERED] -= over
        return found

    def _settle(
        self, state: str, due: Sequence[Due], missing: Sequence[Lying], pruned: Pruned
    ) -> None:
        removed: list[Due] = []
        try:
            self._discard(state, due, missing, removed, pruned)
        except Exception as error:
            self._removed(state, removed, pruned)
            if removed:
                pruned.unnoted += len(removed)
                log.event(
                    logger,
                    WARNING,
                    "not recorded",
                    files=len(removed),
                    reason=f"they are deleted, but {models.explain(error)}",
                    next="the next run finds them gone, and notes it",
                )
            raise
        self._removed(state, removed, pruned)

    def _discard(
        self,
        state: str,
        due: Sequence[Due],
        missing: Sequence[Lying],
        removed: list[Due],
        pruned: Pruned,
    ) -> None:
        """Delete what is due, and note what has left; `removed` gets what is deleted, whether the
        rows can be written or not."""
        with models.write():
            ids = [each.lying.row.id for each in due] + [each.row.id for each in missing]
            still = departures.still(ids)
            self._spool.check_present()
            gone = [
                each.row.id
                for each in missing
                if each.row.id in still and self._absent(each.row, state)
            ]
            # On a disk that was away for a moment nothing was found, which says nothing.
            self._spool.check_present()
            for each in due:
                path = each.lying.row.path
                if each.lying.row.id not in still:
                    continue
                try:
                    self._spool.discard(path, each.descriptor, each.identity)
                except Vanished:
                    continue  # the next run sees what is there now
                except OSError as error:
                    pruned.failed.append((path, error.strerror or str(error)))
                    continue
                removed.append(each)
            now = self._now()
            departures.leave([each.lying.row.id for each in removed], REMOVED, now)
            departures.leave(gone, GONE, now)

    def _removed(self, state: str, removed: Sequence[Due], pruned: Pruned) -> None:
        for each in removed:
            self._spool.prune(each.lying.row.path)
            self.count(state, each, pruned)
            row = each.lying.row
            log.event(
                logger,
                INFO,
                "removed",
                record=row.id,
                profile=row.profile,
                bucket=row.bucket,
                key=row.key,
                from_=state,
                size=row.identity.size,
            )

    def _absent(self, row: Row, state: str) -> bool:
        if not row.path.startswith(f"{state}/"):
            return True
        found = self._spool.identify(row.path)
        if found is None:
            return not (self._spool.exists(row.path) or self._spool.closed(row.path))
        return found[:2] != row.identity[:2]

    def count(self, state: str, each: Due, pruned: Pruned) -> None:
        """Count a file that was deleted, or would be."""
        pruned.files[state] += 1
        pruned.size += each.identity.size
        self._told(each.lying.row.path)


def _came(one: Lying, state: str) -> bool:
    """Whether its file ever came where its state says: what vanished before has its last path."""
    place = layout.parse(one.row.path)
    return place is not None and place.state == state


def _limit(now: datetime, keep: float | None) -> str:
    """What was settled later than this is kept; everything if nothing is to go."""
    return "" if keep is None else utc_text(earlier(now, keep))


def earlier(now: datetime, seconds: float) -> datetime:
    """The moment so many seconds ago, or the first of all."""
    try:
        return now - timedelta(seconds=seconds)
    except OverflowError:  # the clock is in the first century
        return datetime.min.replace(tzinfo=timezone.utc)
