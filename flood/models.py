"""The tables as peewee models over one SQLite file."""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

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
from playhouse.migrations import Runner

from flood.errors import SpoolError

#: How long SQLite waits for another process's transaction, in seconds.
BUSY_TIMEOUT: Final = 60

# SQLite's words for what a person can mend.
_ADVICE: Final = {
    "disk is full": "make room on the disk of the database",
    "readonly": "give this user write access to the database and its directory",
    "locked": "another program holds it; flood goes on as soon as it lets go",
    "malformed": "restore the database, or move it away: flood-watch makes a new one",
}

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

    field_type = "TEXT"

    def db_value(self, value: str | None) -> str | bytes | None:
        return None if value is None else name_value(value)

    def python_value(self, value: str | bytes | None) -> str | None:
        return None if value is None else name_from(value)


def utc_text(moment: datetime) -> str:
    """An aware time as the tables hold it."""
    # Not strftime, whose %Y has fewer digits for the first thousand years.
    utc = moment.astimezone(timezone.utc).replace(tzinfo=None)
    return f"{utc.isoformat(timespec='microseconds')}Z"


def utc_moment(text: str) -> datetime:
    """The aware time behind a text of the tables."""
    # Python 3.10's fromisoformat does not know the Z.
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def name_value(name: str) -> str | bytes:
    """A path as the tables hold it."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return os.fsencode(name)
    return name


def name_from(value: str | bytes) -> str:
    """A path as the tables hold it, turned back."""
    return os.fsdecode(value)


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
    current_state = TextField()
    last_updated = UtcField()
    upload_outcome = TextField(null=True)
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
    error_code = TextField(null=True)
    error_message = TextField(null=True)
    bytes_sent = IntegerField(default=0)
    created_at = UtcField()
    completed_at = UtcField(null=True)

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
    """One row: which spool this database belongs to, when it was last swept."""

    id = AutoField()
    spool_id = TextField()
    created_at = UtcField()
    last_swept_at = UtcField(null=True)

    class Meta:
        table_name = "spool"


def bind(path: str) -> None:
    """Say which file the models are for; nothing is opened yet."""
    close()
    # NORMAL: a power failure may lose the last transactions but never corrupts a WAL database
    # (sqlite.org/pragma.html#pragma_synchronous); the directories are what must be durable.
    database.init(
        path,
        timeout=BUSY_TIMEOUT,
        pragmas={"synchronous": "NORMAL", "cache_size": -8000, "temp_store": "MEMORY"},
    )


def close() -> None:
    """Close this thread's connection, if it has one."""
    if not database.deferred and not database.is_closed():
        database.close()
    _leave_queue()


class _Turn(threading.local):
    """This thread's place in the queue of writers of one database; of this process alone, as a
    descriptor that came through a fork shares its lock with the parent."""

    descriptor = -1
    place = (0, "")


_turn = _Turn()


@contextmanager
def _writers_turn(path: str) -> Iterator[None]:
    # SQLite's writers poll with growing pauses, so that a busy process starves the others. Waiting
    # for a kernel lock instead lets them in one after the other.
    if _turn.place != (os.getpid(), path):
        _leave_queue()
        _turn.descriptor = os.open(f"{path}-writers", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _turn.place = (os.getpid(), path)
    descriptor = _turn.descriptor
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _leave_queue() -> None:
    if _turn.descriptor >= 0:
        os.close(_turn.descriptor)
    _turn.descriptor, _turn.place = -1, (0, "")


@contextmanager
def write() -> Iterator[None]:
    """One IMMEDIATE transaction, after waiting for this thread's turn; within one, a part of it.

    No network, hashing or file probing belongs inside: every other writer waits.
    """
    if database.in_transaction():
        yield
        return
    failure: BaseException | None = None
    try:
        with _writers_turn(str(database.database)), database.atomic("IMMEDIATE"):
            try:
                yield
            except BaseException as error:
                failure = error
                raise
    except DatabaseError as error:
        # On a full disk SQLite rolls back by itself; that there is nothing left to roll back then
        # hides the reason.
        if failure is not None and error is not failure:
            raise failure from None
        raise


def explain(error: Exception) -> str:
    """A database's refusal in words, with what to do about it where that is known."""
    text = str(error)
    for sign, advice in _ADVICE.items():
        if sign in text:
            return f"{text}: {advice}"
    return text


def execute(sql: str, parameters: tuple[Any, ...] = ()) -> Any:
    """Run one statement on this thread's connection; return its cursor."""
    return database.execute_sql(sql, parameters)


def migrate(path: str, *, create: bool) -> list[str]:
    """Bring the database at `path` to this program's schema; return the steps that were applied.

    With `create` a missing file is made, with mode 0600; without it that is a SpoolError, as is a
    file of a newer flood or one that is no database.
    """
    directory = os.path.dirname(path)
    try:
        if not os.path.exists(path):
            if not create:
                raise SpoolError(
                    f"the database {path} does not exist: start flood-watch first, it creates it; "
                    "or set --database (FLOOD_DATABASE) to the one that flood-watch uses"
                )
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        bind(path)
        with _writers_turn(path):
            return _upgrade(path)
    except (DatabaseError, OperationalError) as error:
        raise SpoolError(f"cannot use the database {path}: {error}") from error
    except OSError as error:
        raise SpoolError(
            f"cannot use the database {path} (in {directory}): {error.strerror}"
        ) from error


def _upgrade(path: str) -> list[str]:
    runner = Runner(database, os.path.join(os.path.dirname(__file__), "migrations"))
    known = {migration.name for migration in runner.migrations()}
    applied = set(runner.applied())
    if applied - known:
        raise SpoolError(
            f"the database {path} was written by a newer flood "
            f"(schema {max(applied - known)}): upgrade this one"
        )
    steps: list[str] = []
    if known - applied:
        # Write-ahead logging is a property of the file. Setting it takes a moment in which nobody
        # else may have the file open, hence once, here, under the lock.
        execute("PRAGMA journal_mode = WAL")
        steps = runner.up()
    return steps
