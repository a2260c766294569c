"""What flood-watch finds as it starts, while more arrives."""

import fcntl
import os
import re
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from flood import models
from flood.locks import CONSUMERS_LOCK, FileLock
from tests.acceptance.harness import (
    Flood,
    MakeFlood,
    check_promises,
    credentials,
    without_roots_rights,
)
from tests.servers import S3Server
from tests.spooling import garble

IN_PROCESSING = 800
IN_INCOMING = 2000


class Producer(threading.Thread):
    """Moves small files into a directory until it is told to end."""

    def __init__(self, outside: Path, incoming: Path) -> None:
        super().__init__(daemon=True)
        self.made = 0
        self._outside = outside
        self._incoming = incoming
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.is_set():
            self._outside.write_bytes(b"%d" % self.made)
            # A directory now and then, as they take another way into the watch.
            directory = self._incoming / f"dir-{self.made // 20}"
            directory.mkdir(exist_ok=True)
            self._outside.rename(directory / f"new-{self.made:05}")
            self.made += 1
            self._end.wait(0.001)

    def end(self) -> None:
        self._end.set()
        self.join()


def ids(flood: Flood, prefix: str) -> list[int]:
    return [
        row["id"] for row in flood.rows() if row["filepath"].rpartition("/")[2].startswith(prefix)
    ]


def test_processing_and_incoming_are_taken_up_while_more_arrives(flood: Flood) -> None:
    processing = flood.spool / "processing/main/bucket"
    processing.mkdir(parents=True)
    incoming = flood.incoming("bucket")
    for number in range(IN_PROCESSING):
        (processing / f"processing-{number}").write_bytes(b"p")
    for number in range(IN_INCOMING):
        (incoming / f"incoming-{number}").write_bytes(b"i")
    newer = [f"processing-{number}" for number in range(0, IN_PROCESSING, 20)]
    for key in newer:
        (incoming / key).write_bytes(b"newer")
    producer = Producer(flood.outside("new"), incoming)
    producer.start()
    try:
        watch = flood.start_watch()
        before = producer.made
        flood.wait_for(lambda: producer.made > before + 300, "more arrivals")
    finally:
        producer.end()
    assert before > 10, "some arrived while flood-watch started"
    total = IN_PROCESSING + IN_INCOMING + producer.made
    flood.wait_for(lambda: flood.count() >= total, "every file")
    watch.signal(signal.SIGTERM)
    assert watch.wait() == 0

    assert flood.count(current_state="processing") == total
    assert flood.files("incoming") == sorted(f"incoming/main/bucket/{key}" for key in newer)
    assert sorted(row["spool_path"] for row in flood.rows()) == flood.files("processing")
    first, second = ids(flood, "processing-"), ids(flood, "incoming-")
    assert (len(first), len(second)) == (IN_PROCESSING, IN_INCOMING)
    assert {path.read_bytes() for path in processing.glob("processing-*")} == {b"p"}
    late = [
        row["id"] for row in flood.rows() if row["filepath"].partition("/new-")[2] > f"{before:05}"
    ]
    assert len(late) > 200
    assert max(second) < min(late)


def test_every_profile_and_bucket_is_taken_up(
    flood: Flood, server: S3Server, bucket_name: Callable[[], str]
) -> None:
    flood.credentials.write_text(
        flood.credentials.read_text() + flood.credentials.read_text().replace("[main]", "[other]")
    )
    for profile in ("main", "other"):
        for state in ("processing", "incoming"):
            bucket = server.make_bucket(bucket_name())
            key = f"{profile}/{state}"
            path = flood.spool / state / profile / bucket / key
            path.parent.mkdir(parents=True)
            path.write_bytes(key.encode())
            flood.expect(bucket, key, key.encode(), profile)
    left = flood.spool / "incoming_tmp/main/bucket/.half-a-copy"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    flood.start_watch()
    for given in flood.given:
        for state in ("incoming_tmp", "incoming", "processing", "completed", "failed"):
            assert (flood.spool / state / given.profile / given.bucket).is_dir()
    flood.start_consumer()
    flood.wait_delivered()
    check_promises(flood, server)
    assert oct(os.stat(flood.database).st_mode & 0o777) == "0o600"


def test_a_second_flood_watch_is_turned_away(flood: Flood) -> None:
    first = flood.start_watch()
    second = flood.run("-m", "flood.commands.watch")
    assert second.returncode == 75
    assert f"another flood-watch is at work on {flood.spool}" in second.stderr
    assert first.alive()


def holds_open(pid: int, path: Path) -> bool:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed since
            if os.readlink(link) == str(path):
                return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_one_that_is_stopped_while_it_waits_has_not_failed(
    flood: Flood, number: signal.Signals
) -> None:
    """For a database that somebody else holds."""
    writers = Path(f"{flood.database}-writers")
    with writers.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        watch = flood.start("watch", "-m", "flood.commands.watch")
        flood.wait_for(lambda: holds_open(watch.pid, writers), "flood-watch at the lock")
        watch.signal(number)
        assert watch.wait() == 0
    [told] = watch.events("stopped while starting")
    assert "another program holds it" in told["reason"]
    assert "ready" not in watch.output()
    assert "goes on" not in watch.output()


# On some filesystems the kernel does not tell who that is.
HELD = r"database is locked: (another program|process \d+) holds it"

IMPATIENT = """
from flood import attendance, writers
from flood.commands import watch
writers.PATIENCE, attendance.PATIENCE, attendance.LOOK = 0.2, 1.5, 0.1
raise SystemExit(watch.main())
"""


def test_it_waits_for_a_database_that_is_held_for_long(flood: Flood) -> None:
    """Who starts it may not be there to do so again. While it waits no consumer is missed."""
    (flood.incoming("bucket") / "waits").write_bytes(b"w")
    with closing(sqlite3.connect(flood.database, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN IMMEDIATE")
        watch = flood.start("watch", "-c", IMPATIENT)
        flood.wait_for(lambda: watch.events("cannot start yet"), "word of the wait")
        assert watch.alive()
        other.execute("ROLLBACK")
    flood.wait_for(lambda: watch.events("ready"), "flood-watch ready")
    [told] = watch.events("cannot start yet")
    assert re.search(HELD, told["reason"])
    flood.wait_for(lambda: watch.events("no consumer takes tasks"), "word of consumers")
    ready, missed = (
        datetime.fromisoformat(watch.events(name)[0]["time"].replace("Z", "+00:00"))
        for name in ("ready", "no consumer takes tasks")
    )
    assert missed - ready > timedelta(seconds=1)


def test_consumers_that_wait_for_the_database_are_not_to_be_started(
    flood: Flood, bucket: str
) -> None:
    watch = flood.start("watch", "-c", IMPATIENT, "--consumers", "2")
    flood.wait_for(lambda: len(watch.events("ready")) == 3, "the consumers")
    first = [each["pid"] for each in watch.events("consumer started")]
    flood.wait_for(lambda: flood.stopped_at_rest(*first), "consumers that write nothing")
    with closing(sqlite3.connect(flood.database, isolation_level=None)) as other:
        flood.drop(bucket, "key", b"data")
        flood.wait_for(lambda: flood.count(current_state="processing") == 1, "the file's intake")
        other.execute("BEGIN IMMEDIATE")
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        flood.wait_for(lambda: watch.events("no consumer takes tasks"), "word of consumers")
        assert len(watch.events("ready")) == 3

        def shown() -> str:
            return flood.run("-m", "flood.commands.status").stdout

        flood.wait_for(lambda: "flood-watch, consumers at their start" in shown(), "their start")
        assert "No consumer takes files yet: consumers have been started" in shown()
        checked = flood.run("-m", "flood.commands.check", "--json").stdout
        assert "none takes files yet, as they are at their start" in checked
        assert "none is running" not in checked
        other.execute("ROLLBACK")
    [told] = watch.events("no consumer takes tasks")
    assert "'cannot start yet'" in told["next"]
    assert "--consumers" not in told["next"]
    flood.wait_delivered()
    flood.wait_for(lambda: watch.events("consumers are back"), "word of that")


def test_a_new_database_in_the_place_of_one_that_is_gone_is_told_of(flood: Flood) -> None:
    """From cron nobody would see it otherwise."""
    ended = flood.run("-m", "flood.commands.watch", "--once")
    assert (ended.returncode, ended.stderr) == (0, "")
    for left in (None, b""):  # by a start that was killed
        for path in flood.directory.glob("flood.db*"):
            path.unlink()
        if left is not None:
            flood.database.write_bytes(left)
        ended = flood.run("-m", "flood.commands.watch", "--once")
        assert ended.returncode == 0
        assert '"made a new database"' in ended.stderr
        assert "flood-fsck --repair" in ended.stderr
    ended = flood.run("-m", "flood.commands.watch", "--once")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_what_makes_no_database_says_what_does(flood: Flood) -> None:
    ended = flood.run("-m", "flood.commands.watch", "--once")
    assert (ended.returncode, ended.stderr) == (0, "")
    elsewhere = {"FLOOD_DATABASE": str(flood.directory / "another.db")}
    programs = (
        ("huey.bin.huey_consumer", "flood.tasks.huey"),
        ("flood.commands.drain",),
        ("flood.commands.retry", "--all"),
    )
    for program in programs:
        done = flood.run("-m", *program, environ=elsewhere)
        assert done.returncode == 2
        assert f"another.db does not exist, and {flood.spool} belongs to {flood.database}" in (
            done.stderr
        )
    for path in flood.directory.glob("flood.db*"):
        path.unlink()
    for program in programs:
        done = flood.run("-m", *program)
        assert done.returncode == 2
        assert f"the database {flood.database} is gone: {models.GONE}" in done.stderr
    for name, status in (("status", 2), ("fsck", 1), ("check", 1)):
        done = flood.run("-m", f"flood.commands.{name}")
        assert done.returncode == status
        told = " ".join((done.stdout + done.stderr).split())
        assert f"{models.AWAY} Only if it is gone for good" in told, told
    assert not list(flood.directory.glob("*.db"))
    flood.start_watch()
    flood.start_consumer()


def test_the_command_that_repairs_finds_the_same_spool(flood: Flood) -> None:
    """Whoever prints it for a database that is gone."""
    assert flood.run("-m", "flood.commands.watch", "--once").returncode == 0
    for path in flood.directory.glob("flood.db*"):
        path.unlink()
    where = ("--server-directory", str(flood.spool), "--database", str(flood.database))
    repair = " ".join(("flood-fsck", "--repair", *where))
    for program in (
        ("status",),
        ("status", "--check"),
        ("status", "--json"),
        ("status", "s3://main/bucket/key"),
        ("drain",),
        ("retry", "--all"),
        ("prune",),
        ("notify", "--dry-run"),
        ("check",),
    ):
        done = flood.run("-m", f"flood.commands.{program[0]}", *program[1:], *where)
        told = " ".join((done.stdout + done.stderr).split())
        assert f"{models.AWAY} Only if it is gone for good" in told, told
        assert told.count("flood-fsck --repair") == told.count(repair) == 1, told
    # A consumer may have been given its variables in the line that has started it.
    done = flood.run("-m", "huey.bin.huey_consumer", "flood.tasks.huey")
    assert " ".join(where) in done.stderr.partition("for good: flood-fsck --repair ")[2]
    assert not list(flood.directory.glob("*.db"))
    ended = flood.run("-m", "flood.commands.fsck", "--repair", *where)
    assert ended.returncode == 0, ended.stderr


def test_all_say_the_same_of_a_spool_that_was_moved(flood: Flood, bucket: str) -> None:
    assert flood.run("-m", "flood.commands.watch", "--once").returncode == 0
    flood.drop(bucket, "key", b"data")
    assert flood.run("-m", "flood.commands.watch", "--once").returncode == 0
    moved = flood.directory / "moved"
    flood.spool.rename(moved)
    source = flood.outside("source")
    source.write_bytes(b"data")
    programs = (
        ("flood.commands.watch", "--once"),
        ("flood.commands.drain",),
        ("huey.bin.huey_consumer", "flood.tasks.huey"),
        ("flood.commands.put", str(source), f"s3://main/{bucket}/other"),
        ("flood.commands.retry", "--all"),
        ("flood.commands.prune",),
        ("flood.commands.status",),
        ("flood.commands.fsck",),
        ("flood.commands.fsck", "--repair"),
    )
    wrong = (f"there is no directory {flood.spool}", f"{flood.spool} has no .flood/spool")
    for seen in wrong:
        for program in programs:
            done = flood.run("-m", *program)
            assert done.returncode == 2, done.stderr
            assert (
                f"{seen}, but the database {flood.database} belongs to a spool: set "
                "--server-directory (FLOOD_SERVER_DIRECTORY) to where that is now; is its disk "
                "mounted? Files that wait for their upload, such as "
                f"processing/main/{bucket}/key, are not there; if they are gone for good, "
                "flood-check says how to go on without them"
            ) in done.stderr
        if not flood.spool.exists():
            flood.spool.mkdir()
    assert list(flood.spool.iterdir()) == []
    flood.spool.rmdir()
    found = {"FLOOD_SERVER_DIRECTORY": str(moved)}
    done = flood.run("-m", "flood.commands.drain", environ=found)
    assert done.returncode == 0, done.stderr
    assert (moved / "completed" / "main" / bucket / "key").exists()
    moved.rename(flood.spool)


#: Commands that look for a spool, each with its exit status where there is none.
LOOKING = (
    (("flood.commands.status",), 2),
    (("flood.commands.status", "--check"), 3),
    (("flood.commands.retry", "--all"), 2),
    (("flood.commands.prune",), 2),
    (("flood.commands.notify", "--notify-command", "true"), 2),
    (("flood.commands.notify", "--dry-run"), 2),
    (("flood.commands.fsck",), 2),
)


def test_before_the_first_start_all_say_what_comes_first(flood: Flood) -> None:
    source = flood.outside("source")
    source.touch()
    put = ("flood.commands.put", str(source), "s3://main/bucket/key")
    first = (
        f"{flood.spool} is no spool yet, or its disk is not mounted: start flood-watch on it "
        "first, or set --server-directory (FLOOD_SERVER_DIRECTORY) to the one that flood-watch uses"
    )

    def check(seen: str) -> None:
        for program, status in LOOKING:
            done = flood.run("-m", *program)
            assert done.returncode == status, done.stderr
            assert seen in done.stdout + done.stderr

    assert first in flood.run("-m", *put).stderr
    check(first)
    assert not flood.spool.exists()
    assert not flood.database.exists()
    flood.database.touch()  # whoever was to make its tables has died
    check(first)
    with closing(sqlite3.connect(flood.database)) as another:
        another.execute("CREATE TABLE letters (id)")
    check(first)
    # What cannot be read may well be of a spool, whose disk is not mounted.
    flood.database.write_bytes(b"SQLite format 3\0" + bytes(4096))
    check(f"there is no directory {flood.spool}: is its disk mounted?")
    flood.database.unlink()
    flood.start_watch()
    assert flood.run("-m", "flood.commands.status").returncode == 0


def test_an_empty_database_has_one_remedy_which_works(flood: Flood, bucket: str) -> None:
    ended = flood.run("-m", "flood.commands.watch", "--once")
    assert ended.returncode == 0
    flood.drop(bucket, "key", b"data")
    ended = flood.run("-m", "flood.commands.watch", "--once")
    assert (ended.returncode, len(flood.files("processing"))) == (0, 1)
    for path in flood.directory.glob("flood.db*"):
        path.unlink()
    flood.database.touch()
    source = flood.outside("source")
    source.write_bytes(b"data")
    for command, status in (
        (("flood.commands.status",), 2),
        (("flood.commands.fsck",), 1),
        (("flood.commands.check",), 1),
        (("flood.commands.retry", "--all"), 2),
        (("flood.commands.put", str(source), f"s3://main/{bucket}/other"), 2),
        (("huey.bin.huey_consumer", "flood.tasks.huey"), 2),
    ):
        done = flood.run("-m", *command)
        told = " ".join((done.stdout + done.stderr).split())
        assert done.returncode == status, told
        assert "flood-fsck --repair" not in told
        assert "start flood-watch first, anew if it runs: it makes the tables" in told

    flood.start_watch()
    flood.wait_for(lambda: flood.count(current_state="processing") == 1, "its record")
    done = flood.run("-m", "flood.commands.fsck")
    assert done.returncode == 0, done.stdout


HASTY = """
from flood import writers
import flood.tasks
from huey.bin.huey_consumer import consumer_main
writers.PATIENCE = 0.2
consumer_main()
"""


def test_a_consumer_waits_for_a_database_that_is_held_for_long(
    flood: Flood, server: S3Server, bucket: str
) -> None:
    """Nor does a repair have to wait for it meanwhile."""
    flood.start_watch()
    consumers = FileLock(str(flood.spool / CONSUMERS_LOCK))
    with closing(sqlite3.connect(flood.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        consumer = flood.start("consumer", "-c", HASTY, "flood.tasks.huey")
        flood.wait_for(lambda: consumer.events("cannot start yet"), "word of the wait")
        consumer.signal(signal.SIGHUP)
        flood.wait_for(consumers.try_exclusive, "the consumers' lock")
        consumers.release()
        other.execute("ROLLBACK")
    flood.drop(bucket, "key", b"data")
    flood.wait_delivered()
    [told] = consumer.events("cannot start yet")
    assert re.search(HELD, told["reason"])
    check_promises(flood, server)


def test_once_does_not_wait_for_a_database_that_is_held_for_long(flood: Flood) -> None:
    watch = flood.start_watch()
    watch.signal(signal.SIGTERM)
    assert watch.wait() == 0
    with closing(sqlite3.connect(flood.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        ended = flood.run("-c", IMPATIENT, "--once")
    assert ended.returncode == 75
    assert re.search(HELD, ended.stderr)


def test_another_programs_database_stays_its_own(flood: Flood) -> None:
    other = flood.directory / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE mails (id INTEGER)")
        connection.commit()
    before = other.read_bytes()
    for command in (
        ("flood.commands.watch",),
        ("huey.bin.huey_consumer", "flood.tasks.huey"),
        ("flood.commands.put", "credentials", "s3://main/bucket/key"),
    ):
        if "put" in command[0]:
            flood.start_watch()  # else it is no spool yet
        ended = flood.run("-m", *command, environ={"FLOOD_DATABASE": str(other)})
        assert ended.returncode == 2, ended
        assert f"{other} is another program's database, with tables such as mails" in ended.stderr
    assert other.read_bytes() == before
    assert [path.name for path in flood.directory.glob("other.db*")] == ["other.db"]


@pytest.mark.parametrize(
    ("lock", "command"),
    [
        ("put.lock", ("flood.commands.watch",)),
        ("put.lock", ("flood.commands.put", __file__, "s3://main/bucket/key")),
        ("consumers.lock", ("huey.bin.huey_consumer", "flood.tasks.huey")),
    ],
)
def test_a_lock_of_another_users_is_named(
    make_flood: MakeFlood, server: S3Server, lock: str, command: tuple[str, ...]
) -> None:
    flood = make_flood(credentials(("main", server.url)), prefix=without_roots_rights())
    flood.start_watch().kill()
    path = flood.spool / ".flood" / lock
    path.touch()
    path.chmod(0o000)
    ended = flood.run("-m", *command)
    assert ended.returncode == 2, ended
    last = ended.stderr.splitlines()[-1]
    assert f"{path}: Permission denied; give this user write access to it" in last
    assert "database" not in last


def test_a_damaged_schema_is_told_by_every_program(flood: Flood) -> None:
    watch = flood.start_watch()
    watch.signal(signal.SIGTERM)
    watch.wait()
    garble(flood.database)
    source = flood.outside("source")
    source.write_bytes(b"data")
    for command, status in (
        (("flood.commands.watch",), 2),
        (("flood.commands.put", str(source), "s3://main/bucket/key"), 2),
        (("huey.bin.huey_consumer", "flood.tasks.huey"), 2),
        (("flood.commands.fsck",), 1),
    ):
        done = flood.run("-m", *command)
        told = done.stdout + done.stderr
        assert done.returncode == status, told
        assert "malformed" in told
        assert "Traceback" not in told
    assert flood.run("-m", "flood.commands.fsck", "--repair").returncode == 0
    assert list(flood.database.parent.glob(f"{flood.database.name}.broken-*"))


def test_what_stands_in_one_buckets_way_holds_up_no_other(flood: Flood) -> None:
    (flood.spool / "completed/main/known").mkdir(parents=True)
    (flood.spool / "incoming/main").mkdir(parents=True)
    (flood.spool / "incoming/main/known").write_bytes(b"a file where a bucket belongs")
    flood.drop("good", "key", b"data")
    watch = flood.start_watch()
    flood.wait_for(lambda: flood.count() == 1, "the other bucket's file")
    [left] = [line for line in watch.events("left alone") if "cannot be made" in line["reason"]]
    assert left["path"] == "incoming/main/known"
    assert (flood.spool / "incoming/main/known").is_file()


@pytest.mark.parametrize("obstacle", ["locked", "file", "link"])
def test_a_server_directory_that_cannot_be_used_is_named(
    make_flood: MakeFlood, obstacle: str
) -> None:
    flood = make_flood(credentials(("main", "http://127.0.0.1:9")), prefix=without_roots_rights())
    flood.spool.mkdir()
    if obstacle == "file":
        (flood.spool / ".flood").touch()
    elif obstacle == "link":
        (flood.spool / ".flood").symlink_to(flood.directory)
    else:
        flood.spool.chmod(0o555)
    ended = flood.run("-m", "flood.commands.watch", environ={"FLOOD_LOG_FORMAT": "text"})
    assert ended.returncode == 2, ended.stderr
    assert str(flood.spool) in ended.stderr.splitlines()[-1]
    assert not flood.database.exists()
