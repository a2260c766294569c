"""Every discrepancy that a spool may have, as one table."""

from dataclasses import dataclass, field
from typing import Any, Final

from flood import models, schema
from flood.config import Settings, command

ALSO: Final = "also "

#: Who mends it: `flood-fsck --repair`; consumers by themselves; a person; nobody need.
REPAIR: Final = "repair"
CONSUMERS: Final = "consumers"
PERSON: Final = "person"
NOTE: Final = "note"

#: What repairs, as the remedies name it.
REPAIR_COMMAND: Final = ("flood-fsck", "--repair")


def in_place(advice: str, repair: str) -> str:
    """The advice, with the command that repairs as it has to be given here."""
    return advice.replace(" ".join(REPAIR_COMMAND), repair)


def as_given(told: str, settings: Settings) -> str:
    """What a process with these settings tells, with the command that repairs as it has to be given
    there."""
    return in_place(told, command(settings, *REPAIR_COMMAND))


@dataclass(frozen=True)
class Kind:
    """One kind of discrepancy: a short stable name, its situation in the table of states where it
    has one, what it is called, what it means, what mends it, who."""

    name: str
    state: str | None
    title: str
    meaning: str
    remedy: str
    who: str = REPAIR

    @property
    def counts(self) -> bool:
        """Whether a spool that has it is not in order."""
        return self.who != NOTE

    def mended_by(self, repair: str) -> str:
        """The remedy, with the command that repairs as it has to be given here."""
        return in_place(self.remedy, repair)


@dataclass(frozen=True)
class Finding:
    """One discrepancy. `version` is what its record said; two looks that differ in it saw something
    in motion."""

    kind: Kind
    path: str | None = None
    record: int | None = None
    profile: str | None = None
    bucket: str | None = None
    key: str | None = None
    detail: str | None = None
    version: tuple[Any, ...] = field(default=(), repr=False)


# Each that names the command ends with it, so that it can be copied.
_AT_ITS_START: Final = "flood-watch mends it as it starts; at once: flood-fsck --repair"
_SWEEP: Final = "the next sweep of any consumer mends it; at once: flood-fsck --repair"
_REBUILD: Final = (
    "stop flood-watch with all consumers, then have a new database made, with a record for each "
    "file; what is left of the old one is kept under a name with a time stamp: flood-fsck --repair"
)

# --- the database --------------------------------------------------------------------------------

DATABASE_GONE: Final = Kind(
    "database_gone",
    None,
    "the database is gone",
    "no file has a record; the files themselves are safe where they lie",
    f"{models.AWAY} Only if it is gone for good, {_REBUILD}",
)
DATABASE_FOREIGN: Final = Kind(
    "database_foreign",
    None,
    "another program's database is in the place of the spool's",
    "flood leaves it alone, so nothing is taken in or uploaded; the files are safe where they lie",
    "correct --database (FLOOD_DATABASE); if flood's own was overwritten, restore a copy if there "
    "is one, or stop flood-watch with all consumers, then have a new database made, with a record "
    "for each file; the other one is kept aside under a name with a time stamp: flood-fsck "
    "--repair",
)
DATABASE_BROKEN: Final = Kind(
    "database_broken",
    None,
    "the database is broken",
    "SQLite cannot rely on it, or tables are missing; the files are safe where they lie",
    f"restore a copy if there is one, or {_REBUILD}",
)
DATABASE_EMPTY: Final = Kind(
    "database_empty",
    None,
    "the database is empty",
    "no file has a record; the files themselves are safe where they lie",
    schema.MAKES_TABLES,
)
SCHEMA_OLD: Final = Kind(
    "schema_old",
    None,
    "the database was made by an older flood",
    "its tables lack what this flood needs to know",
    "flood-watch upgrades it as it starts; at once: flood-fsck --repair",
)
DAMAGED: Final = Kind(
    "damaged",
    None,
    "rows of the database hold what flood never writes",
    "memory or a disk has failed, or somebody changed them; whoever reads them cannot go on, and "
    "intake or uploads may stand still",
    "they are to be removed, and records made anew from where the files lie; only the past is lost "
    "that these rows told of: flood-fsck --repair",
)
UNBOUND: Final = Kind(
    "unbound",
    None,
    "the database does not know its spool",
    "its row that holds the spool's id is missing, so that consumers refuse to start",
    _AT_ITS_START,
)
CARD_OUTDATED: Final = Kind(
    "card_outdated",
    None,
    "the spool remembers another path of its database",
    "the database was moved; flood-put without --database does not find it",
    _AT_ITS_START,
)
DEVICE_CHANGED: Final = Kind(
    "device_changed",
    None,
    "the spool's filesystem has another device number than in the records",
    "it was mounted as another device, and every file would seem to be another one",
    "any process of flood that writes mends it as it starts; at once: flood-fsck --repair",
)
#: The index that lets one file of each key be uploaded at a time.
ONE: Final = "file_records_one_in_processing"

INDEX_MISSING: Final = Kind(
    "index_missing",
    None,
    "indices of the database are missing",
    "somebody dropped them, or made others of their names: flood gets slow, and without "
    f"{ONE} nothing keeps two files of one key from being uploaded at the same time",
    "to have them made again: flood-fsck --repair",
)
QUEUE_TABLES: Final = Kind(
    "queue_tables",
    None,
    "tables of the queue are missing or broken",
    "tasks cannot be enqueued; nothing else is lost with them",
    "flood makes them anew as it needs them; at once: flood-fsck --repair",
)
FOREIGN_TASKS: Final = Kind(
    "foreign_tasks",
    None,
    "the queue has tasks that are none of flood's",
    "somebody else writes into the database",
    "consumers drop them, with a line in the log",
    NOTE,
)
WRITER_STUCK: Final = Kind(
    "writer_stuck",
    None,
    "one process keeps all others from writing",
    "it has held the queue of writers for so long that it may be stopped; what was in motion "
    "meanwhile was not judged",
    "look for a process of flood's that is stopped (state T in ps): continue or kill it",
    PERSON,
)
WRITER_FOREIGN: Final = Kind(
    "writer_foreign",
    None,
    "another program keeps all of flood from writing",
    "it has a transaction open: no file is taken, none that is uploaded is settled, and no repair "
    "writes",
    "have it end its transaction, or end it; ps -fp with its number tells what it is",
    PERSON,
)

# --- files ---------------------------------------------------------------------------------------

DIRECTORY_MISSING: Final = Kind(
    "directory_missing",
    None,
    "a directory of the spool is missing",
    "somebody removed it, with whatever it held",
    _AT_ITS_START,
)
DIRECTORY_FOREIGN: Final = Kind(
    "directory_foreign",
    None,
    "a directory of the spool is none, or on another filesystem",
    "files cannot be moved between the directories by rename, so flood-watch refuses to start",
    "put the right directory in its place, on the filesystem of the others; if there is none, move "
    "away what is there, then have it made anew: flood-fsck --repair",
    PERSON,
)
LEFT_OVER: Final = Kind(
    "left_over",
    "S0",
    "copies whose flood-put is dead",
    "never reported as delivered; nobody will finish them",
    "flood-watch deletes them as it starts; at once: flood-fsck --repair",
)
TAKEN: Final = Kind(
    "taken",
    "S2",
    "files in processing that no record knows to be there",
    "taken, then a crash, or a transaction that failed; nobody uploads them yet",
    "flood-watch takes them up as it starts, or where it runs when it looks through processing "
    "again, as a rule within --rescan-interval; at once: flood-fsck --repair",
)
UNRECORDED: Final = Kind(
    "unrecorded",
    None,
    "settled files without a record",
    "the record is lost, or somebody put the file there by hand",
    "to have a record made that says so, and claims no proof, no reason: flood-fsck --repair",
)
RETURNED: Final = Kind(
    "returned",
    None,
    "settled files whose record says that they have left",
    "a power failure undid that retention deleted them, or somebody brought them back",
    "to have the record take them back, and retention look after them again: flood-fsck --repair",
)
TWO_NAMES: Final = Kind(
    "two_names",
    None,
    "one file in two directories",
    "a crash between link and unlink, where the filesystem cannot rename without overwriting; "
    "or somebody linked it",
    "elsewhere remove the name that is not wanted; on such a filesystem, to finish the move: "
    "flood-fsck --repair",
)
ALTERED: Final = Kind(
    "altered",
    None,
    "completed files that are not what was uploaded",
    "somebody changed the file afterwards: the store has its earlier content",
    "move it to incoming to upload it as it is now, or leave it, or delete it",
    PERSON,
)
MISPLACED: Final = Kind(
    "misplaced",
    None,
    "files outside of PROFILE/BUCKET/",
    "flood does not know where they belong, and leaves them alone",
    "move them below incoming/PROFILE/BUCKET/, or away",
    PERSON,
)
STRANGE: Final = Kind(
    "strange",
    None,
    "what is no regular file",
    "links, devices and the like are never uploaded, nor followed",
    "remove it; put the file itself there if it is to be uploaded",
    PERSON,
)
TOO_LONG: Final = Kind(
    "too_long",
    None,
    "paths that are longer than the system takes",
    "with that of the spool they have more than 4095 bytes, here or in processing: flood cannot "
    "take them, nor look further below",
    "shorten the names of their directories, from the top down",
    PERSON,
)
UNREADABLE: Final = Kind(
    "unreadable",
    None,
    "directories that cannot be read",
    "what lies in them was not checked",
    "run flood-fsck as the user of flood-watch, or give this one access",
    PERSON,
)

# --- records -------------------------------------------------------------------------------------

UNRUNG: Final = Kind(
    "unrung",
    "S3",
    "due records for which no task rings",
    "the task got lost with its process, or the queue with its tables",
    "the next sweep of any consumer mends it; if consumers run and it stays, their credentials may "
    "lack the profile; at once: flood-fsck --repair",
)
NEVER_DUE: Final = Kind(
    "never_due",
    "S4",
    "records that would not come due in time",
    "no retry takes that long: the clock was wrong, or somebody changed the row",
    "to make them due now: flood-fsck --repair",
)
DEAD_CLAIM: Final = Kind(
    "dead_claim",
    "S6",
    "records whose worker is dead",
    "it died in the middle of an attempt",
    "the next sweep of any consumer records the attempt as lost, and the file is tried again, "
    "alone; at once: flood-fsck --repair",
)
PROVEN: Final = Kind(
    "proven",
    "S7",
    "files in completed whose record is behind",
    "proven, then a crash before the record could say so; the receipt is lost",
    _SWEEP,
)
GIVEN_UP: Final = Kind(
    "given_up",
    "S9",
    "files in failed whose record is behind",
    "given up, then a crash before the record could say so",
    _SWEEP,
)
VANISHED: Final = Kind(
    "vanished",
    "S11",
    "records whose file is gone",
    "somebody removed or replaced the file before it was uploaded",
    "the record fails as vanished with the next sweep of any consumer, or its next attempt if it "
    "was in processing; at once: flood-fsck --repair",
)
RAN_AHEAD: Final = Kind(
    "ran_ahead",
    "S12",
    "records that ran ahead of their file",
    "a power failure undid the move, not the record: the file is where it was before",
    "flood-watch lets the record go back as it starts; at once: flood-fsck --repair",
)
SECOND_RECORD: Final = Kind(
    "second_record",
    None,
    "records of a file that has another",
    "the other one leads the file on; this one waits for nothing",
    "to end it: flood-fsck --repair",
)
CONTRADICTION: Final = Kind(
    "contradiction",
    None,
    "records that contradict themselves",
    "no program of flood's writes that: somebody changed the row, or it is a defect of flood's",
    "look at the row; correct it, or delete it, then: flood-fsck --repair",
    PERSON,
)
ATTEMPTS: Final = Kind(
    "attempts",
    None,
    "records whose attempts are not numbered one after the other",
    "rows of history were deleted or changed, or it is a defect of flood's; uploads go on",
    "nothing can bring them back; if nobody touched the table, report it",
    PERSON,
)
MULTIPART_LEFT: Final = Kind(
    "multipart_left",
    None,
    "multipart uploads that settled records left behind",
    "the store keeps the parts, and may bill them",
    "the next sweep of any consumer aborts them; if they stay, the consumers' log says why",
    CONSUMERS,
)
RECEIPT_MISSING: Final = Kind(
    "receipt_missing",
    None,
    "completed records without a receipt",
    "a crash, or a rebuilt database, cost what the store had answered",
    "none needed: nothing but proof brings a file to completed",
    NOTE,
)
LOCK_LEFT: Final = Kind(
    "lock_left",
    None,
    "lock files of workers that have ended",
    "each worker leaves one, also when it ends in order",
    "the next sweep removes them; at once: flood-fsck --repair",
    NOTE,
)

#: In the order in which they are reported.
KINDS: Final = tuple(each for each in list(globals().values()) if isinstance(each, Kind))
