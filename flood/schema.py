"""Brings a database to this program's schema."""

import os
import shlex
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from flood import (
    database_files,
    directories,
    models,
    owners,
    read_only,
    syscalls,
    users,
    writers,
)
from flood.errors import FloodError, NoRoomError, SpoolError, TryAgainError
from flood.walk import kind_of
from flood.writers import Locked, turn

_CORRECT: Final = "correct --database (FLOOD_DATABASE)"
_OVERWRITTEN: Final = (
    f"{_CORRECT}; if flood's own was overwritten, flood-fsck --repair with the same settings makes "
    "a new one, and keeps the other file aside"
)

#: What mends a database without tables.
MAKES_TABLES: Final = "start flood-watch first, anew if it runs: it makes the tables"
_NO_TABLES: Final = "it has no tables of flood's"

_HEADER: Final = b"SQLite format 3\0"  # sqlite.org/fileformat.html

# What SQLite says of a file that it cannot rely on.
_BROKEN: Final = (
    "malformed",
    "not a database",
    "file is encrypted",
    "corrupt",
    "Could not decode to UTF-8",  # of a name in what integrity_check answers
)

_MIGRATIONS: Final = os.path.join(os.path.dirname(__file__), "migrations")

#: The steps that were applied, as playhouse.migrations keeps them. It is made before all others,
#: which come into being together.
_HISTORY: Final = "schema_migration"
# The byte of what SQLite has beside a database that everybody locks who has that open: UNIX_SHM_DMS
# in its os_unix.c.
_OPEN: Final = 128

#: Each of both may be in another program's database; none has this one.
_OWN: Final = frozenset({_HISTORY, "spool"})
_RECORDS: Final = "file_records"


def migrate(
    path: str,
    *,
    create: bool,
    server_directory: str | None = None,
    check: Callable[[], object] = lambda: None,
) -> list[str]:
    """Bring the database at `path` to this program's schema; return the steps that were applied.

    With `create` a missing file is made, with mode 0600, which from root is the owner's of the
    spool at `server_directory`, if that is given; without it that is a SpoolError, as is a file of
    a newer flood, another program's database, or what is none; ReadOnlyError where the filesystem
    takes no writes. `check` is called before anything is written to a database that was set up
    before; it raises SpoolError if that is not the right one.
    """
    directory = os.path.dirname(path)
    before = sys.exc_info()[1]
    try:
        models.bind(path, server_directory=server_directory)
        _find(path, create, server_directory)
        if "spool" in _own_tables(path, create):
            check()
        with turn(path, models.waiting()):
            steps = _upgrade(path)
        for lacking in _lacks():
            raise SpoolError(f"the database {path} is broken: {lacking}", "flood-fsck --repair")
        with models.write():
            # Whoever may only read it learns so now; BEGIN alone does not mind.
            models.execute("UPDATE spool SET id = id WHERE FALSE")
        return steps
    except Locked as error:
        who = writers.remedy(path) or "another program holds it"
        raise TryAgainError(f"cannot use the database {path}: {who}") from error
    except models.DatabaseError as error:
        reason = models.first_reason(error, before)
        if read_only.refused(reason, path):
            raise read_only.told(f"cannot use the database {path}") from error
        denied = _denied_by(reason, path)
        full = not denied and models.no_room(reason)
        kind: type[FloodError] = NoRoomError if full else SpoolError
        kind = TryAgainError if "locked" in str(reason) else kind
        told = _give_access(denied) if denied else models.explain(reason)
        raise kind(f"cannot use the database {path}: {told}") from error
    except PermissionError as error:
        told = _give_access(database_files.denied_parts(path) or [directory])
        raise SpoolError(f"cannot use the database {path}: {told}") from error
    except OSError as error:
        if read_only.refused(error, path):
            raise read_only.told(f"cannot use the database {path}") from error
        told = f"cannot use the database {path} (in {directory}): {error.strerror}"
        if models.no_room(error):
            raise NoRoomError(f"{told}: {models.MAKE_ROOM}") from error
        advice = "" if os.path.isdir(directory) else place_for(path)
        raise SpoolError(told, advice) from error


def place_for(path: str) -> str:
    """What a person does about a database whose directory is not there."""
    directory = os.path.dirname(path)
    may = os.access(directories.nearest(directory), os.W_OK | os.X_OK, effective_ids=True)
    make = ("mkdir", "-p") if may else ("sudo", "install", "-d", "-o", users.mine())
    return (
        f"is its disk mounted? For a new database make it: {shlex.join((*make, directory))}; or "
        f"{_CORRECT}"
    )


def check_link(path: str) -> None:
    """Raise SpoolError for a symbolic link that leads to where no database can be."""
    directory = os.path.dirname(os.path.realpath(path))
    if os.path.islink(path) and not os.path.isdir(directory):
        raise SpoolError(
            f"{path} is a symbolic link that leads nowhere, to {os.readlink(path)}",
            f"{models.AWAY} Only if it is gone for good, remove the link, or make a new one to an "
            "existing directory, then: flood-fsck --repair",
        )


def _find(path: str, create: bool, server_directory: str | None) -> None:
    try:
        _check_kind(path)
    except FileNotFoundError:
        check_link(path)
        if not create:
            raise SpoolError(
                f"the database {path} does not exist",
                "start flood-watch first, it creates it; or set --database (FLOOD_DATABASE) to the "
                "one that flood-watch uses",
            ) from None
        _make(path, server_directory)


def _make(path: str, server_directory: str | None) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        # Through no link that comes meanwhile: what lies at its end would be given away, too.
        made = os.open(os.path.realpath(path), flags, 0o600)
    except FileExistsError:
        return  # somebody was faster
    try:
        if server_directory is not None:
            owners.give(made, owners.of_spool(server_directory, path))
    finally:
        os.close(made)


def _check_kind(path: str) -> None:
    """Raise SpoolError for what is no regular file: opening a FIFO would wait for ever."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kind = kind_of(mode)
        raise SpoolError(f"{path} is a {kind}, not a database", _CORRECT)


def _own_tables(path: str, create: bool) -> set[str]:
    """The tables of the database, as far as they were made; raise SpoolError if it is none, or
    another program's."""
    with open(path, "rb") as file:
        header = file.read(len(_HEADER))
    if header and header != _HEADER:
        raise SpoolError(f"{path} is no SQLite database", _OVERWRITTEN)
    tables = _tables()
    if others := _strangers(tables):
        raise SpoolError(
            f"{path} is another program's database, with tables such as {', '.join(others)}",
            _OVERWRITTEN,
        )
    made = tables - {_HISTORY}
    if made and not tables >= _OWN:
        raise SpoolError(
            f"the database {path} lacks tables of flood's", "flood-fsck says what can be done"
        )
    if not made and not create:
        raise SpoolError(f"the database {path} is empty, it belongs to no spool yet", MAKES_TABLES)
    return tables


def _tables() -> set[str]:
    found = models.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
    return {name for (name,) in found.fetchall() if not name.startswith("sqlite_")}


def _strangers(tables: set[str]) -> list[str]:
    if tables >= _OWN or _RECORDS in tables:
        return []
    return sorted(tables - {_HISTORY})[:3]


def strangers() -> list[str]:
    """Some of the tables of the database that the models are bound to, if it is another program's;
    empty if it is flood's, has no tables, or cannot be read."""
    try:
        return _strangers(_tables())
    except models.DatabaseError:
        return []


def is_empty(problems: Sequence[str]) -> bool:
    """Whether these `problems` of the database that the models are bound to, which
    `open_for_looking` has found, are that nobody has made any table in it yet."""
    return problems == [_NO_TABLES] and not _tables() - {_HISTORY}


def _denied_by(reason: object, path: str) -> list[str]:
    """The parts that SQLite refuses to open, or to write to where this user can change that; of
    others' `models.explain` tells."""
    if "unable to open" in str(reason):
        return database_files.denied_parts(path)
    parts = database_files.denied_parts(path) if "readonly database" in str(reason) else []
    return parts if models.is_spools_owner() or all(map(users.owns, parts)) else []


def _give_access(denied: Sequence[str]) -> str:
    return f"Permission denied: {models.access_to(denied)}"


def open_for_looking(path: str, server_directory: str | None = None) -> list[str]:
    """Open the database at `path` so that nothing can be written to it; return the problems that
    SQLite finds in it, the tables and columns that are missing. `server_directory` is as
    `models.bind` has it.

    Raises SpoolError if it cannot be opened, or is a newer flood's; NoRoomError.
    """
    models.bind(path, server_directory=server_directory)
    _check_kind(path)
    try:
        models.execute("PRAGMA query_only = ON")
        problems = [
            row[0] for row in models.execute("PRAGMA integrity_check").fetchall() if row[0] != "ok"
        ]
        if problems:
            return problems
        known, applied = _applied(path)
        if applied and known - applied:
            return []  # what it lacks, an upgrade adds
        return list(_lacks()) if applied else [_NO_TABLES]
    except models.DatabaseError as error:
        text = str(error)
        if any(sign in text for sign in _BROKEN):
            return [text]
        denied = (
            database_files.denied_parts(path)
            if "unable to open" in text and os.path.exists(path)
            else []
        )
        if denied and not read_only.refused(error, path):
            raise SpoolError(f"cannot read the database {path}: {_give_access(denied)}") from error
        text, advice = models.explained(error)
        told = f"cannot read the database {path}: {text}"
        if models.no_room(error):
            raise NoRoomError(f"{told}: {advice}") from error
        raise SpoolError(told, advice) from error


def _lacks() -> Iterator[str]:
    """The columns that flood's tables do not have, though all steps were applied: somebody has
    changed the tables, or a step that had been applied."""
    for table in models.TABLES:
        name = table._meta.table_name
        present = {column.name for column in models.database.get_columns(name)}
        missing = {field.column_name for field in table._meta.sorted_fields} - present
        yield from (f"{name} has no column {column}" for column in sorted(missing))


def open_for_reading(path: str, server_directory: str | None = None) -> None:
    """As `open_of_any_age`, but raises SpoolError for an older flood's database, too."""
    open_of_any_age(path, server_directory)
    try:
        old = outdated(path)
    except models.DatabaseError as error:
        raise SpoolError(f"cannot read the database {path}: {models.explain(error)}") from error
    if old:
        raise SpoolError(
            f"the database {path} was made by an older flood: restart flood-watch, or a "
            "consumer, which brings it up to date"
        )


def open_of_any_age(path: str, server_directory: str | None = None) -> None:
    """Bind the models to the database at `path` so that nothing of it can be changed: it is neither
    made, nor brought up to date, nor checked. `server_directory` is as `models.bind` has it.

    Raises SpoolError if it cannot be read, or is none of flood's.
    """
    try:
        models.bind(path, "ro", server_directory=server_directory)
        _check_kind(path)
        try:
            _own_tables(path, create=False)
        except models.DatabaseError as error:
            # Who may not write beside the database, or finds no room there, can read one that
            # nobody has open only like this, as SQLite would make its companions first. What it has
            # made of them stays: whoever opens them this very moment must have those that all have.
            models.close()
            if "locked" in str(error) or not _at_rest(path):
                raise
            models.bind(path, models.AT_REST, server_directory=server_directory)
            _own_tables(path, create=False)
    except models.DatabaseError as error:
        raise SpoolError(f"cannot read the database {path}: {models.explain(error)}") from error
    except FileNotFoundError:
        raise SpoolError(f"the database {path} is gone", models.GONE) from None
    except PermissionError as error:
        told = _give_access(database_files.denied_parts(path) or [path])
        raise SpoolError(f"cannot read the database {path}: {told}") from error
    except OSError as error:
        raise SpoolError(f"cannot read the database {path}: {error.strerror}") from error


def _at_rest(path: str) -> bool:
    """Whether all of the database is in its own file, and no other process has it open; this one
    must not have."""
    try:
        if os.path.exists(f"{path}-journal") or os.stat(f"{path}-wal").st_size:
            return False
        with open(f"{path}-shm", "rb") as file:
            return not syscalls.is_locked(file.fileno(), _OPEN)
    except FileNotFoundError:
        return True
    except OSError:
        return False


def allow_writing() -> None:
    """End what `open_for_looking` began: this thread's connection may write again."""
    models.execute("PRAGMA query_only = OFF")


def outdated(path: str) -> bool:
    """Whether the database lacks steps of this program's schema; raises SpoolError as `migrate`."""
    known, applied = _applied(path)
    return bool(known - applied)


def applied(path: str) -> list[str]:
    """The steps that the database has, in their order; raises SpoolError as `migrate`."""
    return sorted(_applied(path)[1])


def missing_indices() -> dict[str, str]:
    """The indices that flood's tables lack, or have others in the place of, each with the statement
    that makes it."""
    present = _indices(models.execute)
    scratch = models.scratch()
    try:
        runner = _runner(scratch)
        # Not runner.up(), which would log that something was upgraded.
        for migration in runner.migrations():
            migration.load().up(runner.migrator, scratch)
        wanted = _indices(scratch.execute_sql)
    finally:
        scratch.close()
    return {name: sql for name, sql in wanted.items() if present.get(name) != sql}


def _indices(execute: Callable[[str], Any]) -> dict[str, str]:
    names = ", ".join(f"'{table._meta.table_name}'" for table in models.TABLES)
    found = execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL "
        f"AND tbl_name IN ({names}) ORDER BY rowid"
    )
    return dict(found.fetchall())


def _applied(path: str) -> tuple[set[str], set[str]]:
    """The steps that this program knows, those that the database has."""
    steps = (name for name in os.listdir(_MIGRATIONS) if name[0].isdigit())
    known = {name.removesuffix(".py") for name in steps if name.endswith(".py")}
    history = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    applied = set()
    if models.execute(history, (_HISTORY,)).fetchone():
        applied = {name for (name,) in models.execute(f"SELECT name FROM {_HISTORY}").fetchall()}
    if applied - known:
        raise SpoolError(
            f"the database {path} was written by a newer flood (schema {max(applied - known)})",
            "upgrade this one",
        )
    return known, applied


def _upgrade(path: str) -> list[str]:
    known, applied = _applied(path)
    steps: list[str] = []
    if known - applied:
        # Write-ahead logging is a property of the file. Setting it takes a moment in which nobody
        # else may have the file open, hence once, here, under the lock.
        models.execute("PRAGMA journal_mode = WAL")
        steps = _runner(models.database).up()
    return steps


def _runner(database: Any) -> Any:
    # It takes long to import, and most starts find nothing to do.
    from playhouse.migrations import Runner

    return Runner(database, _MIGRATIONS)
