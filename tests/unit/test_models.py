"""The tables over a real SQLite file."""

import fcntl
import os
import re
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import peewee
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flood import models, schema, users, writers
from flood.columns import name_from, name_value, utc_moment, utc_text
from flood.errors import NoRoomError, SpoolError
from flood.layout import CARD
from flood.models import FileRecord, RetryAttempt, SpoolInfo
from huey_config import huey
from tests.spooling import START, House, fork, garble, in_child, new_database

#: Every step of the schema, in order.
STEPS = sorted(
    path.stem for path in (Path(__file__).parents[2] / "flood" / "migrations").glob("[0-9]*.py")
)

zones = st.timedeltas(timedelta(hours=-14), timedelta(hours=14)).map(
    lambda offset: timezone(timedelta(minutes=offset // timedelta(minutes=1)))
)
moments = st.datetimes(
    min_value=datetime(1, 1, 3),  # noqa: DTZ001  hypothesis wants naive bounds
    max_value=datetime(9999, 12, 29),  # noqa: DTZ001  likewise
    timezones=zones,
)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path / "flood.db")
    models.close()


def record(**changes: object) -> FileRecord:
    known: dict[str, object] = {
        "profile": "p",
        "bucket": "b",
        "filepath": "key",
        "file_creation_date": START,
        "current_state": "processing",
        "last_updated": START,
        "device": 1,
        "inode": 2,
        "size": 3,
        "mtime_ns": 4,
        "spool_path": "processing/p/b/key",
        "created_at": START,
    }
    made: FileRecord = FileRecord.create(**{**known, **changes})
    return made


# --- values ------------------------------------------------------------------------------------


@given(moments)
def test_times_come_back(moment: datetime) -> None:
    assert utc_moment(utc_text(moment)) == moment


@given(moments, moments)
def test_the_order_of_texts_is_the_order_of_times(one: datetime, two: datetime) -> None:
    assert (utc_text(one) < utc_text(two)) == (one < two)


@given(st.binary(max_size=300).filter(lambda name: b"\0" not in name).map(os.fsdecode))
def test_names_come_back(name: str) -> None:
    value = name_value(name)
    assert name_from(value) == name
    with sqlite3.connect(":memory:") as memory:
        [stored] = memory.execute("SELECT ?", (value,)).fetchone()
        assert name_from(stored) == name
        memory.rollback()
    memory.close()


def test_records_keep_names_that_are_no_text(house: House) -> None:
    name = os.fsdecode(b"caf\xe9 \xff")
    made = record(profile=name, filepath=name, spool_path=f"processing/{name}")
    read = FileRecord.get_by_id(made.id)
    assert (read.profile, read.filepath, read.spool_path) == (name, name, f"processing/{name}")
    assert read.created_at == START
    assert FileRecord.get(FileRecord.filepath == name).id == made.id


# --- the schema --------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [FileRecord, RetryAttempt, SpoolInfo])
def test_models_have_the_columns_of_the_tables(house: House, table: type[models.Table]) -> None:
    known = models.execute(f"PRAGMA table_info({table._meta.table_name})").fetchall()
    fields = table._meta.columns
    assert [column[1] for column in known] == list(fields)
    for _, name, _, required, _, is_key in known:
        assert fields[name].null != bool(required or is_key), name


def test_file_records_has_the_promised_columns(house: House) -> None:
    names = [column[1] for column in models.execute("PRAGMA table_info(file_records)").fetchall()]
    assert names[:8] == [
        "id",
        "profile",
        "bucket",
        "filepath",
        "file_creation_date",
        "current_state",
        "last_updated",
        "upload_outcome",
    ]


def test_one_row_a_key_is_in_processing(house: House) -> None:
    record()
    record(bucket="other")
    record(current_state="completed")
    record(current_state="completed")
    with pytest.raises(peewee.IntegrityError):
        record()


@pytest.mark.parametrize(
    "wrong", [{"current_state": "elsewhere"}, {"upload_outcome": "maybe"}, {"size": None}]
)
def test_wrong_values_are_refused(house: House, wrong: dict[str, object]) -> None:
    with pytest.raises(peewee.IntegrityError):
        record(**wrong)


def test_ids_are_never_used_again(house: House) -> None:
    first = record().id
    models.execute("DELETE FROM file_records")
    assert record().id > first


# --- opening -----------------------------------------------------------------------------------


def test_a_new_database_belongs_to_its_user_alone(path: str) -> None:
    assert schema.migrate(path, create=True) == STEPS
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert models.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    for name in os.listdir(os.path.dirname(path)):
        assert stat.S_IMODE(os.stat(f"{os.path.dirname(path)}/{name}").st_mode) == 0o600, name
    assert models.execute("PRAGMA synchronous").fetchone() == (1,)
    models.close()
    assert schema.migrate(path, create=False) == []


def test_an_empty_file_becomes_a_database(path: str) -> None:
    """A first start died between making the file and filling it."""
    Path(path).touch()
    with pytest.raises(SpoolError, match=r"empty.*start flood-watch first"):
        schema.migrate(path, create=False)
    assert os.path.getsize(path) == 0
    assert schema.migrate(path, create=True) == STEPS


def test_who_must_not_create_is_told_what_to_do(path: str) -> None:
    with pytest.raises(SpoolError, match=f"{path} does not exist.*flood-watch"):
        schema.migrate(path, create=False)
    assert not os.path.exists(path)


def test_a_newer_schema_is_refused(path: str) -> None:
    schema.migrate(path, create=True)
    models.execute(
        "INSERT INTO schema_migration (name, applied) VALUES ('0999_later', '2030-01-01')"
    )
    models.close()
    with pytest.raises(SpoolError, match=r"newer flood.*0999_later.*upgrade"):
        schema.migrate(path, create=True)


@pytest.mark.parametrize("create", [True, False])
def test_what_is_no_database_is_refused(path: str, create: bool) -> None:
    Path(path).write_bytes(b"something else entirely " * 100)
    with pytest.raises(SpoolError, match=r"cannot use the database|is no SQLite database"):
        schema.migrate(path, create=create)
    assert Path(path).read_bytes() == b"something else entirely " * 100


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match=r"missing/flood\.db.*No such file"):
        schema.migrate(str(tmp_path / "missing" / "flood.db"), create=True)


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize("kind", ["directory", "FIFO", "socket"])
def test_what_is_no_file_is_no_database(path: str, kind: str, create: bool) -> None:
    """A FIFO would be opened for ever, whatever signal comes."""
    if kind == "directory":
        os.mkdir(path)
    elif kind == "FIFO":
        os.mkfifo(path)
    else:
        with closing(socket.socket(socket.AF_UNIX)) as listening:
            listening.bind(path)
    words = f"{path} is a {kind}, not a database: correct --database"
    with pytest.raises(SpoolError, match=words):
        schema.migrate(path, create=create)
    with pytest.raises(SpoolError, match=words):
        schema.open_for_looking(path)
    assert os.listdir(os.path.dirname(path)) == ["flood.db"]


def another_programs(path: str, *statements: str) -> bytes:
    """Makes a database of another program's; returns the file."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return Path(path).read_bytes()


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE mails (id INTEGER PRIMARY KEY AUTOINCREMENT)"],
        ["PRAGMA journal_mode = WAL", "CREATE TABLE mails (id INTEGER)"],
        ["CREATE VIEW mails AS SELECT 1"],
        # Programs with words, or with a library, in common.
        ["CREATE TABLE mails (id)", "CREATE TABLE spool (id, printer)"],
        [
            "CREATE TABLE mails (id)",
            "CREATE TABLE schema_migration (id INTEGER PRIMARY KEY, name, applied)",
            "INSERT INTO schema_migration VALUES (1, '0001_initial', '2020-01-01')",
        ],
    ],
)
def test_another_programs_database_is_left_as_it_is(
    path: str, create: bool, statements: list[str]
) -> None:
    before = another_programs(path, *statements)
    with pytest.raises(SpoolError, match=rf"{path} is another program's .* mails.*--database"):
        schema.migrate(path, create=create)
    models.close()
    assert Path(path).read_bytes() == before
    assert os.listdir(os.path.dirname(path)) == ["flood.db"]


def test_a_database_without_tables_becomes_one_of_floods(path: str) -> None:
    """As a first start leaves it that died before it made the tables."""
    another_programs(path, "PRAGMA journal_mode = WAL")
    with pytest.raises(SpoolError, match=r"empty.*start flood-watch first"):
        schema.migrate(path, create=False)
    assert schema.migrate(path, create=True) == STEPS


def test_a_first_start_that_died_after_its_first_table_is_completed(path: str) -> None:
    schema.migrate(path, create=True)
    made = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    for (name,) in models.execute(made).fetchall():
        verb = "DELETE FROM" if name == "schema_migration" else "DROP TABLE"
        models.execute(f"{verb} {name}")
    assert schema.migrate(path, create=True) == STEPS


def test_a_wrong_spools_database_is_refused_before_it_is_brought_up_to_date(path: str) -> None:
    schema.migrate(path, create=True)
    models.execute("DELETE FROM schema_migration")  # steps are pending
    models.close()
    before = Path(path).read_bytes()

    def refuse() -> None:
        assert models.execute("SELECT count(*) FROM spool").fetchone() == (0,)
        raise SpoolError("the wrong one")

    with pytest.raises(SpoolError, match="the wrong one"):
        schema.migrate(path, create=True, check=refuse)
    models.close()
    assert Path(path).read_bytes() == before


def test_several_first_starts_at_once(path: str) -> None:
    code = "import sys; from flood import schema; schema.migrate(sys.argv[1], create=True)"
    started = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", code, path], stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    errors = [process.communicate()[1] for process in started]
    assert errors == [b""] * 4
    models.bind(path)
    assert models.execute("SELECT name FROM schema_migration").fetchall() == [
        (step,) for step in STEPS
    ]


# --- transactions ------------------------------------------------------------------------------


def test_a_write_is_kept_or_undone_as_a_whole(house: House) -> None:
    def write(name: str) -> None:
        with models.write():
            record(filepath=name)
            with models.write():
                record(filepath=f"{name} within")
            if name == "undone":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write("undone")
    assert house.rows() == []
    write("kept")
    assert [row["filepath"] for row in house.rows()] == ["kept", "kept within"]


def test_a_transaction_that_an_interrupt_has_left_open_is_undone(house: House) -> None:
    """As KeyboardInterrupt does that comes once SQLite has begun, before peewee knows."""
    opened = models.connection()
    opened.execute("BEGIN IMMEDIATE")
    opened.execute("UPDATE spool SET told_age = 1")
    with models.write():
        assert models.execute("SELECT told_age FROM spool").fetchone() == (None,)
        models.execute("UPDATE spool SET told_age = 2")
    models.close()
    assert models.execute("SELECT told_age FROM spool").fetchone() == (2.0,)


def test_writers_take_turns(house: House) -> None:
    """Adding up by reading then writing loses nothing among threads and processes."""
    models.execute("CREATE TABLE total (value INTEGER)")
    models.execute("INSERT INTO total VALUES (0)")

    def add() -> None:
        for _ in range(50):
            with models.write():
                [value] = models.execute("SELECT value FROM total").fetchone()
                models.execute("UPDATE total SET value = ?", (value + 1,))
        models.close()

    child = fork()
    if child == 0:
        try:
            add()
        finally:
            os._exit(0)
    threads = [threading.Thread(target=add) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.waitpid(child, 0)
    assert models.execute("SELECT value FROM total").fetchone() == (200,)


def test_a_write_waits_for_the_turn_of_its_own_database(tmp_path: Path, house: House) -> None:
    """After the models were bound to another file, its lock counts, not that of the former."""
    with models.write():
        pass
    other = str(tmp_path / "other.db")
    schema.migrate(other, create=True)
    with models.write():
        assert _turn_is_taken(other)
        assert not _turn_is_taken(house.database)
    assert not _turn_is_taken(other)


def _turn_is_taken(database: str) -> bool:
    with open(f"{database}-writers", "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_closing_gives_everything_back(house: House) -> None:
    with models.write():
        record()
    held = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is(fd)]
    assert any(house.database in path for path in held)
    models.close()
    models.close()
    held = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is(fd)]
    assert not any(house.database in path for path in held)


def _is(descriptor: str) -> bool:
    return os.path.islink(f"/proc/self/fd/{descriptor}")


def test_a_transaction_that_sqlite_ended_by_itself_hides_no_reason(house: House) -> None:
    """As it does on a full disk."""

    def broken_off() -> None:
        with models.write():
            models.database.connection().execute("ROLLBACK")
            raise ValueError("the reason")

    with pytest.raises(ValueError, match="the reason"):
        broken_off()
    with models.write():
        assert models.execute("SELECT 1").fetchone() == (1,)


def test_a_full_disk_is_told_although_sqlite_has_nothing_to_roll_back(house: House) -> None:
    """SQLite rolls back by itself, and peewee's rollback then fails with other words."""

    class Full(Exception):
        pass

    def commit() -> None:
        models.execute("ROLLBACK")
        raise models.OperationalError("database or disk is full")

    def within() -> None:
        with models.write():
            commit()

    try:
        raise Full
    except Full:  # what went wrong before has nothing to do with it
        with pytest.raises(models.DatabaseError, match="disk is full"):
            within()
    # Nor has what went wrong afterwards, to whoever is told of the reason alone.
    with pytest.raises(NoRoomError, match="disk is full"):
        schema.migrate(house.database, create=False, check=within)


def test_a_database_that_was_deleted_is_not_made_anew(house: House) -> None:
    with models.write():
        record()
    os.unlink(house.database)
    for _ in range(2):
        with pytest.raises(models.DatabaseError, match="unable to open") as caught, models.write():
            pass
        with pytest.raises(models.DatabaseError, match="unable to open"):
            models.execute("SELECT 1")
        assert models.explain(caught.value).endswith(f"No such file or directory: {models.GONE}")
    assert not os.path.exists(house.database)


@pytest.mark.parametrize("other", ["another spool's", "empty"])
def test_a_database_that_is_none_of_this_spool_is_left_alone(house: House, other: str) -> None:
    models.expect("f" * 32)
    with models.write():
        record()
    kept = f"{house.database}.kept"
    for suffix in ("", "-wal", "-shm"):
        os.rename(f"{house.database}{suffix}", f"{kept}{suffix}")
    Path(house.database).write_bytes(new_database() if other != "empty" else b"")
    if other != "empty":
        with sqlite3.connect(house.database) as connection:
            connection.execute("UPDATE spool SET spool_id = 'other'")
        connection.close()
    before = Path(house.database).read_bytes()
    for _ in range(2):
        with pytest.raises(models.DatabaseError, match="was replaced"), models.write():
            record()
    models.close()
    assert Path(house.database).read_bytes() == before
    for suffix in ("", "-wal", "-shm"):
        if os.path.exists(f"{kept}{suffix}"):
            os.replace(f"{kept}{suffix}", f"{house.database}{suffix}")
    with models.write():
        assert len(house.rows()) == 1


def test_a_database_that_was_replaced_is_the_one_that_is_used(house: House) -> None:
    with models.write():
        record()
    for suffix in ("", "-wal", "-shm"):
        os.rename(f"{house.database}{suffix}", f"{house.database}.old{suffix}")
    Path(house.database).write_bytes(new_database())
    assert house.rows() == []
    with models.write():
        record()
    assert len(house.rows()) == 1


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user reaches, unlike those of pytest."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        Path(made).chmod(0o777)
        yield Path(made)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_who_owns_the_spool_takes_a_database_of_roots(public: Path) -> None:
    """Whoever he was told to be, he is it; others are told as before."""
    path, own = str(public / "flood.db"), str(public)
    schema.migrate(path, create=True)
    models.close()
    (public / ".flood").mkdir()
    (public / CARD).touch()
    os.chown(public / CARD, 65534, -1)
    for queue in writers.QUEUES:
        Path(f"{path}{queue}").chmod(0o666)
    Path(path).chmod(0o444)
    told = {
        own: f"sudo chown {users.name(65534)}: {path} {path}-workers {path}-writers",
        f"{own}/none": "give this user write access to the database",
        None: "give this user write access to the database",
    }

    def refused(number: int, spool: str | None, words: str) -> None:
        os.setgid(number)
        os.setuid(number)
        models.bind(path, server_directory=spool)
        with pytest.raises(models.DatabaseError, match="readonly") as error, models.write():
            record()
        explained = models.explain(error.value)
        assert explained.startswith(f"attempt to write a readonly database: {words}")
        assert models.explain(OSError(explained)) == explained

    for spool, words in told.items():
        assert in_child(partial(refused, 65534, spool, words)) == 0
    assert in_child(partial(refused, 65533, own, told[None])) == 0


def test_a_database_that_may_be_written_to_again_is(public: Path) -> None:
    """SQLite opens what it may not write for reading, and never looks again."""
    path = str(public / "flood.db")
    schema.migrate(path, create=True)
    models.close()

    def as_another_user() -> None:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        with pytest.raises(SpoolError, match="readonly database: give this user write access"):
            schema.migrate(path, create=False)
        with pytest.raises(models.DatabaseError, match="readonly"), models.write():
            record()
        os.write(asks, b"x")
        os.read(answers, 1)
        with models.write():
            record()

    if os.geteuid() != 0:
        pytest.skip("takes root to become somebody else")
    Path(path).chmod(0o444)
    for queue in writers.QUEUES:
        Path(f"{path}{queue}").chmod(0o666)
    answers, answer = os.pipe()
    asked, asks = os.pipe()

    def give() -> None:
        os.read(asked, 1)
        for each in public.iterdir():
            each.chmod(0o666)
        os.write(answer, b"x")

    thread = threading.Thread(target=give)
    thread.start()
    try:
        assert in_child(as_another_user) == 0
    finally:
        os.write(asks, b"x")  # should the child have failed before
        thread.join()
        for each in (answers, answer, asked, asks):
            os.close(each)


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize(
    ("locked", "mode"),
    [
        ("house", 0o700),
        ("house/flood.db", 0o600),
        ("house/flood.db-wal", 0o600),
        ("house/flood.db-writers", 0o600),
        ("house/flood.db-workers", 0o600),
    ],
)
def test_what_this_user_may_not_use_is_named(
    public: Path, locked: str, mode: int, create: bool
) -> None:
    if os.geteuid() != 0:
        pytest.skip("takes root to become somebody else")
    house = public / "house"
    house.mkdir()
    path = str(house / "flood.db")
    schema.migrate(path, create=True)
    models.close()
    Path(f"{path}-wal").write_text("left")  # by a process that was killed
    for each in house.iterdir():
        each.chmod(0o666)
    house.chmod(0o777)
    (public / locked).chmod(mode)

    def as_another_user() -> None:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        words = f"the database {path}: Permission denied: .* access to {public / locked}"
        with pytest.raises(SpoolError, match=f"cannot use {words}$"):
            schema.migrate(path, create=create)
        if not locked.endswith(writers.QUEUES):  # which whoever only reads does without
            with pytest.raises(SpoolError, match=f"cannot read {words}$"):
                schema.open_for_reading(path)

    assert in_child(as_another_user) == 0


def test_a_directory_that_closes_is_no_database_that_was_deleted(public: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("takes root to become somebody else")
    house = public / "house"
    house.mkdir(0o700)
    (house / "flood.db").touch()

    def as_another_user() -> None:
        os.setuid(65534)
        models.bind(str(house / "flood.db"))
        with pytest.raises(models.DatabaseError, match="unable to open") as caught:
            models.execute("SELECT 1")
        told = models.explain(caught.value)
        assert re.match(f"Permission denied: .* give .* access to {house}$", told)

    assert in_child(as_another_user) == 0


def test_odd_names_of_databases(tmp_path: Path) -> None:
    path = str(tmp_path / "a b?mode=memory#%41\udcff.db")
    schema.migrate(path, create=True)
    with models.write():
        record()
    models.close()
    assert os.path.getsize(path) > 0
    assert sorted(os.listdir(tmp_path)) == [
        os.path.basename(path),
        *(f"{os.path.basename(path)}{queue}" for queue in writers.QUEUES),
    ]


def test_refusals_come_with_advice() -> None:
    assert models.explain(Exception("database or disk is full")).endswith(
        "make room on the disk of the database"
    )
    assert models.explain(Exception("something else")) == "something else"
    models.bind("/nowhere/flood.db")
    for refusal in ("disk I/O error", "unable to open database file"):
        once = models.explain(Exception(refusal))
        assert models.explain(Exception(once)) == once != refusal


def test_a_complaint_that_is_no_text_is_one_of_the_database(tmp_path: Path) -> None:
    """Whichever statement comes upon it first."""
    path = tmp_path / "flood.db"
    path.write_bytes(new_database())
    garble(path)
    models.bind(str(path))

    def write() -> None:
        with models.write():
            models.execute_many("DELETE FROM file_records WHERE id = ?", [(1,)])

    for statement in (
        models.version,
        write,
        lambda: models.execute("SELECT 1 FROM file_records"),
        lambda: next(iter(FileRecord.select())),
        huey.pending_count,
    ):
        with pytest.raises(models.DatabaseError, match="malformed"):
            statement()
        models.close()
    with pytest.raises(SpoolError, match=r"flood\.db: .*malformed: restore the database, or have"):
        schema.migrate(str(path), create=False)


def test_a_table_that_lacks_a_column_is_refused(house: House) -> None:
    """Nobody could work on it, and each try would fail in the middle."""
    models.execute("ALTER TABLE file_records RENAME COLUMN bytes_sent TO other")
    models.close()
    with pytest.raises(
        SpoolError, match=r"is broken: file_records has no column bytes_sent: flood-"
    ):
        schema.migrate(house.database, create=False)
    assert schema.open_for_looking(house.database) == ["file_records has no column bytes_sent"]
