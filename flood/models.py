"""The tables as peewee models over one SQLite file."""

import errno
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from peewee import (
    AutoField,
    BooleanField,
    Field,
    FloatField,
    IntegerField,
    Model,
    OperationalError,
    SqliteDatabase,
    TextField,
)
from peewee import DatabaseError as DatabaseError

from flood import database_files, owners, read_only, room, users, writers
from flood.allowed import Allowed
from flood.columns import name_from, name_value, utc_moment, utc_text
from flood.sqlite import UNDECODABLE, Connection
from flood.states import FAILURE, STATES, SUCCESS
from flood.writers import Locked, Waiting, leave, turn

# How long SQLite itself waits for another program's transaction, in seconds; `write` tries again.
_BUSY_TIMEOUT: Final = 1

# How many instructions of SQLite's, a few milliseconds, pass between two looks at the stop.
_STEPS: Final = 100_000

#: What a person does about a full disk.
MAKE_ROOM: Final = "make room on the disk of the database"

#: What a person asks himself about a database that is not there, then what he does about it.
AWAY: Final = "is its disk mounted, or was it moved (set --database, FLOOD_DATABASE)?"
GONE: Final = f"{AWAY} Only if it is gone for good: flood-fsck --repair"

# What SQLite says where it finds no room for what it has beside a database, or for other reasons.
_WITHOUT_ROOM: Final = ("unable to open", "disk I/O error")

# SQLite's words for what a person can mend.
_ADVICE: Final = {
    "disk is full": MAKE_ROOM,
    "readonly": "give this user write access to the database, to the files beside it whose names "
    "begin like its own, and to its directory",
    "disk I/O error": "is its disk full, or broken?",
    "locked": "another program holds it, and has to let go of it first",
    "was replaced": "put the right one back, or start flood-watch again if it was deleted",
    "UNIQUE constraint failed": "flood-fsck says which records are wrong, and what mends them",
    "malformed": "restore the database, or have flood-fsck --repair make a new one",
}

#: The mode for a database that nobody has open: nothing is locked, what others write is not seen.
AT_REST: Final = "ro&immutable=1"

database = SqliteDatabase(None, lock_type="IMMEDIATE")


if TYPE_CHECKING:  # peewee's fields are generic in its type stubs only
    TimeBase = Field[datetime]
    NameBase = Field[str]
else:
    TimeBase = NameBase = Field


class UtcField(TimeBase):
    """A time as ISO 8601 text in UTC, always with microseconds: the text's order is the time's."""

    field_type = "TEXT"

    def db_value(self, value: datetime | None) -> str | None:
        return None if value is None else utc_text(value)

    def python_value(self, value: str | None) -> datetime | None:
        return None if value is None else utc_moment(value)


class NameField(NameBase):
    """A path; one that is no UTF-8 is kept as a blob."""

    field_type = "NAME"

    def db_value(self, value: str | None) -> str | bytes | None:
        return None if value is None else name_value(value)

    def python_value(self, value: str | bytes | None) -> str | None:
        return None if value is None else name_from(value)


class Table(Model):
    class Meta:
        database = database


class FileRecord(Table):
    """One row for each time that a file entered the spool; docs/architecture.md has the columns."""

    id = AutoField()
    profile = NameField()
    bucket = NameField()
    filepath = NameField()
    file_creation_date = UtcField()
    current_state = TextField(choices=[(state, state) for state in STATES])
    last_updated = UtcField()
    upload_outcome = TextField(null=True, choices=[(one, one) for one in (SUCCESS, FAILURE)])
    device = IntegerField()
    inode = IntegerField()
    size = IntegerField()
    mtime_ns = IntegerField()
    spool_path = NameField()
    retry_count = IntegerField(default=0)
    next_attempt_at = UtcField(null=True)
    claim_number = IntegerField(default=0)
    owner = TextField(null=True)
    claimed_at = UtcField(null=True)
    claim_size = IntegerField(default=0)
    alone = BooleanField(default=False)
    multipart_upload_id = TextField(null=True)
    etag = TextField(null=True)
    version_id = TextField(null=True)
    checksum = TextField(null=True)
    changed_ns = IntegerField(null=True)
    error_code = TextField(null=True)
    error_message = TextField(null=True)
    bytes_sent = IntegerField(default=0)
    created_at = UtcField()
    completed_at = UtcField(null=True)
    left_at = UtcField(null=True)
    left_how = TextField(null=True)
    origin = IntegerField(null=True)
    told_at = UtcField(null=True)
    arrival = IntegerField(null=True)

    class Meta:
        table_name = "file_records"


class RetryAttempt(Table):
    """One row for each attempt to upload, the first included."""

    id = AutoField()
    record_id = IntegerField()
    retry_number = IntegerField()
    started_at = UtcField()
    finished_at = UtcField()
    outcome = TextField()
    kind = TextField(null=True)
    error_code = TextField(null=True)
    error_message = TextField(null=True)
    delay_seconds = FloatField(null=True)
    next_attempt_at = UtcField(null=True)
    worker = TextField(null=True)

    class Meta:
        table_name = "retry_attempts"


class SpoolInfo(Table):
    """One row: which spool this database belongs to, when it was last looked after, what was told
    of it."""

    id = AutoField()
    spool_id = TextField()
    created_at = UtcField()
    last_swept_at = UtcField(null=True)
    last_pruned_at = UtcField(null=True)
    last_told_at = UtcField(null=True)
    tell_after = UtcField(null=True)
    trouble_since = UtcField(null=True)
    told_age = FloatField(null=True)
    device = IntegerField(null=True)
    told_oldest = TextField(null=True)
    hastened_at = UtcField(null=True)
    prune_mark = NameField(null=True)
    clock = TextField(null=True)
    directory = NameField(null=True)

    class Meta:
        table_name = "spool"


#: Every table of flood's own.
TABLES: Final = (FileRecord, RetryAttempt, SpoolInfo)

_allowed: Final = Allowed(TABLES)


class _Opened(threading.local):
    """Which file this thread's connection is to: device, inode."""

    file = (0, 0)


_opened = _Opened()
_path = ""
_mode = ""
_server_directory: str | None = None
_spool_id: str | None = None


def _never() -> bool:
    return False


_stopping: Callable[[], bool] = _never


class DamagedError(DatabaseError):
    """A row holds what no program of flood's writes, though to SQLite it is in order; `how` says
    what, the message also which database it is, and what to do."""

    def __init__(self, how: str) -> None:
        self.how = how
        advice = "flood-fsck says where, flood-fsck --repair mends it"
        super().__init__(f"the database {_path} is damaged, {how}: {advice}")


class _Connection(Connection):
    """Raises peewee's errors as rows are fetched, as peewee itself sees to statements alone;
    DamagedError for values that are not of their columns."""

    def translated(self, error: sqlite3.DatabaseError) -> Exception:
        if UNDECODABLE in str(error):
            return DamagedError(str(error))
        kind = OperationalError if isinstance(error, sqlite3.OperationalError) else DatabaseError
        return kind(*error.args)

    def check(self, description: Sequence[Any], rows: Sequence[Any]) -> None:
        wrong = _allowed.wrong(description, rows)
        if wrong is not None:
            raise DamagedError(wrong)


def expect(spool_id: str) -> None:
    """Take no other spool's database for the one that is bound, should the file be replaced."""
    global _spool_id
    _spool_id = spool_id


def path() -> str:
    """The file that the models are for."""
    return _path


def at_rest() -> bool:
    """Whether they are bound to it in the mode AT_REST."""
    return _mode == AT_REST


def scratch() -> SqliteDatabase:
    """An empty database in memory, which ends when it is closed."""
    return SqliteDatabase(":memory:")


def bind(path: str, mode: str = "rw", *, server_directory: str | None = None) -> None:
    """Say which file the models are for; nothing is opened yet. `mode` is SQLite's, with what
    follows it in a URI (sqlite.org/uri.html). `server_directory` is that of the spool, where it is
    known, whose owner is to use both."""
    global _path, _mode, _server_directory, _spool_id
    close()
    _path, _mode, _server_directory, _spool_id = path, mode, server_directory, None
    # NORMAL: a power failure may lose the last transactions but never corrupts a WAL database
    # (sqlite.org/pragma.html#pragma_synchronous); the directories are what must be durable.
    database.init(
        # Not the path itself, for which SQLite would make an empty file where there is none.
        f"file:{quote(os.fsencode(path))}?mode={mode}",
        uri=True,
        timeout=_BUSY_TIMEOUT,
        factory=_Connection,
        pragmas={"synchronous": "NORMAL", "cache_size": -8000, "temp_store": "MEMORY"},
    )


def close() -> None:
    """Close this thread's connection, if it has one."""
    _disconnect()
    leave()


def _disconnect() -> None:
    if not database.deferred and not database.is_closed():
        database.close()


def be_brief_when(stopping: Callable[[], bool]) -> None:
    """Wait less for others once this process is to stop."""
    global _stopping
    _stopping = stopping


def waiting() -> Waiting:
    """How long to wait for others, beginning now."""
    return Waiting(_stopping)


@contextmanager
def write() -> Iterator[None]:
    """One IMMEDIATE transaction, after waiting for this thread's turn; within one, a part of it.

    No network, hashing or file probing belongs inside: every other writer waits. Raises
    OperationalError if the turn does not come within a minute, soon where this process is to stop.
    """
    if database.in_transaction():
        yield
        return
    before = sys.exc_info()[1]
    patience = waiting()
    try:
        with ExitStack() as stack:
            stack.enter_context(turn(_path, patience))
            _begin(stack, patience)
            yield
    except Locked:
        raise OperationalError("database is locked") from None
    except DatabaseError as error:
        # On a full disk SQLite rolls back by itself; that there is nothing left to roll back then
        # hides the reason.
        if "readonly" in str(error):
            _disconnect()  # SQLite opens what it may not write for reading, and leaves it at that
        reason = first_reason(error, before)
        if reason is error:
            raise
        raise reason from None


@contextmanager
def reading() -> Iterator[None]:
    """One view of the database for all that is asked inside; it keeps no writer waiting. Raises
    OperationalError soon once this process is to stop, however long a question takes."""
    execute("BEGIN")
    opened = database.connection()
    opened.set_progress_handler(_stopping, _STEPS)
    try:
        yield
    finally:
        opened.set_progress_handler(None, 0)
        # The connection may be another one by now, if the file was replaced meanwhile.
        if not database.is_closed() and database.connection().in_transaction:
            database.execute_sql("ROLLBACK")


def _begin(stack: ExitStack, patience: Waiting) -> None:
    while True:
        opened = connection()
        if opened.in_transaction:
            # An interrupt came once SQLite had begun, before peewee took note of it.
            opened.rollback()
        try:
            stack.enter_context(database.atomic("IMMEDIATE"))
            return
        except OperationalError as error:
            # Another program's transaction: SQLite itself cannot be told to wait less.
            if not held(error) or patience.over():
                raise


def first_reason(error: BaseException, before: BaseException | None) -> BaseException:
    """What went wrong first, of all that has since the exception `before`; what was raised in the
    place of others stands for them."""
    reason: BaseException = error
    context: BaseException | None = error
    while context is not None and context is not before:
        if type(context).__module__ != "sqlite3":  # of those peewee makes its own
            reason = context
        context = None if context.__suppress_context__ else context.__context__
    return reason


def connection() -> Any:
    """This thread's connection, a new one where the file was replaced by another.

    Raises OperationalError if the file is gone, as it would be if it could not be opened.
    """
    if database.in_transaction():
        return database.connection()
    try:
        status = os.stat(_path)
    except OSError as error:
        _disconnect()
        raise OperationalError(f"unable to open database file: {error.strerror}") from error
    file = (status.st_dev, status.st_ino)
    if _opened.file != file or database.is_closed():
        _disconnect()
        _check_spool()
    _opened.file = file
    return database.connection()


def _check_spool() -> None:
    if _spool_id is None:
        return
    try:
        row = database.execute_sql("SELECT spool_id FROM spool WHERE id = 1").fetchone()
        found = row[0] if row else None
    except DatabaseError as error:
        _disconnect()
        if "no such table" not in str(error):
            raise
        found = None
    if found != _spool_id:
        _disconnect()
        raise OperationalError(f"{_path} was replaced by what is not this spool's database")


def no_room(error: BaseException) -> bool:
    """Whether a disk is full, as the database or the system puts it, or as SQLite does not."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "disk is full" in str(error) or _lacking(error) is not None


def held(error: BaseException) -> bool:
    """Whether somebody else has held the database for longer than one waits."""
    return isinstance(error, DatabaseError) and "locked" in str(error)


def _lacking(error: BaseException) -> str | None:
    """What the disk of the database has none of any more, if SQLite has most likely raised this
    error for want of that."""
    # Of a database that is gone the disk cannot be asked.
    return room.lacking(_path) if any(sign in str(error) for sign in _WITHOUT_ROOM) else None


def _is_gone() -> bool:
    try:
        os.lstat(_path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def version() -> int:
    """A number that is another one after any other connection's commit (sqlite.org/pragma.html,
    data_version)."""
    return int(execute("PRAGMA data_version").fetchone()[0])


def explain(error: BaseException) -> str:
    """A database's refusal in words, with what to do about it where that is known, once."""
    text, advice = explained(error)
    return f"{text}: {advice}" if advice else text


def explained(error: BaseException) -> tuple[str, str]:
    """A database's refusal, then what to do about it, empty where that is not known, or said in the
    former."""
    text = str(error)
    if text.endswith((*_ADVICE.values(), GONE, read_only.ADVICE)):
        return text, ""
    if read_only.refused(error, _path):
        return read_only.explained(error), read_only.ADVICE
    if "unable to open" in text:
        if _is_gone():
            return text, GONE
        denied = database_files.denied_parts(_path)
        if denied:
            return os.strerror(errno.EACCES), access_to(denied)
    if "readonly" in text and is_spools_owner() and (denied := database_files.denied_parts(_path)):
        advice = access_to(denied)
        return text, "" if advice in text else advice
    lacking = _lacking(error)
    if lacking is not None:
        return f"{text}, as the disk is full (no {lacking} is left)", MAKE_ROOM
    remedy = writers.remedy(_path) if "locked" in text else None
    if remedy is not None:
        return text, "" if remedy in text else remedy
    return text, next((advice for sign, advice in _ADVICE.items() if sign in text), "")


def access_to(denied: Sequence[str]) -> str:
    """What a person does about parts of the database that are denied to this user."""
    if is_spools_owner():
        return database_files.mends(_path, users.mine(), denied)
    return users.access_to(denied)


def is_spools_owner() -> bool:
    """Whether the spool of the database is this user's, who is the one that flood is to run as,
    whoever has made what."""
    home = _server_directory
    return home is not None and owners.user_of(home, _path) == os.geteuid()


def execute(sql: str, parameters: tuple[Any, ...] = ()) -> Any:
    """Run one statement on this thread's connection; return its cursor."""
    connection()
    return database.execute_sql(sql, parameters)


def execute_many(sql: str, parameters: Sequence[tuple[Any, ...]]) -> None:
    """Run one statement once with each of these parameters, inside `write()`."""
    # peewee has nothing for this, and one by one its own work costs five times SQLite's.
    try:
        connection().executemany(sql, parameters)
    except sqlite3.DatabaseError as error:
        raise DatabaseError(str(error)) from error
