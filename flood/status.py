"""What one spool has to do, is doing, could not do."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from flood import stall
from flood.room import Lack
from flood.states import COMPLETED, FAILED, INCOMING, INCOMING_TMP
from flood.status_files import Closed, Ignored, Lying
from flood.status_queries import Coming, Destination
from flood.status_workers import Worker

# What processing consists of.
DUE: Final = "due"
UPLOADING: Final = "uploading"
RETRY: Final = "retry"

#: Files in failed of which a later version is under way or completed, as flood-retry calls them.
SUPERSEDED: Final = "superseded"

#: How far files have come; those of the first five wait.
STAGES: Final = (INCOMING_TMP, INCOMING, DUE, UPLOADING, RETRY, FAILED, SUPERSEDED, COMPLETED)
WAITING: Final = (INCOMING, DUE, UPLOADING, RETRY)

#: Bounds of age, in seconds; the last class is what is older than all of them.
AGES: Final = (60, 300, 1200, 3600, 3 * 3600, 12 * 3600)

#: Over how many seconds speeds are taken.
WINDOWS: Final = (60, 300, 900)

#: What may be taken has been by then, as a rule.
SOON: Final = timedelta(minutes=1)

#: How many single files are told of each kind.
SHOWN: Final = 10

#: Profile, bucket, key.
Key = tuple[str, str, str]

#: The code of a file in failed that has no record.
NO_RECORD: Final = "no_record"

#: What stands for the code of a record that has none, as somebody may have taken it away.
UNKNOWN: Final = "unknown"


@dataclass
class Amount:
    """So many files, so many bytes; since when (aware) the oldest is there, where that is asked."""

    files: int = 0
    size: int = 0
    oldest: datetime | None = None

    def add(self, files: int, size: int, since: datetime | None = None) -> None:
        """Add files of which the oldest is there since that moment."""
        self.files += files
        self.size += size
        if since is not None:
            self.oldest = since if self.oldest is None else min(self.oldest, since)


@dataclass(frozen=True)
class Upload:
    """What one worker has claimed. `key` is None where that is more than one file; `worker` is None
    where it died; `sent`, in bytes, is None where it has not said yet."""

    destination: Destination
    key: str | None
    record: int
    files: int
    files_done: int
    size: int
    sent: int | None
    rate: float | None
    retry_count: int
    since: datetime
    owner: str
    worker: Worker | None

    @property
    def left(self) -> float | None:
        """Seconds until it is done, at this rate; None where nobody can tell."""
        if self.sent is None or not self.rate:
            return None
        return (self.size - self.sent) / self.rate


@dataclass(frozen=True)
class Back:
    """A file that waits in incoming for what is in its way in processing, where that is an earlier
    file with a record, `behind`; a path that is a directory ends in a slash, and `oddity` says what
    it is that is neither that nor a regular file."""

    lying: Lying
    in_the_way: str
    behind: Coming | None
    oddity: str | None = None


@dataclass
class Failure:
    """The files in failed with one error code, but those that are superseded; `hint` is what the
    latest of their records says."""

    code: str
    files: int = 0
    size: int = 0
    destinations: "Counter[Destination]" = field(default_factory=Counter)
    oldest: datetime | None = None
    newest: datetime | None = None
    hint: str | None = None


@dataclass
class Status:
    """One spool at the moment `at` (aware)."""

    server_directory: str
    database: str
    at: datetime
    watching: bool = False
    consuming: bool = False
    #: Whether consumers are at their start, while none runs.
    starting: bool = False
    #: What has the process let go that keeps all others from writing to the database, in words;
    #: None if nobody does.
    kept: str | None = None
    #: The process of flood-watch, if somebody has stopped it, as with SIGSTOP.
    watch_stopped: int | None = None
    workers: list[Worker] = field(default_factory=list)
    #: The processes of consumers at their start, as far as they can be seen.
    starters: list[int] = field(default_factory=list)
    #: The processes of consumers that somebody has stopped, as with SIGSTOP.
    stopped: list[int] = field(default_factory=list)
    #: The processes of consumers that take nothing, though files are due; as `stall.look`.
    stalled: list[int] = field(default_factory=list)
    #: The profiles that the credentials may lack: a worker is free, yet takes none of their files.
    unserved: list[str] = field(default_factory=list)
    #: How many files lie in processing without a record, and count as if they were in incoming.
    stranded: int = 0
    #: How many more files than records were in processing: those, and what was taken just now.
    unrecorded: int = 0
    #: How many files flood-watch, which runs, has not taken for a minute, but those held back.
    lingering: int = 0
    #: What there is too little of for flood-watch to take anything in; None if there is room.
    lack: Lack | None = None
    #: Files by destination, then by stage.
    amounts: dict[Destination, dict[str, Amount]] = field(default_factory=dict)
    #: How many files wait in each class of age, by destination.
    ages: dict[Destination, list[int]] = field(default_factory=dict)
    #: Files and bytes that were uploaded within the last so many seconds.
    speeds: dict[int, tuple[int, int]] = field(default_factory=dict)
    uploads: list[Upload] = field(default_factory=list)
    retries: list[Coming] = field(default_factory=list)
    #: The oldest of the files that are held back, and how many those are.
    back: list[Back] = field(default_factory=list)
    held_back: int = 0
    #: The oldest file in incoming, and the oldest record in processing by its id.
    arrived: Lying | None = None
    #: The keys of all files in incoming.
    arriving: set[Key] = field(default_factory=set)
    first: int | None = None
    failures: list[Failure] = field(default_factory=list)
    #: Records in failed, also those whose file was retried, moved or removed since.
    failed_records: int = 0
    #: The files that those are of: one has several where flood-retry put it back in vain.
    failed_files: int = 0
    #: The keys of those of them whose file was gone before it came to failed, the latest first, but
    #: where a later version has one.
    gone_before: list[Key] = field(default_factory=list)
    #: Tasks in the queue, and in the schedule; None where the queue's tables are missing.
    queue: tuple[int, int] | None = None
    last_sweep: datetime | None = None
    #: Files in incoming above the buckets, which nobody takes.
    misplaced: list[str] = field(default_factory=list)
    #: Files in incoming that are left alone for their names.
    ignored: Ignored = field(default_factory=Ignored)
    #: Directories that could not be looked into.
    closed: list[Closed] = field(default_factory=list)
    #: Whether all files outside of the records were counted.
    whole: bool = True
    #: Whether they were not for this alone: processing holds so many that there was no time to tell
    #: whether some have no record, and it has no more than may just be being taken.
    unsought: bool = False
    #: How many files lie in processing, with a record or without, as far as there was time.
    in_processing: int = 0
    #: Whether there has ever been a record.
    recorded: bool = False

    @property
    def left_alone(self) -> int:
        """How many files in incoming nobody takes, for where they lie or how they are named."""
        return len(self.misplaced) + self.ignored.files

    @property
    def started(self) -> bool:
        """Whether consumers run, or will without being started."""
        return self.consuming or self.starting

    @property
    def busy(self) -> set[str]:
        """The workers that live and have claimed files, or sweep."""
        at_files = {one.worker.owner for one in self.uploads if one.worker is not None}
        return at_files | {one.owner for one in self.workers if one.doing and one.doing.sweeps}

    @property
    def idle(self) -> bool:
        """Whether consumers run, or are at their start, of which all are stopped."""
        return stall.none_left(self.workers, self.starters, self.stopped)

    def total(self, stages: Iterable[str]) -> Amount:
        """What all destinations have in these stages."""
        total = Amount()
        for stage in stages:
            for by_stage in self.amounts.values():
                amount = by_stage.get(stage, Amount())
                total.add(amount.files, amount.size, amount.oldest)
        return total
